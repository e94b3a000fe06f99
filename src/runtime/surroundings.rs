//! What compiles get beside their order, so that compilers reach their packages: certificates to trust, and
//! proxies; and whether what they keep is brought from one to the next. Addresses of proxies may hold passwords. `serve` reads it once; the runtimes put it into the
//! containers of compiles, each in its own way.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::compile_agent::TRUST;
use crate::config::{Compile, Proxy};
use crate::names::{Digest, Hasher};

/// The file of certificates in [`TRUST`].
pub(super) const BUNDLE: &str = "ca-bundle.pem";
/// A Secret holds 1 MiB; all certificates of a browser are a quarter of that.
const MOST: usize = 512 << 10;

/// Variables that name a file of certificates, each for another tool: Go and OpenSSL, Node.js, git, curl.
const TRUST_VARIABLES: [&str; 4] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
];

/// Why `compile.caBundle` cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("compile.caBundle {path}: {reason}; name a file of PEM certificates")]
pub struct BundleError {
    /// The file.
    path: PathBuf,
    /// What is wrong with it, never its content.
    reason: String,
}

/// The default is nothing. `Debug` shows neither certificates nor passwords.
#[derive(Clone, Default)]
pub struct Surroundings {
    bundle: Option<String>,
    proxy: Proxy,
    /// What is reached without a proxy, as the variables have it.
    direct: String,
    caches: Caches,
}

/// What becomes of what compilers keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Caches {
    /// The next compile finds it.
    #[default]
    Kept,
    /// It goes with the container.
    Lost,
}

impl Surroundings {
    /// Reads the file of certificates. `delivery_address` is reached without a proxy, whatever the section says.
    ///
    /// # Errors
    /// [`BundleError`] when the file cannot be read, holds anything but certificates, or is too large.
    pub fn read(section: &Compile, delivery_address: &str) -> Result<Self, BundleError> {
        let bundle = section.ca_bundle.as_deref().map(read_bundle).transpose()?;
        let host = delivery_address.parse::<http::Uri>().ok();
        let host = host.as_ref().and_then(http::Uri::host);
        // In a URL an IPv6 address has brackets, in these variables it has none.
        let host = host.map(|host| host.trim_matches(['[', ']']).to_owned());
        let direct: Vec<String> = host.into_iter().chain(section.proxy.no.clone()).collect();
        Ok(Self {
            bundle,
            proxy: section.proxy.clone(),
            direct: direct.join(","),
            caches: match section.cache.enabled {
                true => Caches::Kept,
                false => Caches::Lost,
            },
        })
    }

    /// What becomes of what compilers keep, where their builder is known. A result does not depend on it.
    pub(super) fn caches(&self) -> Caches {
        self.caches
    }

    /// The certificates as PEM, where there are some: the content of [`BUNDLE`].
    pub(super) fn bundle(&self) -> Option<&str> {
        self.bundle.as_deref()
    }

    /// Variables that hold no secret.
    pub(super) fn plain_variables(&self) -> Vec<(&'static str, String)> {
        let trust = TRUST_VARIABLES.map(|name| (name, format!("{TRUST}/{BUNDLE}")));
        let direct = ["NO_PROXY", "no_proxy"].map(|name| (name, self.direct.clone()));
        let trust = self.bundle.iter().flat_map(|_| trust.clone());
        let direct = (!self.proxy.is_empty()).then_some(direct);
        trust.chain(direct.into_iter().flatten()).collect()
    }

    /// The proxies that are set.
    pub(super) fn proxies(&self) -> Vec<NamedProxy<'_>> {
        let Proxy { http, https, .. } = &self.proxy;
        let known = [
            ("http-proxy", ["HTTP_PROXY", "http_proxy"], http),
            ("https-proxy", ["HTTPS_PROXY", "https_proxy"], https),
        ];
        known
            .into_iter()
            .filter(|(_, _, address)| !address.is_empty())
            .map(|(key, variables, address)| NamedProxy {
                key,
                variables,
                address,
            })
            .collect()
    }

    /// Digest of all of it; `None` for nothing. A result may depend on it (design D7).
    pub fn digest(&self) -> Option<Digest> {
        if self.bundle.is_none() && self.proxy.is_empty() {
            return None;
        }
        let mut hasher = Hasher::default();
        let bundle = self.bundle.as_deref().unwrap_or_default();
        for part in [bundle, &self.proxy.http, &self.proxy.https, &self.direct] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Some(hasher.finish())
    }
}

/// A proxy; no `Debug`: the address may hold a password.
pub(super) struct NamedProxy<'a> {
    /// What its address is called where secrets are kept by name.
    pub(super) key: &'static str,
    /// Its variables. Tools know them in capitals, in small letters, or both.
    pub(super) variables: [&'static str; 2],
    /// `http://host:port`, also with user and password.
    pub(super) address: &'a str,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("bundle", &self.bundle.as_ref().map(String::len))
            .field("proxy", &self.proxy)
            .field("direct", &self.direct)
            .field("caches", &self.caches)
            .finish()
    }
}

fn read_bundle(path: &Path) -> Result<String, BundleError> {
    let refused = |reason: String| BundleError {
        path: path.to_owned(),
        reason,
    };
    let bytes = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    if bytes.len() > MOST {
        let reason = format!("{} bytes, the limit is {MOST}", bytes.len());
        return Err(refused(reason));
    }
    let text = String::from_utf8(bytes).map_err(|_| refused("not text".to_owned()))?;
    if text.contains("PRIVATE KEY") {
        // It would be readable in every compile.
        return Err(refused("holds a private key".to_owned()));
    }
    let mut certificates = 0;
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        certificate.map_err(|error| refused(error.to_string()))?;
        certificates += 1;
    }
    if certificates == 0 {
        return Err(refused("holds no certificate".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

    fn section(bundle: &str) -> (tempfile::NamedTempFile, Compile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bundle).unwrap();
        let section = Compile {
            ca_bundle: Some(file.path().to_owned()),
            ..Compile::default()
        };
        (file, section)
    }

    #[test]
    fn a_bundle_of_certificates_only_is_taken() {
        let (_file, good) = section(&CERTIFICATE.repeat(2));
        let good = Surroundings::read(&good, "https://peitho:8081").unwrap();
        assert!(good.bundle().is_some() && good.proxies().is_empty());
        assert_eq!(good.plain_variables().len(), TRUST_VARIABLES.len());
        let missing = Compile {
            ca_bundle: Some(PathBuf::from("/nowhere/ca.pem")),
            ..Compile::default()
        };
        let error = Surroundings::read(&missing, "x").unwrap_err().to_string();
        assert!(error.starts_with("compile.caBundle /nowhere/ca.pem: No such file"));
        let key = "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n";
        for (text, reason) in [
            (String::new(), "holds no certificate"),
            ("hello\n".to_owned(), "holds no certificate"),
            (format!("{CERTIFICATE}{key}"), "holds a private key"),
            (CERTIFICATE.repeat(MOST / 50), "the limit is"),
        ] {
            let (_file, section) = section(&text);
            let error = Surroundings::read(&section, "x").unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.starts_with("compile.caBundle /") && !error.contains("SECRET"));
        }
    }

    #[test]
    fn the_digest_tells_apart_and_nothing_has_none() {
        let with = |http: &str, no: &[&str]| {
            let section = Compile {
                proxy: Proxy {
                    http: http.to_owned(),
                    no: no.iter().map(|host| (*host).to_owned()).collect(),
                    ..Proxy::default()
                },
                ..Compile::default()
            };
            let read = Surroundings::read(&section, "https://[fd00::1]:8081").unwrap();
            assert!(!format!("{read:?}").contains("secret"));
            read
        };
        assert_eq!(with("", &[]).digest(), None);
        let digests = [
            with("http://a", &[]).digest(),
            with("http://me:secret@a", &[]).digest(),
            with("http://a", &["b"]).digest(),
        ];
        assert!(digests[0] != digests[1] && digests[0] != digests[2] && digests[0].is_some());
        assert!(
            with("http://a", &["b"])
                .plain_variables()
                .contains(&("NO_PROXY", "fd00::1,b".to_owned()))
        );
    }
}
