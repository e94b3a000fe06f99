//! The pull half of the OCI distribution API, as far as there is something to pull: layers by digest. The
//! repository in the path says nothing: the token says which layer, and for which container.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode};

use super::Delivery;
use super::failure::Failure;
use crate::names::Digest;

/// `GET` also answers `HEAD`, without the body.
pub(super) fn routes() -> Router<Delivery> {
    Router::new()
        .route("/v2/", get(version))
        .route("/v2/{*path}", get(pull))
}

/// What a path below `/v2/` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Blob { digest: &'a str },
    Manifest { name: &'a str, reference: &'a str },
}

/// A name has any number of parts, so the path is read from its end.
fn wanted(path: &str) -> Option<Wanted<'_>> {
    let (front, last) = path.rsplit_once('/')?;
    let (name, kind) = front.rsplit_once('/')?;
    if name.is_empty() || last.is_empty() {
        return None;
    }
    match kind {
        "blobs" => Some(Wanted::Blob { digest: last }),
        "manifests" => Some(Wanted::Manifest {
            name,
            reference: last,
        }),
        _ => None,
    }
}

async fn version(
    State(delivery): State<Delivery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    delivery.granted(&headers)?;
    Ok((
        [("docker-distribution-api-version", "registry/2.0")],
        axum::Json(serde_json::json!({})),
    )
        .into_response())
}

async fn pull(
    State(delivery): State<Delivery>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    match wanted(&path) {
        Some(Wanted::Blob { digest }) => blob(&delivery, &headers, digest).await,
        Some(Wanted::Manifest { name, reference }) => {
            delivery.granted(&headers)?;
            Err(Failure::new(
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                format!(
                    "{name} has no manifest {reference}: in delivery mode pods run the base image and \
                     fetch the one layer that was built from here"
                ),
            ))
        }
        None => Err(Failure::new(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            format!("/v2/{path} is neither a blob nor a manifest"),
        )),
    }
}

async fn blob(delivery: &Delivery, headers: &HeaderMap, digest: &str) -> Result<Response, Failure> {
    let digest: Digest = digest.parse().map_err(|error| {
        Failure::new(
            StatusCode::BAD_REQUEST,
            "DIGEST_INVALID",
            format!("{error}"),
        )
    })?;
    delivery.may_fetch(headers, &digest).await?;
    delivery.layer(&digest).await?.ok_or_else(|| {
        Failure::new(
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
            format!("the store has no blob {digest}; install the chaincode again"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_any_number_of_parts() {
        for (path, expected) in [
            ("a/blobs/sha256:1", Some("sha256:1")),
            ("a/b/c/blobs/sha256:1", Some("sha256:1")),
            ("blobs/blobs/sha256:1", Some("sha256:1")),
            ("blobs/sha256:1", None),
            ("/blobs/sha256:1", None),
            ("a/blobs/", None),
            ("a/tags/list", None),
            ("", None),
        ] {
            assert_eq!(
                wanted(path),
                expected.map(|digest| Wanted::Blob { digest }),
                "{path}"
            );
        }
        assert_eq!(
            wanted("a/b/manifests/latest"),
            Some(Wanted::Manifest {
                name: "a/b",
                reference: "latest"
            })
        );
    }
}
