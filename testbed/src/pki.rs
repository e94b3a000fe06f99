//! Owns certificate authorities and the keys made from them, fresh for each run. [`crate::Cluster`] has one, and suites make those of
//! servers and clients that speak TLS.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority and the directory that its files go to.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Without its key.
impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Whom a certificate names: in Kubernetes the common name is the user and the organization the group.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The common name.
    pub user: &'a str,
    /// The organization.
    pub group: Option<&'a str>,
    /// Names and addresses that a server of this certificate is reached by.
    pub addresses: &'a [&'a str],
    /// Whether the certificate is still good.
    pub term: Term,
}

/// The time of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Longer than any run.
    Current,
    /// Over for years.
    Over,
}

impl Authority {
    /// Makes the authority with this common name and writes `ca.crt`.
    pub fn new(dir: &Path, name: &str) -> Result<Authority> {
        fs::create_dir_all(dir)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        fs::write(dir.join("ca.crt"), params.self_signed(&key)?.pem())?;
        Ok(Authority {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Writes `<name>.crt` and `<name>.key`, good for servers and clients.
    pub fn issue(&self, name: &str, subject: &Subject<'_>) -> Result<()> {
        let names: Vec<String> = subject
            .addresses
            .iter()
            .copied()
            .map(str::to_owned)
            .collect();
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        if subject.term == Term::Over {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(self.file(name, "crt"), certificate.pem())?;
        fs::write(self.file(name, "key"), key.serialize_pem())?;
        Ok(())
    }

    /// Writes `<name>.key` and `<name>.pub`: what service account tokens are signed and checked with.
    pub(crate) fn signing_key(&self, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        fs::write(self.file(name, "key"), key.serialize_pem())?;
        fs::write(self.file(name, "pub"), key.public_key_pem())?;
        Ok(())
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{name}.{kind}"))
    }
}
