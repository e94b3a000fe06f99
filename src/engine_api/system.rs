//! `/_ping` and `/version`: whether the server is there, and which API it speaks. They depend on nothing, since
//! the ping feeds the peers' own `/healthz` (protocol rule 2).

use axum::Json;
use axum::response::IntoResponse;
use http::header;
use serde_json::{Value, json};

use super::types::{self, Caller};
use super::{API_VERSION, MIN_API_VERSION};

/// `GET` and `HEAD /_ping`.
pub(super) async fn ping() -> impl IntoResponse {
    let headers = [
        ("api-version", API_VERSION),
        ("ostype", "linux"),
        ("docker-experimental", "false"),
        (header::CONTENT_TYPE.as_str(), "text/plain"),
        (
            header::CACHE_CONTROL.as_str(),
            "no-cache, no-store, must-revalidate",
        ),
    ];
    (headers, "OK")
}

/// `GET /version`: fsouza reads `ApiVersion`, people read the rest. The `docker` command shows what stands in `Details`.
pub(super) async fn version(caller: Caller) -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    let details = match caller {
        Caller::Peer => json!({ "ApiVersion": API_VERSION }),
        Caller::Person => json!({
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "Os": "linux",
            "Arch": types::ARCHITECTURE,
            "Experimental": "false",
        }),
    };
    Json(json!({
        "Platform": { "Name": "Peitho" },
        "Components": [{ "Name": "Engine", "Version": version, "Details": details }],
        "Version": version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": types::ARCHITECTURE,
        "KernelVersion": "",
        "BuildTime": "",
    }))
}
