//! The ways to reach an engine: each in front of the real one, which listens on TCP.

use std::path::Path;
use std::sync::Arc;

use peitho::config;
use peitho::runtime::docker::Docker;
use peitho::runtime::{Error, Runtime};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::Case;
use crate::conformance::subject::{Order, Subject as _, soon};
use crate::engine::{Engine, grants, settings};

pub(crate) const ALL: &[(&str, Case)] = &[
    ("an engine is reached by its socket", |engine| {
        Box::pin(socket(engine))
    }),
    (
        "an engine is reached by TLS, with a certificate",
        |engine| Box::pin(tls(engine)),
    ),
    (
        "an engine that shows a stranger's certificate is refused",
        |engine| Box::pin(stranger(engine)),
    ),
    ("who shows no certificate is told", |engine| {
        Box::pin(without_certificate(engine))
    }),
];

async fn connected(engine: &Engine, section: &config::Docker) -> Result<Arc<Docker>, Error> {
    let (settings, store) = (settings("peitho-test"), engine.store().clone());
    let connecting = Docker::connect(section, settings, store, grants());
    let patience = std::time::Duration::from_secs(90);
    tokio::time::timeout(patience, connecting).await.unwrap()
}

/// Hands on what comes by `stream` to the engine, and back.
async fn bridge<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, endpoint: String) {
    let address = endpoint.strip_prefix("tcp://").unwrap();
    let mut engine = TcpStream::connect(address).await.unwrap();
    let _ = copy_bidirectional(&mut stream, &mut engine).await;
}

async fn runs_something(engine: &Engine, runtime: &Arc<Docker>) {
    let order = Order::script(engine, "answer; exit 3")
        .await
        .launched(runtime)
        .await;
    assert_eq!(order.output(&**runtime).await, "the answer is 42\n");
    assert_eq!(order.exit(&**runtime).await, 3);
    order.removed(&**runtime).await;
    soon(runtime.ready()).await.unwrap();
}

async fn socket(engine: &Engine) {
    let path = engine.directory.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let endpoint = engine.section.endpoint.clone();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(bridge(stream, endpoint.clone()));
        }
    });
    let section = config::Docker {
        endpoint: format!("unix://{}", path.display()),
        ..config::Docker::default()
    };
    let runtime = connected(engine, &section).await.unwrap();
    runs_something(engine, &runtime).await;
    serving.abort();
}

/// A CA with a certificate for the engine and one for Peitho, as files.
struct Authority {
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let ca = parameters.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
        let issuer = Issuer::new(parameters, key);
        for (name, purpose) in [
            ("server", ExtendedKeyUsagePurpose::ServerAuth),
            ("client", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let mut parameters = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
            parameters.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().unwrap();
            let certificate = parameters.signed_by(&key, &issuer).unwrap();
            let file = |kind: &str| directory.path().join(format!("{name}-{kind}.pem"));
            std::fs::write(file("cert"), certificate.pem()).unwrap();
            std::fs::write(file("key"), key.serialize_pem()).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// As `dockerd --tlsverify` listens: the port.
    async fn serve(&self, engine: &Engine) -> u16 {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.path("ca.pem"))).unwrap();
        let verifier = WebPkiClientVerifier::builder(roots.into()).build().unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("server-key.pem")).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate(&self.path("server-cert.pem"))], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = engine.section.endpoint.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, endpoint) = (acceptor.clone(), endpoint.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        bridge(stream, endpoint).await;
                    }
                });
            }
        });
        port
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

async fn tls(engine: &Engine) {
    let authority = Authority::new();
    let port = authority.serve(engine).await;
    let section = config::Docker {
        endpoint: format!("tcp://127.0.0.1:{port}"),
        tls: config::DockerTls {
            ca: Some(authority.path("ca.pem")),
            cert: Some(authority.path("client-cert.pem")),
            key: Some(authority.path("client-key.pem")),
        },
    };
    let runtime = connected(engine, &section).await.unwrap();
    runs_something(engine, &runtime).await;
    // Files that cannot serve are told before anything is asked.
    let mut wrong = section.clone();
    wrong.tls.key = Some(authority.path("server-key.pem"));
    let error = connected(engine, &wrong).await.err().unwrap().to_string();
    assert!(error.starts_with("docker.tls.cert "), "{error}");
    wrong.tls.key = Some(authority.path("nowhere.pem"));
    let error = connected(engine, &wrong).await.err().unwrap().to_string();
    assert!(
        error.starts_with("docker.tls.key ") && error.contains("nowhere.pem"),
        "{error}"
    );
}

async fn stranger(engine: &Engine) {
    let (authority, other) = (Authority::new(), Authority::new());
    let port = other.serve(engine).await;
    let section = config::Docker {
        endpoint: format!("tcp://127.0.0.1:{port}"),
        tls: config::DockerTls {
            ca: Some(authority.path("ca.pem")),
            ..config::DockerTls::default()
        },
    };
    let error = connected(engine, &section).await.err().unwrap();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

async fn without_certificate(engine: &Engine) {
    let authority = Authority::new();
    let port = authority.serve(engine).await;
    let section = config::Docker {
        endpoint: format!("tcp://127.0.0.1:{port}"),
        tls: config::DockerTls {
            ca: Some(authority.path("ca.pem")),
            ..config::DockerTls::default()
        },
    };
    let error = connected(engine, &section).await.err().unwrap().to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
}
