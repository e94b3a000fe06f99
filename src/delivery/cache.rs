//! The agent's way to its compiler's cache: what there is, its parts, and what a compile adds. The run decides whose cache that is,
//! not the request; `compile` has the rules.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::upload::{authorized, cut};
use super::{Delivery, Kind};
use crate::archive::{Extent, MAGIC};
use crate::compile::{Fared, Told};
use crate::names::Digest;
use crate::store::{self, Blob};

/// After so many bytes it is looked again whether the volume has room for more of what makes way first.
const LOOK: u64 = 16 << 20;

pub(super) fn routes() -> Router<Delivery> {
    Router::new()
        .route("/compile/{key}/cache", get(plan))
        .route("/compile/{key}/cache", put(gained))
        .route("/compile/{key}/cache/{digest}", get(part).delete(damaged))
}

/// What the agent is to do: see [`crate::compile::Plan`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    parts: Vec<Blob>,
    give: Option<Extent>,
    most: u64,
    give_most: u64,
    patience_ms: u64,
}

async fn plan(
    State(delivery): State<Delivery>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let key = authorized(&delivery, &headers, &key)?;
    let Some(plan) = delivery.compiles.cache_plan(&key).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let answer = Answer {
        parts: plan.increments,
        give: plan.give,
        most: plan.most,
        give_most: plan.give_most,
        patience_ms: plan.patience.as_millis() as u64,
    };
    Ok(Json(answer).into_response())
}

async fn part(
    State(delivery): State<Delivery>,
    Path((key, digest)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let key = authorized(&delivery, &headers, &key)?;
    let (file, blob) = delivery.compiles.increment(&key, &parsed(&digest)?).await?;
    Ok(delivery.download(file, blob.size, Kind::Cache))
}

async fn damaged(
    State(delivery): State<Delivery>,
    Path((key, digest)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let key = authorized(&delivery, &headers, &key)?;
    let digest = parsed(&digest)?;
    let noted = delivery.compiles.increment_is_damaged(&key, &digest);
    noted.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// How the agent fared, and what comes in the body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gained {
    fared: Fared,
    fetch_ms: u64,
    extent: Extent,
}

/// A body of nothing says that there is nothing to keep.
async fn gained(
    State(delivery): State<Delivery>,
    Path(key): Path<String>,
    Query(gained): Query<Gained>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, Failure> {
    let key = authorized(&delivery, &headers, &key)?;
    let told = Told {
        fared: gained.fared,
        fetch_ms: gained.fetch_ms,
        extent: gained.extent,
    };
    let coming = delivery.compiles.increment_comes(&key, told)?;
    let mut ingest = delivery.store.ingest().await?;
    let mut looked_at = 0;
    let mut begins = MAGIC.iter();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::invalid(cut(&error)))?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        let length = ingest.len() + bytes.len() as u64;
        if length > coming.most {
            return Err(Failure::too_large(format!(
                "the compiler's cache of compile {key}: more than {} bytes",
                coming.most
            )));
        }
        // By what they begin with, nobody brings the bytes of a layer, of which another tenant's image may be about to need them.
        let compared = begins.len().min(bytes.len());
        if !begins.by_ref().take(compared).eq(&bytes[..compared]) {
            return Err(Failure::invalid(format!(
                "the compiler's cache of compile {key}: it does not begin as one does"
            )));
        }
        if length >= looked_at {
            looked_at = length + LOOK;
            has_room(&delivery.store).await?;
        }
        ingest.append(&bytes).await?;
        delivery
            .counters
            .gained_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    if !ingest.is_empty() && begins.len() > 0 {
        return Err(Failure::invalid(format!(
            "the compiler's cache of compile {key}: it ends before it has begun"
        )));
    }
    delivery.compiles.keep_increment(coming, ingest).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn has_room(store: &store::Store) -> Result<(), Failure> {
    match store.room().await?.is_little() {
        false => Ok(()),
        true => Err(Failure::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "STORE",
            "the store's volume is nearly full, so that no compiler's cache is kept",
        )),
    }
}

fn parsed(digest: &str) -> Result<Digest, Failure> {
    let parsed = digest.parse();
    parsed.map_err(|error| Failure::invalid(format!("{error}")))
}
