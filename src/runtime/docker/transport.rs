//! How requests reach the engine: a unix socket, TCP, or TCP with TLS by rustls. `connect` makes one transport; what is
//! said on it is bollard's.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::BollardRequest;
use http::Uri;
use http::uri::Authority;
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::UnixStream;

use crate::config::{self, DockerAddress, DockerTls};
use crate::runtime::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The stream of events is silent while nothing happens: this finds out that its other end is gone.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// For bollard, which has one bound for all requests: ours are in `request`.
const NO_BOUND_SECONDS: u64 = 24 * 3600;

type Answer =
    Pin<Box<dyn Future<Output = Result<Response<Incoming>, bollard::errors::Error>> + Send>>;

/// A client for the engine of `section`. Nothing is asked yet.
///
/// # Errors
/// [`Error::Refused`] when the endpoint is none, or a file of TLS cannot serve.
pub(super) fn client(section: &config::Docker) -> Result<bollard::Docker, Error> {
    let address = section.address().ok_or_else(|| {
        refused("docker.endpoint is neither unix:///path/to/docker.sock nor tcp://host:port")
    })?;
    match (address, &section.tls.ca) {
        (DockerAddress::Unix(path), _) => {
            let path: Arc<Path> = path.into();
            let connector = tower::service_fn(move |_: Uri| {
                let path = Arc::clone(&path);
                Box::pin(async move { UnixStream::connect(&*path).await.map(TokioIo::new) })
            });
            // The host is a word for the request's `Host` only.
            over(connector, "http://docker")
        }
        (DockerAddress::Tcp(authority), None) => over(tcp(), &format!("http://{authority}")),
        (DockerAddress::Tcp(authority), Some(ca)) => tls(&authority, ca, &section.tls),
    }
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_nodelay(true);
    // TLS is laid over it.
    tcp.enforce_http(false);
    tcp
}

fn tls(authority: &Authority, ca: &Path, files: &DockerTls) -> Result<bollard::Docker, Error> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates("docker.tls.ca", ca)? {
        roots
            .add(certificate)
            .map_err(|error| bad_file("docker.tls.ca", ca, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has all of the default versions")
        .with_root_certificates(roots);
    let config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("docker.tls.cert", cert)?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| bad_file("docker.tls.key", key, &error))?;
            config
                .with_client_auth_cert(chain, private)
                .map_err(|error| bad_file("docker.tls.cert", cert, &error))?
        }
        _ => config.with_no_client_auth(),
    };
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp());
    over(connector, &format!("https://{authority}"))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| bad_file(key, path, &error))?;
    if found.is_empty() {
        return Err(bad_file(key, path, &"it holds no certificate"));
    }
    Ok(found)
}

fn over<C>(connector: C, url: &str) -> Result<bollard::Docker, Error>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let transport = move |request: BollardRequest| -> Answer {
        let sent = client.request(request);
        Box::pin(async move { sent.await.map_err(|error| io_error(&error).into()) })
    };
    bollard::Docker::connect_with_custom_transport(
        transport,
        Some(url),
        NO_BOUND_SECONDS,
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|error| refused(&error.to_string()))
}

/// One line with all causes, and the kind of the one from the system: a socket that may not be opened is told from one
/// on which nobody listens.
fn io_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut kind = io::ErrorKind::Other;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(io) = source.downcast_ref::<io::Error>() {
            kind = kind_of(io);
        }
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    io::Error::new(kind, text.replace('\n', " "))
}

/// That of the innermost one: they are wrapped into each other. What TLS says is invalid data.
fn kind_of(error: &io::Error) -> io::ErrorKind {
    let Some(inner) = error.get_ref() else {
        return error.kind();
    };
    match inner.downcast_ref::<io::Error>() {
        Some(inner) => kind_of(inner),
        None if inner.is::<rustls::Error>() => io::ErrorKind::InvalidData,
        None => error.kind(),
    }
}

fn refused(reason: &str) -> Error {
    Error::Refused(reason.to_owned())
}

/// Never the content: it may be a key.
fn bad_file(key: &str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Refused(format!("{key} {}: {reason}", path.display()))
}
