//! Archives on the wire: the input of a builder or the TLS files of a chaincode in, the output of a builder
//! out. Bodies stream through the disk both ways, but for files that may be keys.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::body::{secret, spool};
use super::error::ApiError;
use super::types::{Caller, Container, Params, path_stat};
use super::unsupported;
use crate::archive::Limits;
use crate::container::{ChaincodeFiles, Containers, Upload};
use crate::names::Tenant;
use crate::store::Store;

/// One read of the file that is sent: each is a trip to a thread that may block.
const CHUNK: usize = 256 << 10;

/// Without it moby takes nothing.
const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// The query of both directions.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ArchiveQuery {
    path: String,
}

impl ArchiveQuery {
    pub(super) fn absolute(&self) -> Result<&str, ApiError> {
        let path = &self.path;
        let shown: String = path.chars().take(200).collect();
        if !path.starts_with('/') {
            let reason = format!("path: an absolute path is needed, not {shown:?}");
            Err(ApiError::bad_request(reason))
        } else if path.contains('\0') || path.split('/').any(|part| part == "..") {
            // What a runtime makes of these differs; peers send neither.
            let reason = format!("path: {shown:?} holds .. or a zero character");
            Err(ApiError::bad_request(reason))
        } else {
            Ok(path)
        }
    }
}

/// `docker cp` is no peer's business: what a peer puts in and gets out is not all that there is in a container.
async fn check_caller(
    caller: Caller,
    containers: &Containers,
    tenant: &Tenant,
    uri: &Uri,
) -> Result<(), ApiError> {
    let refusal = match caller {
        Caller::Peer => None,
        Caller::Person => unsupported::refusal(containers, tenant, &Method::GET, uri.path()).await,
    };
    refusal.map_or(Ok(()), Err)
}

/// `PUT /containers/{id}/archive?path=`: tar or tar.gz.
pub(super) async fn put(
    State(containers): State<Containers>,
    State(store): State<Store>,
    Extension(tenant): Extension<Tenant>,
    (caller, uri): (Caller, Uri),
    Container(container): Container,
    Params(query): Params<ArchiveQuery>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    check_caller(caller, &containers, &tenant, &uri).await?;
    let path = query.absolute()?;
    match containers.upload(&tenant, &container).await? {
        Upload::Input(builder) => {
            let archive = spool(body, &store, Limits::default().bytes).await?;
            builder.put(path, archive).await?;
        }
        Upload::Files(chaincode) => {
            let archive = secret(body, ChaincodeFiles::LIMIT).await?;
            chaincode.put(path, archive).await?;
        }
    }
    Ok(StatusCode::OK)
}

/// `GET` and `HEAD /containers/{id}/archive?path=`. The length is told, so that a client can see when the
/// connection broke (protocol rule 16).
pub(super) async fn get(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    (caller, uri): (Caller, Uri),
    Container(container): Container,
    Params(query): Params<ArchiveQuery>,
) -> Result<Response, ApiError> {
    check_caller(caller, &containers, &tenant, &uri).await?;
    let path = query.absolute()?;
    let (blob, file) = containers.get_archive(&tenant, &container, path).await?;
    let content = tokio::fs::File::from_std(file).take(blob.size);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-tar"),
        ),
        (header::CONTENT_LENGTH, blob.size.into()),
        (PATH_STAT, path_stat(jiff::Timestamp::now())),
    ];
    let body = Body::from_stream(ReaderStream::with_capacity(content, CHUNK));
    Ok((headers, body).into_response())
}
