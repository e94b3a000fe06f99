//! What makes one Peitho: the key of its tokens, and the certificate authority of its delivery listener (design D16).
//! It is made once and outlives restarts, so that tokens and certificates hold: in Kubernetes it lies in a Secret that
//! all replicas share (`kubernetes/instance`), on a machine of its own in a file beside the store.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use serde::{Deserialize, Serialize};

use crate::names::InstanceName;

const YEARS: i64 = 10;

/// What all replicas of one instance share. `Debug` shows no key.
#[derive(Debug)]
pub struct InstanceMaterial {
    /// The key of [`crate::grant::Grants`].
    pub token_key: SecretBox<[u8; 32]>,
    /// The delivery CA's certificate, PEM.
    pub ca_cert_pem: String,
    /// The delivery CA's private key, PEM (PKCS#8, ECDSA P-256).
    pub ca_key_pem: SecretString,
}

/// Why the file does not serve.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was written there.
    #[error(
        "{path} is damaged: {reason}; delete it and start again, which makes a new one",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, never its content.
        reason: String,
    },
    /// No certificate authority could be made.
    #[error("making the delivery certificate authority: {0}")]
    Generate(#[from] rcgen::Error),
}

/// The file's form; `Text` is text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document<Text> {
    /// In base64.
    token_key: Text,
    delivery_ca_certificate: String,
    delivery_ca_key: Text,
}

impl InstanceMaterial {
    /// New material for `instance`.
    ///
    /// # Errors
    /// When the cryptographic library cannot make a key or a certificate.
    pub fn generate(instance: &InstanceName) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let now = time::OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{instance} delivery"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Clocks of nodes may be behind.
        params.not_before = now - time::Duration::hours(1);
        params.not_after = now + time::Duration::days(365 * YEARS);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            token_key: SecretBox::new(Box::new(rand::random())),
            ca_cert_pem: certificate.pem(),
            ca_key_pem: key.serialize_pem().into(),
        })
    }

    /// Reads the material from the file `path`, or makes it there, readable by this user only: of several processes that
    /// start at once one makes it. Blocks.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn of_file(path: &Path, instance: &InstanceName) -> Result<Self, FileError> {
        if let Some(found) = Self::in_file(path)? {
            return Ok(found);
        }
        let failed = |source| FileError::Io {
            path: path.to_owned(),
            source,
        };
        let made = Self::generate(instance)?;
        match made.write(path) {
            Ok(()) => Ok(made),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let bytes = fs::read(path).map_err(failed)?;
                Self::parse(path, Zeroizing::new(bytes))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads the material from the file `path`, `None` where there is no such file. Blocks.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn in_file(path: &Path) -> Result<Option<Self>, FileError> {
        match fs::read(path) {
            Ok(bytes) => Self::parse(path, Zeroizing::new(bytes)).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Self, FileError> {
        let damaged = |reason: String| FileError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let document: Document<SecretString> = serde_json::from_slice(&bytes).map_err(|error| {
            damaged(format!(
                "line {} column {} is not as it was written",
                error.line(),
                error.column()
            ))
        })?;
        let key = STANDARD.decode(document.token_key.expose_secret());
        let key = Zeroizing::new(key.unwrap_or_default());
        let key = <[u8; 32]>::try_from(key.as_slice())
            .map_err(|_| damaged("tokenKey is not 32 bytes in base64".to_owned()))?;
        Ok(Self {
            token_key: SecretBox::new(Box::new(key)),
            ca_cert_pem: document.delivery_ca_certificate,
            ca_key_pem: document.delivery_ca_key,
        })
    }

    /// Durable when this returns; `AlreadyExists` when another was quicker.
    fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let token_key = Zeroizing::new(STANDARD.encode(self.token_key.expose_secret()));
        let document = Document {
            token_key: token_key.as_str(),
            delivery_ca_certificate: self.ca_cert_pem.clone(),
            delivery_ca_key: self.ca_key_pem.expose_secret(),
        };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&document)?);
        let mut file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(directory)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_signs_and_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instance.json");
        let made = InstanceMaterial::of_file(&path, &InstanceName::default()).unwrap();
        let again = InstanceMaterial::of_file(&path, &InstanceName::default()).unwrap();
        assert_eq!(
            made.token_key.expose_secret(),
            again.token_key.expose_secret()
        );
        assert_eq!(made.ca_cert_pem, again.ca_cert_pem);
        let key = KeyPair::from_pem(again.ca_key_pem.expose_secret()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&again.ca_cert_pem, key).unwrap();
        let leaf = KeyPair::generate().unwrap();
        CertificateParams::new(vec!["peitho".to_owned()])
            .unwrap()
            .signed_by(&leaf, &issuer)
            .unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{again:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn a_damaged_file_is_told_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instance.json");
        InstanceMaterial::of_file(&path, &InstanceName::default()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            text[..text.len() / 2].to_owned(),
            text.replacen("\": \"", "\": \"!", 1),
        ] {
            fs::write(&path, damaged).unwrap();
            let error = InstanceMaterial::of_file(&path, &InstanceName::default()).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("is damaged") && error.contains("delete it"),
                "{error}"
            );
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }

    #[test]
    fn of_many_starts_at_once_one_makes_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instance.json");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let start = || InstanceMaterial::of_file(&path, &InstanceName::default()).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let first = keys[0].token_key.expose_secret();
        assert!(keys.iter().all(|it| it.token_key.expose_secret() == first));
    }
}
