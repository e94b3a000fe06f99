//! The agent's HTTP client: TLS with the CA from the pod's credentials and no other, http/1.1, one token. Its
//! errors say whether trying again can help.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tokio_util::io::ReaderStream;

/// How long a connection may take to be made, and a lost one to be noticed.
const CONNECTION: Duration = Duration::from_secs(10);

/// How long the head of an answer may take, once the request is sent.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// Bytes of an error's body that are read.
const ERROR_BODY: usize = 16 << 10;

/// What goes out with a request.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one of an https server.
    #[error("address {0:?}: expected https://host:port")]
    Address(String),
    /// Token or CA certificate cannot be used.
    #[error("credentials {path:?}: {reason}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never its content.
        reason: String,
    },
    /// No connection, or one that broke.
    #[error("{request}: {reason}")]
    Unreachable {
        /// Method and URL.
        request: String,
        /// The chain of causes.
        reason: String,
    },
    /// Whoever answers is not the Peitho that made this pod.
    #[error("{request}: the server's certificate is not trusted: {reason}")]
    Untrusted {
        /// Method and URL.
        request: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// Peitho said no.
    #[error("{request}: {status}: {message}")]
    Refused {
        /// Method and URL.
        request: String,
        /// Its status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
}

impl Error {
    /// Whether the same request may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => {
                *status == StatusCode::TOO_MANY_REQUESTS
                    || status.is_server_error() && *status != StatusCode::INSUFFICIENT_STORAGE
            }
            Self::Address(_) | Self::Credentials { .. } | Self::Untrusted { .. } => false,
        }
    }

    /// Whether Peitho does not know what the request is about.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

/// Does `operation` until it succeeds, its error is not `passing`, or `patience` is over.
pub(super) async fn patiently<T, E, A>(
    patience: Duration,
    passing: impl Fn(&E) -> bool,
    operation: impl FnMut() -> A,
) -> Result<T, E>
where
    A: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    let started = Instant::now();
    operation
        .retry(
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(100))
                .with_max_delay(Duration::from_secs(5))
                .without_max_times(),
        )
        .when(|error| passing(error) && started.elapsed() < patience)
        .notify(|error, delay| tracing::info!(error = %error, delay_ms = delay.as_millis() as u64, "tries again"))
        .await
}

/// Talks to one Peitho with one token; clones share connections.
#[derive(Clone)]
pub(super) struct Client {
    http: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Body>,
    authority: Authority,
    authorization: HeaderValue,
}

impl Client {
    /// A client for `address`, `https://host:port`, with `token` and `ca.crt` of the directory `credentials`.
    pub(super) fn new(address: &str, credentials: &Path) -> Result<Self, Error> {
        let authority = address
            .parse::<Uri>()
            .ok()
            .filter(|uri| uri.scheme() == Some(&Scheme::HTTPS))
            .and_then(|uri| uri.authority().cloned())
            .ok_or_else(|| Error::Address(address.to_owned()))?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECTION));
        connector.set_keepalive(Some(CONNECTION));
        connector.set_tcp_user_timeout(Some(CONNECTION * 3));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(&credentials.join("ca.crt"))?)
            .https_only()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self {
            http: hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .build(connector),
            authority,
            authorization: authorization(&credentials.join("token"))?,
        })
    }

    /// The same with another token, over the same connections.
    pub(super) fn with_token(&self, token: &str) -> Option<Self> {
        Some(Self {
            authorization: bearer(token)?,
            ..self.clone()
        })
    }

    /// Gets `path`; the answer is a success.
    pub(super) async fn get(&self, path: &str) -> Result<Response<Incoming>, Error> {
        let sent = self.send(Method::GET, path, None, empty(), Bound::Answer);
        let response = sent.await?;
        self.successful(&Method::GET, path, response).await
    }

    /// Gets `path` from the byte `first` on; the answer is a success, and its status tells whether it is the part.
    pub(super) async fn get_from(
        &self,
        path: &str,
        first: u64,
    ) -> Result<Response<Incoming>, Error> {
        let range = (first > 0).then(|| (header::RANGE, format!("bytes={first}-")));
        let sent = self.send(Method::GET, path, range, empty(), Bound::Answer);
        let response = sent.await?;
        self.successful(&Method::GET, path, response).await
    }

    /// Puts `body` to `path`; the answer is a success.
    pub(super) async fn put(&self, path: &str, body: Body) -> Result<(), Error> {
        let sent = self.send(Method::PUT, path, None, body, Bound::Answer);
        let response = sent.await?;
        self.successful(&Method::PUT, path, response).await?;
        Ok(())
    }

    /// The same for a body that takes its time.
    pub(super) async fn put_whole(&self, path: &str, body: Body) -> Result<(), Error> {
        let sent = self.send(Method::PUT, path, None, body, Bound::Connection);
        let response = sent.await?;
        self.successful(&Method::PUT, path, response).await?;
        Ok(())
    }

    /// Deletes `path`; the answer is a success.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Error> {
        let sent = self.send(Method::DELETE, path, None, empty(), Bound::Answer);
        let response = sent.await?;
        self.successful(&Method::DELETE, path, response).await?;
        Ok(())
    }

    /// Puts the whole of `file` to `path`, from its first byte.
    pub(super) async fn put_file(&self, path: &str, file: &std::fs::File) -> Result<(), Error> {
        let opened = async {
            let mut file = tokio::fs::File::from_std(file.try_clone()?);
            tokio::io::AsyncSeekExt::rewind(&mut file).await?;
            let length = file.metadata().await?.len();
            Ok((file, length))
        };
        let (file, length) = opened
            .await
            .map_err(|error: io::Error| self.unreachable(&Method::PUT, path, &error))?;
        let body = streamed(ReaderStream::with_capacity(file, 128 << 10));
        let response = self
            .send(
                Method::PUT,
                path,
                Some((header::CONTENT_LENGTH, length.to_string())),
                body,
                Bound::Connection,
            )
            .await?;
        self.successful(&Method::PUT, path, response).await?;
        Ok(())
    }

    /// Puts `body` to `path` and gives `status` and body of the answer where `expected` holds that status.
    pub(super) async fn exchange(
        &self,
        path: &str,
        body: Body,
        expected: &[StatusCode],
    ) -> Result<Bytes, Error> {
        let sent = self.send(Method::PUT, path, None, body, Bound::Answer);
        let response = sent.await?;
        let response = if expected.contains(&response.status()) {
            response
        } else {
            self.successful(&Method::PUT, path, response).await?
        };
        match Limited::new(response.into_body(), ERROR_BODY)
            .collect()
            .await
        {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.unreachable(&Method::PUT, path, error.as_ref())),
        }
    }

    /// The error for a body that broke off.
    pub(super) fn broken(&self, path: &str, reason: impl Into<String>) -> Error {
        Error::Unreachable {
            request: self.request(&Method::GET, path),
            reason: reason.into(),
        }
    }

    /// The answer to a request for `path`, which is JSON of `most` bytes at the most.
    pub(super) async fn parsed<T: DeserializeOwned>(
        &self,
        path: &str,
        answer: Response<Incoming>,
        most: usize,
    ) -> Result<T, Error> {
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| self.broken(path, error.to_string()))?;
        let parsed = serde_json::from_slice(&body.to_bytes());
        parsed.map_err(|error| self.broken(path, error.to_string()))
    }

    /// Sends a request.
    async fn send(
        &self,
        method: Method,
        path: &str,
        more: Option<(HeaderName, String)>,
        body: Body,
        bound: Bound,
    ) -> Result<Response<Incoming>, Error> {
        let uri = Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(self.authority.clone())
            .path_and_query(
                path.parse::<PathAndQuery>()
                    .expect("paths are digests, keys and numbers"),
            )
            .build()
            .expect("scheme, authority and path make a URI");
        let mut request = Request::builder()
            .method(method.clone())
            .uri(uri)
            .header(header::AUTHORIZATION, self.authorization.clone());
        if let Some((name, value)) = more {
            request = request.header(name, value);
        }
        let request = request
            .body(body)
            .expect("all parts of the request are valid");
        let answer = self.http.request(request);
        let answer = match bound {
            Bound::Connection => answer.await,
            Bound::Answer => timeout(ANSWER, answer)
                .await
                .map_err(|_| Error::Unreachable {
                    request: self.request(&method, path),
                    reason: format!("no answer for {} s", ANSWER.as_secs()),
                })?,
        };
        answer.map_err(|error| self.unreachable(&method, path, &error))
    }

    async fn successful(
        &self,
        method: &Method,
        path: &str,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), ERROR_BODY)
            .collect()
            .await;
        Err(Error::Refused {
            request: self.request(method, path),
            status,
            message: body.map_or_else(|_| String::new(), |body| message(&body.to_bytes())),
        })
    }

    fn unreachable(
        &self,
        method: &Method,
        path: &str,
        error: &(dyn std::error::Error + 'static),
    ) -> Error {
        let request = self.request(method, path);
        match certificate_error(error) {
            Some(reason) => Error::Untrusted { request, reason },
            None => Error::Unreachable {
                request,
                reason: causes(error),
            },
        }
    }

    fn request(&self, method: &Method, path: &str) -> String {
        format!("{method} https://{}{path}", self.authority)
    }
}

/// How long an answer may take.
#[derive(Clone, Copy)]
enum Bound {
    /// [`ANSWER`].
    Answer,
    /// As long as the connection stands, for a body that takes its time: one that is lost is noticed by TCP.
    Connection,
}

/// A body of what comes; it breaks off with an error.
pub(super) fn streamed(bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(bytes.map_ok(Frame::data)).boxed_unsync()
}

/// A body of nothing.
pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of `bytes`.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn authorization(path: &Path) -> Result<HeaderValue, Error> {
    let unusable = |reason: String| Error::Credentials {
        path: path.to_owned(),
        reason,
    };
    let token = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    bearer(token.trim()).ok_or_else(|| unusable("not a token".to_owned()))
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn tls(ca: &Path) -> Result<rustls::ClientConfig, Error> {
    let unusable = |reason: String| Error::Credentials {
        path: ca.to_owned(),
        reason,
    };
    let pem = std::fs::read(ca).map_err(|error| unusable(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))
            .map_err(unusable)?;
    }
    if roots.is_empty() {
        return Err(unusable("no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// The words of `{"errors":[{"message"}]}`, or the text as it is.
fn message(body: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|json| {
            json.pointer("/errors/0/message")?
                .as_str()
                .map(str::to_owned)
        })
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())
}

/// An error with its causes, those left out that the one before has in its text already.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// What rustls has against the server's certificate, if that is the cause of `error`.
fn certificate_error(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(format!("{reason:?}"));
        }
        cause = match error.downcast_ref::<io::Error>() {
            // Its `source` is the cause of what it wraps, not what it wraps.
            Some(error) => error.get_ref().map(|wrapped| wrapped as _),
            None => error.source(),
        };
    }
    None
}
