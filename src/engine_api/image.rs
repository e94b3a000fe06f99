//! Images on the wire: inspect, pull, build.

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{Extensions, Method, StatusCode, Uri, header};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::body::{SpoolError, spool};
use super::error::ApiError;
use super::router::unknown_path;
use super::types::{Aux, ImageInspect, Params, Progress};
use crate::archive::Limits;
use crate::container::Containers;
use crate::image::{Image, Images};
use crate::names::{ImageName, Tenant};
use crate::store::Store;

/// `GET /images/{name}/json`: the name may hold slashes, a registry's host and port, a tag or a digest.
pub(super) async fn inspect(
    State(images): State<Images>,
    containers: State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Path(path): Path<String>,
    method: Method,
    uri: Uri,
) -> Result<Response, ApiError> {
    let Some(name) = path.strip_suffix("/json") else {
        let mut extensions = Extensions::new();
        extensions.insert(tenant);
        return Err(unknown_path(containers, method, uri, extensions).await);
    };
    let name: ImageName = name.parse()?;
    let image = images.inspect(&tenant, &name).await?;
    Ok(Json(ImageInspect::from(image)).into_response())
}

/// The query of `POST /images/create`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PullQuery {
    /// With or without a tag of its own.
    from_image: String,
    /// A tag, or a digest.
    tag: String,
}

/// `POST /images/create`: a pull. It is over before the head of the answer goes out, since 2.5.15 reads nothing
/// but that (protocol §3.3).
pub(super) async fn pull(
    State(images): State<Images>,
    Params(query): Params<PullQuery>,
) -> Result<Response, ApiError> {
    if query.from_image.is_empty() {
        return Err(ApiError::bad_request(
            "fromImage: the name of an image is needed; nothing else can be created here",
        ));
    }
    let mut name: ImageName = query.from_image.parse()?;
    if !query.tag.is_empty() {
        name = name.at(&query.tag)?;
    }
    images.pull(&name).await?;
    Ok(stream(&[
        Progress::Status {
            status: format!("Pulling from {}", name.repository()),
            id: name.tag().map(str::to_owned),
        },
        Progress::Status {
            status: format!("Status: {name} is there; the node that needs it pulls it"),
            id: None,
        },
    ]))
}

/// The query of `POST /build`. Of Docker's others, peers send `networkmode`, `pull` and `rm`: no container is
/// run for a build here, so they have no meaning.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct BuildQuery {
    t: String,
}

/// `POST /build`: no head goes out before the body is complete and the image is stored, and every failure is an
/// error status (protocol rule 7).
pub(super) async fn build(
    State(images): State<Images>,
    State(store): State<Store>,
    State(tasks): State<TaskTracker>,
    Extension(tenant): Extension<Tenant>,
    Params(query): Params<BuildQuery>,
    body: Body,
) -> Result<Response, ApiError> {
    if query.t.is_empty() {
        return Err(ApiError::bad_request("t: the name of the image is needed"));
    }
    let name: ImageName = query.t.parse()?;
    let body = match spool(body, &store, Limits::default().bytes).await {
        Ok(body) => body,
        Err(SpoolError::Cut(cause)) => {
            // The ordinary end of a compile that failed (protocol rule 8): its message went another way.
            return Err(ApiError::caused_by(
                StatusCode::BAD_REQUEST,
                "build_cut",
                format!(
                    "build of {name} ended without a result: the peer's compile failed or the peer went away"
                ),
                &cause,
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let (done, result) = oneshot::channel();
    let building = async move {
        let built = images.build(&tenant, &name, body).await;
        if let Err(Err(error)) = done.send(built) {
            tracing::warn!(image = %name, tenant = %tenant, %error, "build failed after its peer went away");
        }
    };
    // Not the request's own: what a peer has sent completely is built, even if the peer is gone (design D19).
    tasks.spawn(building.in_current_span());
    match result.await {
        Ok(built) => Ok(stream(&steps(&built?))),
        Err(_) => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "lost",
            "the build was dropped: the server is shutting down",
        )),
    }
}

/// What Docker's builder would have said.
fn steps(image: &Image) -> Vec<Progress> {
    let mut steps = vec![
        format!("FROM {}", image.base.name),
        format!("ADD binpackage.tar {}", image.layer.destination),
    ];
    if !image.labels.is_empty() {
        let labels: Vec<_> = image
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v:?}"))
            .collect();
        steps.push(format!("LABEL {}", labels.join(" ")));
    }
    steps.extend(image.env.iter().map(|(k, v)| format!("ENV {k}={v}")));
    let all = steps.len();
    let id = image.id.to_string();
    let short: String = image.id.hex().chars().take(12).collect();
    let line = |stream: String| Progress::Stream {
        stream: format!("{stream}\n"),
    };
    let mut stream: Vec<_> = steps
        .into_iter()
        .enumerate()
        .map(|(n, step)| line(format!("Step {}/{all} : {step}", n + 1)))
        .collect();
    stream.push(Progress::Aux { aux: Aux { id } });
    stream.push(line(format!("Successfully built {short}")));
    stream.push(line(format!("Successfully tagged {}", image.name)));
    stream
}

/// One object a line. The type is exactly this one, or fsouza does not look for errors (protocol rule 3).
fn stream(progress: &[Progress]) -> Response {
    let mut lines = Vec::new();
    for line in progress {
        serde_json::to_writer(&mut lines, line).expect("text is JSON, and memory takes it");
        lines.extend_from_slice(b"\r\n");
    }
    ([(header::CONTENT_TYPE, "application/json")], lines).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Base;
    use crate::image_spec::{ImageFacts, Layer};
    use crate::names::Digest;
    use crate::store::Blob;

    #[test]
    fn a_build_is_told_step_by_step() {
        let digest = Digest::of(b"");
        let image = Image {
            name: "net-peer-simple".parse().unwrap(),
            id: digest,
            base: Base {
                name: "hyperledger/fabric-baseos:2.5".parse().unwrap(),
                config: None,
                facts: ImageFacts::default(),
                digest: None,
            },
            layer: Layer {
                blob: Blob { digest, size: 0 },
                diff_id: digest,
                destination: "/usr/local/bin".into(),
                entries: vec![],
            },
            env: vec![("CORE_CHAINCODE_BUILDLEVEL".into(), "2.5.16".into())],
            labels: [("type".into(), "GOLANG".into())].into(),
            manifest: None,
            pushed: None,
            builder: None,
        };
        let lines: Vec<_> = steps(&image)
            .iter()
            .map(|line| serde_json::to_string(line).unwrap())
            .collect();
        assert_eq!(
            lines,
            [
                r#"{"stream":"Step 1/4 : FROM hyperledger/fabric-baseos:2.5\n"}"#,
                r#"{"stream":"Step 2/4 : ADD binpackage.tar /usr/local/bin\n"}"#,
                r#"{"stream":"Step 3/4 : LABEL type=\"GOLANG\"\n"}"#,
                r#"{"stream":"Step 4/4 : ENV CORE_CHAINCODE_BUILDLEVEL=2.5.16\n"}"#,
                r#"{"aux":{"ID":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}"#,
                r#"{"stream":"Successfully built e3b0c44298fc\n"}"#,
                r#"{"stream":"Successfully tagged net-peer-simple:latest\n"}"#,
            ]
        );
    }
}
