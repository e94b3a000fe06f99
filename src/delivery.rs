//! What pods talk to: the pull half of the OCI distribution API for layers, and the reports of the agent that
//! runs a compile or waits for one (design D5, D6), with what its compiler keeps. People pull whole images by the same API. Every request carries a token that allows one
//! thing (design D16). `serve` puts the router behind the TLS of [`tls`]; below are `container`, `image`, `compile` and
//! `store`. It does not know what a compile does or how an image is built.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, header};
use tokio_util::io::ReaderStream;

use crate::compile::Compiles;
use crate::container::Containers;
use crate::grant::Grants;
use crate::image::Images;
use crate::store::Store;

mod authorization;
mod cache;
mod failure;
mod lists;
mod pull_api;
mod range;
mod reply;
mod spare;
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
    /// Knows what was built, for people.
    pub images: Images,
    /// Takes what agents report.
    pub compiles: Compiles,
    /// Reads the tokens, and gives an agent that waited the one of its compile.
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
        .merge(cache::routes())
        .merge(spare::routes())
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
    cache_bytes: AtomicU64,
    gained_bytes: AtomicU64,
    pulls: AtomicU64,
    pull_bytes: AtomicU64,
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

    /// Bytes of compilers' caches handed to connections.
    pub fn cache_bytes(&self) -> u64 {
        self.cache_bytes.load(Ordering::Relaxed)
    }

    /// Bytes received of what compilers' caches gained, lost ones too.
    pub fn gained_bytes(&self) -> u64 {
        self.gained_bytes.load(Ordering::Relaxed)
    }

    /// How many downloads of a part of an image were begun by people's clients.
    pub fn pulls(&self) -> u64 {
        self.pulls.load(Ordering::Relaxed)
    }

    /// Bytes of images handed to connections of people's clients, those that a registry sent among them.
    pub fn pull_bytes(&self) -> u64 {
        self.pull_bytes.load(Ordering::Relaxed)
    }
}

/// Which of the [`Counters`] a download adds to.
#[derive(Clone, Copy)]
enum Kind {
    Layer,
    Input,
    Image,
    Cache,
}

impl Delivery {
    /// The `size` bytes of `file` as a response that streams from disk.
    fn download(&self, file: File, size: u64, kind: Kind) -> Response {
        let file = tokio::fs::File::from_std(file);
        let bytes = ReaderStream::with_capacity(file, CHUNK);
        let bytes = self.counters.counted(bytes, kind);
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
            Kind::Image => self.pulls.fetch_add(1, Ordering::Relaxed),
            Kind::Cache => return,
        };
    }

    fn sent(&self, kind: Kind, bytes: usize) {
        let counter = match kind {
            Kind::Layer => &self.layer_bytes,
            Kind::Input => &self.input_bytes,
            Kind::Image => &self.pull_bytes,
            Kind::Cache => &self.cache_bytes,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
