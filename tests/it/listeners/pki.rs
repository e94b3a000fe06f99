//! Certificate authorities and certificates for one test, and a client that shows them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use peitho::config::Pattern;
use peitho::listener::Speech;
use peitho::listener::tls::{ClientAuthority, ClientRule, KeyedFile, Reloading, Tls, TlsFiles};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub(crate) pem: String,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

/// When a certificate is valid, in days from now.
pub(crate) const VALID: (i64, i64) = (-1, 100);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.distinguished_name.push(DnType::CommonName, name);
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(parameters, key),
        }
    }

    /// A peer's certificate, as Fabric's tools make them: for both ends of a connection.
    pub(crate) fn peer(&self, name: &str, valid: (i64, i64)) -> Leaf {
        let both = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.leaf(name, valid, both)
    }

    pub(crate) fn server(&self, name: &str) -> Leaf {
        self.leaf(name, VALID, vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    fn leaf(&self, name: &str, valid: (i64, i64), usages: Vec<ExtendedKeyUsagePurpose>) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let hosts = [name.to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = CertificateParams::new(hosts).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        let now = OffsetDateTime::now_utc();
        parameters.not_before = now + Duration::days(valid.0);
        parameters.not_after = now + Duration::days(valid.1);
        parameters.extended_key_usages = usages;
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }
}

/// The files of a server in a directory of its own.
pub(crate) struct Files {
    pub(crate) directory: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new(server: &Leaf) -> Self {
        let this = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        this.write("tls.crt", &server.pem);
        this.write("tls.key", &server.key.serialize_pem());
        this
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// TLS by these files, with the clients of `authorities`.
    pub(crate) fn tls(&self, authorities: &[(&Authority, ClientRule)]) -> (Speech, Reloading) {
        let clients = authorities.iter().enumerate().map(|(index, (it, rule))| {
            let path = self.write(&format!("ca{index}.crt"), &it.pem);
            ClientAuthority {
                file: keyed("listen.tls.clientCaFile", &path),
                rule: rule.clone(),
            }
        });
        let files = TlsFiles {
            clients: clients.collect(),
            ..files(self.directory.path())
        };
        let (tls, reloading) = Tls::of_files(files).unwrap();
        let speech = Speech {
            tls: Some(tls),
            advice: "use TLS",
            ..Speech::default()
        };
        (speech, reloading)
    }
}

/// `tls.crt` and `tls.key` in `directory`.
pub(crate) fn files(directory: &Path) -> TlsFiles {
    TlsFiles {
        certificate: keyed("listen.tls.certificateFile", &directory.join("tls.crt")),
        key: keyed("listen.tls.keyFile", &directory.join("tls.key")),
        clients: Vec::new(),
    }
}

fn keyed(key: &str, path: &Path) -> KeyedFile {
    KeyedFile {
        key: key.to_owned(),
        path: path.to_owned(),
    }
}

/// Clients for these tenants, narrowed by names where there are any.
pub(crate) fn rule(tenants: &[&str], subjects: &[&str]) -> ClientRule {
    ClientRule {
        tenants: tenants.iter().map(|it| it.parse().unwrap()).collect(),
        subjects: subjects.iter().map(|it| Pattern::from(*it)).collect(),
    }
}

/// What a client trusts, shows and speaks.
pub(crate) struct TlsClient(TlsConnector);

impl TlsClient {
    /// One that trusts `server` and shows `leaf`.
    pub(crate) fn new(server: &Authority, leaf: Option<&Leaf>) -> Self {
        Self::speaking(server, leaf, rustls::DEFAULT_VERSIONS)
    }

    pub(crate) fn speaking(
        server: &Authority,
        leaf: Option<&Leaf>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(server.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match leaf {
            Some(leaf) => {
                let key = PrivatePkcs8KeyDer::from(leaf.key.serialize_der());
                let chain = vec![leaf.certificate.clone()];
                let key = PrivateKeyDer::Pkcs8(key);
                config.with_client_auth_cert(chain, key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        Self(TlsConnector::from(Arc::new(config)))
    }

    pub(crate) async fn connect(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        self.0.connect(name, tcp).await
    }
}
