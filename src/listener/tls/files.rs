//! The files of a listener's TLS: read, checked, and told by key when one cannot serve.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use secrecy::{ExposeSecret as _, SecretBox};

use super::super::certificate::Description;
use super::clients::{Authority, Clients};
use super::{KeyedFile, Terms, TlsFiles, prepare, provider};
use crate::inotify_limit;

/// A certificate with its chain is some kilobytes, all authorities of a network some more.
const LONGEST: u64 = 1 << 20;

/// A file cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of them, by its key.
    #[error("{key}: {}: {reason}", path.display())]
    File {
        /// Of the configuration.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// Changes of the files cannot be watched.
    #[error("the files of listen.tls cannot be watched: {0}{advice}", advice = inotify_limit::advice(.0))]
    Watch(#[source] std::io::Error),
}

/// All files as they are now. They are equal when nothing changed.
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: SecretBox<Vec<u8>>,
    clients: Vec<Vec<u8>>,
}

/// What the files say.
pub(super) struct Loaded {
    pub(super) terms: Terms,
    pub(super) certificate: Description,
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
            && self.key.expose_secret() == other.key.expose_secret()
            && self.clients == other.clients
    }
}

impl Contents {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, Error> {
        let clients = files.clients.iter().map(|it| read(&it.file));
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: SecretBox::new(Box::new(read(&files.key)?)),
            clients: clients.collect::<Result<_, _>>()?,
        })
    }

    /// What they say, `files` being where they come from.
    pub(super) fn load(&self, files: &TlsFiles) -> Result<Loaded, Error> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let certificate = Description::of(&chain[0])
            .ok_or_else(|| wrong(&files.certificate, "its first certificate cannot be read"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret()).map_err(|error| {
            let reason = format!("no private key in PEM is in it ({error})");
            wrong(&files.key, &reason)
        })?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(_) => {
                    let certificate = files.certificate.path.display();
                    format!("the key is not that of the certificate in {certificate}")
                }
                other => other.to_string(),
            };
            wrong(&files.key, &reason)
        })?;
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let authorities = files.clients.iter().zip(&self.clients);
        let authorities = authorities.map(|(it, content)| {
            let certificates = certificates(&it.file, content)?;
            Authority::new(it.file.key.clone(), it.rule.clone(), certificates)
                .map_err(|error| wrong(&it.file, &error.to_string()))
        });
        let terms = match Clients::new(authorities.collect::<Result<_, _>>()?) {
            Some(clients) => Terms::Mutual {
                certificate: certified,
                clients: Arc::new(clients),
            },
            None => {
                let mut config = ServerConfig::builder_with_provider(provider())
                    .with_safe_default_protocol_versions()
                    .map_err(|error| wrong(&files.certificate, &error.to_string()))?
                    .with_no_client_auth()
                    .with_cert_resolver(certified);
                prepare(&mut config);
                Terms::Open(Arc::new(config))
            }
        };
        Ok(Loaded { terms, certificate })
    }
}

fn read(file: &KeyedFile) -> Result<Vec<u8>, Error> {
    let length = std::fs::metadata(&file.path).map(|found| found.len());
    let length = length.map_err(|error| wrong(file, &error.to_string()))?;
    if length > LONGEST {
        let reason = format!("{length} bytes are more than a file of certificates has");
        return Err(wrong(file, &reason));
    }
    std::fs::read(&file.path).map_err(|error| wrong(file, &error.to_string()))
}

fn certificates(file: &KeyedFile, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| wrong(file, &format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong(file, "no certificate in PEM is in it"));
    }
    Ok(found)
}

fn wrong(file: &KeyedFile, reason: &str) -> Error {
    Error::File {
        key: file.key.clone(),
        path: file.path.clone(),
        reason: reason.to_owned(),
    }
}
