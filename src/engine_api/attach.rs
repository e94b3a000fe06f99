//! Attach: the output of a container as it comes. The answer goes out at once, before the container is started
//! (protocol rule 9): moby starts it only then.

use std::convert::Infallible;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version, header};
use serde::Deserialize;

use super::error::ApiError;
use super::hijack::Hijacks;
use super::prefix::ApiVersion;
use super::stdcopy::Framing;
use super::types::{Caller, Container, Params, switch};
use super::utf8::Lossy;
use crate::container::{Containers, Output};
use crate::names::Tenant;

/// The type of both forms, framed and raw.
const RAW_STREAM: &str = "application/vnd.docker.raw-stream";

/// The query. All output is one stream here, so that either of `stdout` and `stderr` asks for all of it. It
/// comes from the first byte to the end when either of `logs` and `stream` asks for it: nobody attaches to
/// only the past or only the future of a compile.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AttachQuery {
    #[serde(deserialize_with = "switch")]
    logs: bool,
    #[serde(deserialize_with = "switch")]
    stream: bool,
    #[serde(deserialize_with = "switch")]
    stdout: bool,
    #[serde(deserialize_with = "switch")]
    stderr: bool,
}

/// `POST /containers/{id}/attach`.
pub(super) async fn attach(
    State(containers): State<Containers>,
    State(hijacks): State<Hijacks>,
    Extension(tenant): Extension<Tenant>,
    framing: Framing,
    Container(container): Container,
    Params(query): Params<AttachQuery>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let output = containers.attach(&tenant, &container).await?;
    Ok(answer(output, framing, query, &mut request, hijacks))
}

/// The answer to `request`, and `output` on what becomes of its connection.
pub(super) fn answer(
    output: Output,
    framing: Framing,
    query: AttachQuery,
    request: &mut Request,
    hijacks: Hijacks,
) -> Response {
    let wanted = (query.logs || query.stream) && (query.stdout || query.stderr);
    let feed = wanted.then(|| Feed::new(output, framing));
    // HTTP/1.0 knows no upgrade: who asks for one in it hears no 101 (RFC 9110, 7.8).
    if request.version() < Version::HTTP_11 || !wants_upgrade(request.headers()) {
        // fsouza would read it from a plain answer as well, and so do people with curl.
        let pieces = stream::unfold(feed, |feed| async move {
            let mut feed = feed?;
            let piece = feed.next().await?;
            Some((Ok::<_, Infallible>(piece), Some(feed)))
        });
        let body = Body::from_stream(pieces);
        return ([(header::CONTENT_TYPE, RAW_STREAM)], body).into_response();
    }
    hijacks.carry(hyper::upgrade::on(request), feed);
    let headers = [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "tcp"),
        (header::CONTENT_TYPE, RAW_STREAM),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

impl<S: Send + Sync> FromRequestParts<S> for Framing {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let version = parts.extensions.get().copied();
        let caller = Caller::from_request_parts(parts, state).await?;
        Ok(Self::of(version.unwrap_or(ApiVersion(None)), caller))
    }
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let says_upgrade = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        })
    };
    headers.contains_key(header::UPGRADE)
        && headers.get_all(header::CONNECTION).iter().any(says_upgrade)
}

/// The output as it goes to one client.
pub(super) struct Feed {
    /// Dropped by who reads the feed, after its last byte was sent: a builder's `wait` looks for that.
    output: Output,
    /// For a builder, whose output peers put into texts. A chaincode's only goes to the peer's log.
    lossy: Option<Lossy>,
    framing: Framing,
    is_over: bool,
}

impl Feed {
    pub(super) fn new(output: Output, framing: Framing) -> Self {
        let lossy = match output {
            Output::Builder(_) => Some(Lossy::default()),
            Output::Chaincode(_) => None,
        };
        Self {
            output,
            lossy,
            framing,
            is_over: false,
        }
    }

    /// The next bytes for the connection; waits for them; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            let piece = match self.output.next().await {
                Ok(Some(piece)) => Some(piece),
                Ok(None) => None,
                Err(error) => {
                    tracing::warn!(%error, "attach: the output cannot be read to its end");
                    None
                }
            };
            self.is_over = piece.is_none();
            let piece = match (&mut self.lossy, piece) {
                (Some(lossy), Some(piece)) => lossy.push(piece),
                (Some(lossy), None) => lossy.finish(),
                (None, piece) => piece.unwrap_or_default(),
            };
            if !piece.is_empty() {
                return Some(self.framing.encode(piece));
            }
        }
        None
    }
}
