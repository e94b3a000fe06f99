//! The way of an agent that waits in a container made ahead of need: what it is to compile, by a request that stays open until that is known,
//! and what its compiler kept, which it fetches meanwhile. From then on it is the agent of that compile, with a token for it. `compile` has the rules.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::failure::Failure;
use super::{Delivery, Kind};
use crate::grant::Grant;
use crate::names::{CompileKey, SpareId};
use crate::store::Blob;

pub(super) fn routes() -> Router<Delivery> {
    Router::new()
        .route("/spare/{id}/work", get(work))
        .route("/spare/{id}/work/{key}", put(accept))
        .route("/spare/{id}/cache", get(parts))
        .route("/spare/{id}/cache/{digest}", get(part))
}

/// What to compile.
#[derive(Serialize)]
struct Work {
    key: CompileKey,
    command: Vec<String>,
    /// What the agent of that compile shows.
    token: String,
}

/// What may be fetched ahead.
#[derive(Serialize)]
struct Parts {
    parts: Vec<Blob>,
    most: u64,
}

/// The spare that the path names, where the token is its own.
fn waiting(delivery: &Delivery, headers: &HeaderMap, id: &str) -> Result<SpareId, Failure> {
    let id = id
        .parse()
        .map_err(|error| Failure::invalid(format!("{error}")))?;
    delivery.may_wait(headers, &id)?;
    Ok(id)
}

async fn work(
    State(delivery): State<Delivery>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id = waiting(&delivery, &headers, &id)?;
    let Some(work) = delivery.compiles.work(&id).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let token = delivery.grants.issue(&Grant::Compile { key: work.key });
    let work = Work {
        key: work.key,
        command: work.command,
        token: token.expose_secret().to_owned(),
    };
    Ok(Json(work).into_response())
}

async fn accept(
    State(delivery): State<Delivery>,
    Path((id, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id = waiting(&delivery, &headers, &id)?;
    let key = key
        .parse()
        .map_err(|error| Failure::invalid(format!("{error}")))?;
    delivery.compiles.accept_work(&id, &key)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn parts(
    State(delivery): State<Delivery>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id = waiting(&delivery, &headers, &id)?;
    let Some((parts, most)) = delivery.compiles.parts_ahead(&id).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    Ok(Json(Parts { parts, most }).into_response())
}

async fn part(
    State(delivery): State<Delivery>,
    Path((id, digest)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id = waiting(&delivery, &headers, &id)?;
    let digest = digest
        .parse()
        .map_err(|error| Failure::invalid(format!("{error}")))?;
    let (file, blob) = delivery.compiles.part_ahead(&id, &digest).await?;
    Ok(delivery.download(file, blob.size, Kind::Cache))
}
