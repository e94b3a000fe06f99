//! What pods talk to: the pull half of the OCI distribution API for layers, and the reports of the agent that
//! runs a compile (design D5, D6). Every request carries a token that allows one thing (design D16). `serve`
//! puts the router behind the TLS of [`tls`]; below are `container`, `compile` and `store`. It does not know
//! what a compile does or how an image is built.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio_util::io::ReaderStream;

use crate::compile::Compiles;
use crate::container::Containers;
use crate::grant::{Grant, Grants};
use crate::names::{CompileKey, Digest};
use crate::store::{Blob, Store};

use failure::Failure;

mod failure;
mod pull_api;
pub mod tls;
mod upload;

/// The header that names the content of a blob.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Bytes that are read from disk at once for one download.
const CHUNK: usize = 128 << 10;

/// What the delivery API works on; clones share it.
#[derive(Clone)]
pub struct Delivery {
    /// Where layers and inputs lie.
    pub store: Store,
    /// Takes what agents report.
    pub compiles: Compiles,
    /// Reads the tokens.
    pub grants: Grants,
    /// Says whether the container of a token still stands.
    pub containers: Containers,
    /// Counts what was delivered.
    pub counters: Arc<Counters>,
}

/// The router for pods, to be served over TLS only. No body limit, timeout or compression lies around it:
/// each endpoint has its own bounds (design D19).
pub fn router(delivery: Delivery) -> Router {
    pull_api::routes()
        .merge(upload::routes())
        .with_state(delivery)
}

/// What was delivered since the start; each figure only grows.
#[derive(Debug, Default)]
pub struct Counters {
    layers: AtomicU64,
    layer_bytes: AtomicU64,
    inputs: AtomicU64,
    input_bytes: AtomicU64,
    log_bytes: AtomicU64,
    output_bytes: AtomicU64,
}

impl Counters {
    /// How many downloads of a layer were begun.
    pub fn layers(&self) -> u64 {
        self.layers.load(Ordering::Relaxed)
    }

    /// Bytes of layers handed to connections (the budget for a launch counts them).
    pub fn layer_bytes(&self) -> u64 {
        self.layer_bytes.load(Ordering::Relaxed)
    }

    /// How many downloads of a compile's input were begun.
    pub fn inputs(&self) -> u64 {
        self.inputs.load(Ordering::Relaxed)
    }

    /// Bytes of compile inputs handed to connections.
    pub fn input_bytes(&self) -> u64 {
        self.input_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of compile logs received, repeated ones too.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of compile outputs received, repeated ones too.
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes.load(Ordering::Relaxed)
    }
}

/// Which of the [`Counters`] a download adds to.
#[derive(Clone, Copy)]
enum Kind {
    Layer,
    Input,
}

impl Delivery {
    /// What the request's token allows.
    fn granted(&self, headers: &HeaderMap) -> Result<Grant, Failure> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| Failure::unauthorized("a token is needed: Authorization: Bearer"))?;
        self.grants
            .read(token)
            .ok_or_else(|| Failure::unauthorized("the token is not one of this instance"))
    }

    /// Whether the request may fetch the layer `digest`.
    async fn may_fetch(&self, headers: &HeaderMap, digest: &Digest) -> Result<(), Failure> {
        let Grant::Layer {
            container,
            digest: granted,
        } = self.granted(headers)?
        else {
            return Err(Failure::denied(
                "this token is for a compile, not for a layer",
            ));
        };
        if granted != *digest {
            return Err(Failure::denied(format!(
                "this token is for the layer {granted} of container {container}, not for {digest}"
            )));
        }
        match self.containers.stands(&container, digest).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::denied(format!(
                "container {container} was removed, or created anew with another layer: its tokens went with it"
            ))),
            Err(error) => Err(Failure::unavailable(format!(
                "cannot tell whether container {container} still exists: {error}"
            ))),
        }
    }

    /// Whether the request comes from the agent of compile `key`.
    fn may_report(&self, headers: &HeaderMap, key: &CompileKey) -> Result<(), Failure> {
        match self.granted(headers)? {
            Grant::Compile { key: granted } if granted == *key => Ok(()),
            Grant::Compile { key: granted } => Err(Failure::denied(format!(
                "this token is for compile {granted}, not for {key}"
            ))),
            Grant::Layer { container, .. } => Err(Failure::denied(format!(
                "this token is for the layer of container {container}, not for a compile"
            ))),
        }
    }

    /// The blob `digest` as a response that streams from disk, or `None` where the store has none.
    async fn layer(&self, digest: &Digest) -> Result<Option<Response>, Failure> {
        let Some((file, Blob { digest, size })) = self.store.open_blob(digest).await? else {
            return Ok(None);
        };
        let mut response = self.download(file, size, Kind::Layer);
        let digest = HeaderValue::try_from(digest.to_string()).expect("a digest is a valid value");
        response.headers_mut().insert(CONTENT_DIGEST, digest);
        Ok(Some(response))
    }

    /// The `size` bytes of `file` as a response that streams from disk.
    fn download(&self, file: File, size: u64, kind: Kind) -> Response {
        let counters = Arc::clone(&self.counters);
        let mut begun = false;
        let bytes = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK).inspect_ok(
            move |bytes| {
                // Not before: an answer to HEAD has no body.
                if !std::mem::replace(&mut begun, true) {
                    counters.begun(kind);
                }
                counters.sent(kind, bytes.len());
            },
        );
        Response::builder()
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size)
            .body(Body::from_stream(bytes))
            .expect("numbers are valid header values")
    }
}

impl Counters {
    fn begun(&self, kind: Kind) {
        match kind {
            Kind::Layer => self.layers.fetch_add(1, Ordering::Relaxed),
            Kind::Input => self.inputs.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn sent(&self, kind: Kind, bytes: usize) {
        let counter = match kind {
            Kind::Layer => &self.layer_bytes,
            Kind::Input => &self.input_bytes,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
