//! The pull half of the OCI distribution API (specification 1.1). A pod gets the one layer that its token is for, and the
//! repository in its path says nothing. A person gets whole images of one tenant: `<tenant>/<name of the image>`, with the
//! tag `latest`, since peers give none, or by the digest of the manifest. Layers of a base that is not held are passed on
//! from its registry.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, Method, StatusCode, header};

use super::failure::Failure;
use super::lists::{self, AskedPage};
use super::{CONTENT_DIGEST, Delivery, Kind};
use crate::grant::Grant;
use crate::names::{Digest, ImageName, Tenant};
use crate::registry::LayerContent;

/// `GET` also answers `HEAD`, without the body.
pub(super) fn routes() -> Router<Delivery> {
    Router::new()
        .route("/v2/", get(version))
        .route("/v2/_catalog", get(lists::catalog))
        .route("/v2/{*path}", get(pull))
}

/// What a path below `/v2/` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Blob { name: &'a str, digest: &'a str },
    Manifest { name: &'a str, reference: &'a str },
    Tags { name: &'a str },
}

/// A name has any number of parts, so the path is read from its end.
fn wanted(path: &str) -> Option<Wanted<'_>> {
    let (front, last) = path.rsplit_once('/')?;
    let (name, kind) = front.rsplit_once('/')?;
    if name.is_empty() || last.is_empty() {
        return None;
    }
    match (kind, last) {
        ("blobs", digest) => Some(Wanted::Blob { name, digest }),
        ("manifests", reference) => Some(Wanted::Manifest { name, reference }),
        ("tags", "list") => Some(Wanted::Tags { name }),
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
    page: AskedPage,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    match wanted(&path) {
        Some(Wanted::Blob { name, digest }) => {
            let digest = digest.parse().map_err(|error| {
                Failure::new(
                    StatusCode::BAD_REQUEST,
                    "DIGEST_INVALID",
                    format!("{error}"),
                )
            })?;
            let asked = (&method, &headers);
            match delivery.granted(&headers)? {
                Grant::Images { tenant, .. } => {
                    let repository = repository(&tenant, name)?;
                    blob(&delivery, asked, &tenant, &repository, &digest).await
                }
                grant => {
                    delivery.may_fetch(grant, &digest).await?;
                    layer(&delivery, asked, &digest).await
                }
            }
        }
        Some(Wanted::Manifest { name, reference }) => match delivery.granted(&headers)? {
            Grant::Images { tenant, .. } => {
                let repository = repository(&tenant, name)?;
                manifest(&delivery, &tenant, &repository, reference).await
            }
            _ => Err(Failure::new(
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                format!(
                    "{name} has no manifest {reference} for this token: pods run the base image and fetch the \
                     one layer that was built from here"
                ),
            )),
        },
        Some(Wanted::Tags { name }) => {
            let tenant = delivery.may_read(&headers)?;
            let repository = repository(&tenant, name)?;
            lists::tags(&delivery, &tenant, &repository, page).await
        }
        None => {
            delivery.granted(&headers)?;
            Err(Failure::new(
                StatusCode::NOT_FOUND,
                "NAME_UNKNOWN",
                format!("/v2/{path} is neither a blob nor a manifest nor a list of tags"),
            ))
        }
    }
}

/// The repository that `name` means to who may read the images of `tenant`.
fn repository(tenant: &Tenant, name: &str) -> Result<ImageName, Failure> {
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    if first != tenant.as_str() {
        return Err(Failure::denied(format!(
            "this token is for the images of {tenant}: {tenant}/<name of the image>, not {name}"
        )));
    }
    ImageName::of_familiar(rest)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "NAME_INVALID", format!("{error}")))
}

async fn manifest(
    delivery: &Delivery,
    tenant: &Tenant,
    repository: &ImageName,
    reference: &str,
) -> Result<Response, Failure> {
    let name = repository.at(reference).map_err(|error| {
        Failure::new(
            StatusCode::BAD_REQUEST,
            "MANIFEST_INVALID",
            format!("{error}"),
        )
    })?;
    let manifest = delivery.images.manifest(tenant, &name).await?;
    let digest = manifest.digest.to_string();
    let response = Response::builder()
        .header(header::CONTENT_TYPE, manifest.media_type)
        .header(header::CONTENT_LENGTH, manifest.bytes.len())
        .header(header::ETAG, format!("\"{digest}\""))
        .header(CONTENT_DIGEST, digest)
        .body(Body::from(manifest.bytes));
    response.map_err(|error| {
        let told = format!("the media type of {name} is no header's value: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "MANIFEST_INVALID", told)
    })
}

/// A blob for a person.
async fn blob(
    delivery: &Delivery,
    (method, headers): (&Method, &HeaderMap),
    tenant: &Tenant,
    repository: &ImageName,
    digest: &Digest,
) -> Result<Response, Failure> {
    let part = delivery.images.part(tenant, repository, digest).await?;
    let part = part.ok_or_else(|| {
        Failure::new(
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
            format!("no image {repository} of {tenant} has {digest}"),
        )
    })?;
    let reply = delivery.reply(method, headers, &part.blob);
    let Some(span) = reply.span() else {
        return Ok(reply.without_content());
    };
    let content = delivery.images.content(tenant, &part, span).await?;
    let content = content.ok_or_else(|| lost(digest))?;
    reply.with(content, Kind::Image).await
}

/// A pod's layer.
async fn layer(
    delivery: &Delivery,
    (method, headers): (&Method, &HeaderMap),
    digest: &Digest,
) -> Result<Response, Failure> {
    let found = delivery.store.open_blob(digest).await?;
    let (file, blob) = found.ok_or_else(|| lost(digest))?;
    let reply = delivery.reply(method, headers, &blob);
    match reply.span() {
        None => Ok(reply.without_content()),
        Some(_) => reply.with(LayerContent::Held(file), Kind::Layer).await,
    }
}

fn lost(digest: &Digest) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "BLOB_UNKNOWN",
        format!("the store has no blob {digest}; run `peitho images verify`, and do what it says"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_any_number_of_parts() {
        for (path, expected) in [
            ("a/blobs/sha256:1", Some("a")),
            ("a/b/c/blobs/sha256:1", Some("a/b/c")),
            ("blobs/blobs/sha256:1", Some("blobs")),
            ("blobs/sha256:1", None),
            ("/blobs/sha256:1", None),
            ("a/blobs/", None),
            ("a/tags/other", None),
            ("", None),
        ] {
            let digest = "sha256:1";
            assert_eq!(
                wanted(path),
                expected.map(|name| Wanted::Blob { name, digest }),
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
        assert_eq!(wanted("a/b/tags/list"), Some(Wanted::Tags { name: "a/b" }));
    }

    #[test]
    fn a_repository_is_the_tenants_own() {
        let tenant: Tenant = "org1".parse().unwrap();
        let image = repository(&tenant, "org1/dev-peer0-basic").unwrap();
        assert_eq!(image, "dev-peer0-basic".parse().unwrap());
        for name in [
            "org2/a", "a", "org1", "org1/", "org1/a:b", "org1/A", "/org1/a",
        ] {
            assert!(repository(&tenant, name).is_err(), "{name}");
        }
    }
}
