//! How `object_store` reaches a bucket: by the HTTP client that the rest of Peitho uses too, since the one it would bring comes
//! with a second TLS library. Says in words of its own why there was no answer; `fault` reads them.

use std::error::Error as StdError;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::{Body, Certificate, Client};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The longest until there is a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest silence of the server. It also is the longest that one request's bytes take on their way there, which are one part
/// of an upload at the most.
const SILENCE: Duration = Duration::from_secs(60);

/// Makes clients; all are one.
#[derive(Debug)]
pub(super) struct Connector(Client);

impl Connector {
    /// Trusts the authorities in `ca_file` beside the system's.
    ///
    /// # Errors
    /// In one line, which names the file.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let authorities = match ca_file {
            Some(file) => authorities(file)?,
            None => Vec::new(),
        };
        // The server has chosen it already; commands about images come here first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .tls_certs_merge(authorities)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .user_agent(concat!("peitho/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = client.map_err(|error| format!("no client can be made: {}", chain(&error)))?;
        Ok(Self(client))
    }
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, String> {
    let told = |what: String| format!("store.s3.caFile {}: {what}", file.display());
    let pem = std::fs::read(file).map_err(|error| told(error.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| told(format!("no PEM: {error}")))?;
    if found.is_empty() {
        return Err(told("no certificate is in it".to_owned()));
    }
    let authorities = found.iter().map(|der| Certificate::from_der(der));
    let authorities = authorities.collect::<Result<_, _>>();
    authorities.map_err(|error| told(chain(&error)))
}

impl HttpConnector for Connector {
    /// The options are made here, not there.
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(self.0.clone())))
    }
}

#[derive(Debug)]
struct Service(Client);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request = reqwest::Request::try_from(request.map(body)).map_err(unanswered)?;
        let answer = self.0.execute(request).await.map_err(unanswered)?;
        let (parts, body) = http::Response::<Body>::from(answer).into_parts();
        let body = HttpResponseBody::new(body.map_err(unanswered));
        Ok(HttpResponse::from_parts(parts, body))
    }
}

fn body(body: HttpRequestBody) -> Body {
    match body.as_bytes() {
        Some(bytes) => bytes.clone().into(),
        None => Body::wrap(body),
    }
}

/// There was no answer, or only a part of one.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Unanswered {
    text: String,
    /// A certificate does not hold: time alone does not mend that.
    pub(super) is_untrusted: bool,
}

fn unanswered(error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    let is_untrusted = is_untrusted(&error);
    let kind = if is_untrusted {
        HttpErrorKind::Unknown
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        // Whatever is sent here may be sent twice.
        HttpErrorKind::Interrupted
    };
    let unanswered = Unanswered {
        text: chain(&error),
        is_untrusted,
    };
    HttpError::new(kind, unanswered)
}

fn is_untrusted(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // An error of a connection hides the one that it was made from from `source`.
        let inner = error.downcast_ref::<std::io::Error>();
        let inner = inner.and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// With all causes; none is told twice.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
