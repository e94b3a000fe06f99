//! TLS of a listener: a configuration that is made once, or files that are read again when they change. Connections that
//! are open keep what they began with. `listener` takes each handshake's terms from here; who a client is comes out
//! of `clients`.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio::sync::watch;

mod clients;
mod files;
mod reload;

use clients::Clients;
pub use clients::{ClientIdentity, ClientRule};
pub(super) use clients::{Examiner, Outcome};
pub use files::Error;
pub use reload::{Expiry, Reloading};

/// Where the files of a listener's TLS are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub certificate: KeyedFile,
    /// Its key.
    pub key: KeyedFile,
    /// Whose clients are let in: those that one of the rules knows. Without rules, nobody is asked who he is.
    pub clients: Vec<ClientAuthority>,
}

/// A file in PEM, with the key of the configuration that names it.
#[derive(Clone, Debug)]
pub struct KeyedFile {
    /// `listen.tls.certificateFile`.
    pub key: String,
    /// The file.
    pub path: PathBuf,
}

/// Certificate authorities of clients, and what their clients may do.
#[derive(Clone, Debug)]
pub struct ClientAuthority {
    /// Their certificates.
    pub file: KeyedFile,
    /// For their clients.
    pub rule: ClientRule,
}

/// TLS of a listener; clones follow the same files.
#[derive(Clone, Debug)]
pub struct Tls(watch::Receiver<Arc<Terms>>);

/// What a handshake begins with.
#[derive(Debug)]
enum Terms {
    /// The same for every client.
    Open(Arc<ServerConfig>),
    /// Clients have to say who they are.
    Mutual {
        certificate: Arc<SingleCertAndKey>,
        clients: Arc<Clients>,
    },
}

/// The terms of one handshake.
pub(super) struct Handshake {
    pub(super) config: Arc<ServerConfig>,
    /// Where it learns who the client is; `None` where nobody is asked.
    pub(super) examiner: Option<Arc<Examiner>>,
}

impl From<Arc<ServerConfig>> for Tls {
    /// TLS that stays as it is.
    fn from(config: Arc<ServerConfig>) -> Self {
        Self(watch::channel(Arc::new(Terms::Open(config))).1)
    }
}

impl Tls {
    /// TLS by `files`, and what has to run for it to follow them.
    ///
    /// # Errors
    /// When a file cannot serve, by its key.
    pub fn of_files(files: TlsFiles) -> Result<(Self, Reloading), Error> {
        let (terms, reloading) = Reloading::start(files)?;
        Ok((Self(terms), reloading))
    }

    /// Whether clients have to say who they are.
    pub fn asks_clients(&self) -> bool {
        matches!(**self.0.borrow(), Terms::Mutual { .. })
    }

    /// The terms of a handshake that begins now.
    pub(super) fn handshake(&self) -> Result<Handshake, rustls::Error> {
        let terms = Arc::clone(&self.0.borrow());
        match &*terms {
            Terms::Open(config) => Ok(Handshake {
                config: Arc::clone(config),
                examiner: None,
            }),
            Terms::Mutual {
                certificate,
                clients,
            } => {
                // Of its own for each connection, which is how it tells who came.
                let examiner = Arc::new(Examiner::new(Arc::clone(clients)));
                let verifier = Arc::clone(&examiner);
                let mut config = ServerConfig::builder_with_provider(provider())
                    .with_safe_default_protocol_versions()?
                    .with_client_cert_verifier(verifier)
                    .with_cert_resolver(Arc::clone(certificate) as _);
                prepare(&mut config);
                // A resumed session would let in who was known once: each one shows its certificate.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
                Ok(Handshake {
                    config: Arc::new(config),
                    examiner: Some(examiner),
                })
            }
        }
    }
}

/// Peers' clients offer no protocol; who offers HTTP/2 beside HTTP/1.1, as curl does, gets the latter.
fn prepare(config: &mut ServerConfig) {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
