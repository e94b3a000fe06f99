//! The far edge: a registry that has a base image and serves it to whoever asks, with which images are complete, so that a build
//! stores configuration and manifest beside its layer.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Path;
use axum::response::IntoResponse;
use axum::routing::get;
use peitho::config::{BuiltRegistry, ImageMode, Images, Registry, Scheme};
use peitho::names::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The type of all manifests here.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The one layer of the base: what it holds matters to nobody here.
const LAYER: &[u8] = b"the layer of the base";

pub(crate) struct Base {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Base {
    pub(crate) async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/v2/", get(async || "{}"))
            .route("/v2/base/manifests/{reference}", get(manifest))
            .route("/v2/base/blobs/{digest}", get(blob));
        let serving = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { address, serving }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Of a build on this base.
    pub(crate) fn dockerfile(&self) -> Vec<u8> {
        let host = self.host();
        format!("FROM {host}/base:1\nADD binpackage.tar /usr/local/bin\nENV A=1").into_bytes()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A base in `registry`; what is built is pushed to `pushed_to`, where there is one. Both without TLS.
pub(crate) fn images(registry: &str, pushed_to: Option<&str>) -> Images {
    let base = Registry {
        host: registry.to_owned(),
        scheme: Scheme::Http,
        ..Registry::default()
    };
    let mut images = Images {
        registries: vec![base],
        ..Images::default()
    };
    if let Some(address) = pushed_to {
        images.mode = ImageMode::Registry;
        images.registry = BuiltRegistry {
            address: address.to_owned(),
            scheme: Scheme::Http,
            ..BuiltRegistry::default()
        };
    }
    images
}

fn configuration() -> Value {
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"User": "500", "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(LAYER)]},
    })
}

async fn manifest() -> impl IntoResponse {
    let config = configuration().to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
            "size": LAYER.len(), "digest": Digest::of(LAYER)}],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "size": config.len(), "digest": Digest::of(config.as_bytes())},
    });
    ([("content-type", MANIFEST)], manifest.to_string())
}

async fn blob(Path(digest): Path<String>) -> impl IntoResponse {
    match digest == Digest::of(LAYER).to_string() {
        true => LAYER.to_vec(),
        false => configuration().to_string().into_bytes(),
    }
}
