//! The far edge: a registry that has one base image and serves it to whoever asks. With it images are complete, so
//! that a build stores configuration and manifest beside its layer.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Path;
use axum::response::IntoResponse;
use axum::routing::get;
use peitho::config::{Registry, Scheme};
use peitho::names::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

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

/// How the server comes to `host`.
pub(crate) fn known(host: &str) -> Registry {
    Registry {
        host: host.to_owned(),
        scheme: Scheme::Http,
        ..Registry::default()
    }
}

fn configuration() -> Value {
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"User": "500", "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": []},
    })
}

async fn manifest() -> impl IntoResponse {
    let config = configuration().to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "size": config.len(), "digest": Digest::of(config.as_bytes())},
    });
    ([("content-type", MANIFEST)], manifest.to_string())
}

async fn blob(Path(_): Path<String>) -> impl IntoResponse {
    configuration().to_string()
}
