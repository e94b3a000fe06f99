//! The agent's half: a compile's input goes out; its log, output and exit code come in. A compile that is not
//! known here is a 404, and the agent keeps trying: Peitho may have restarted, and the next install of the
//! package joins the run (design D7).

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::{Delivery, Kind};
use crate::archive::Limits;
use crate::compile::{Lack, ReportError, Took};
use crate::names::CompileKey;

/// Bytes of log in one request at the most; the agent sends batches of up to this size.
const LOG_BATCH: usize = 1 << 20;

/// Bytes of `{"code":n}` at the most.
const EXIT_REPORT: usize = 1 << 10;

pub(super) fn routes() -> Router<Delivery> {
    Router::new()
        .route("/compile/{key}/input", get(input))
        .route("/compile/{key}/log", put(log))
        .route("/compile/{key}/output", put(output))
        .route("/compile/{key}/exit", put(exit))
}

#[derive(Deserialize)]
struct Offset {
    offset: u64,
}

#[derive(Serialize)]
struct Length {
    length: u64,
}

#[derive(Deserialize)]
struct Exit {
    code: i64,
    /// What the command ran out of.
    lack: Option<Lack>,
    /// What took how long.
    #[serde(default)]
    took: Took,
}

/// The compile that the path names, where the token is its own.
pub(super) fn authorized(
    delivery: &Delivery,
    headers: &HeaderMap,
    key: &str,
) -> Result<CompileKey, Failure> {
    let key = key
        .parse()
        .map_err(|error| Failure::invalid(format!("{error}")))?;
    delivery.may_report(headers, &key)?;
    Ok(key)
}

async fn input(
    State(delivery): State<Delivery>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let key = authorized(&delivery, &headers, &key)?;
    let Some(archive) = delivery.compiles.input(&key)? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    Ok(delivery.download(archive.reader()?, archive.len(), Kind::Input))
}

async fn log(
    State(delivery): State<Delivery>,
    Path(key): Path<String>,
    Query(Offset { offset }): Query<Offset>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let key = authorized(&delivery, &headers, &key)?;
    let bytes = collect(body, LOG_BATCH).await?;
    delivery
        .counters
        .log_bytes
        .fetch_add(bytes.len() as u64, Ordering::Relaxed);
    // A task of its own: hyper drops this future when the agent's connection breaks, and an append that
    // was written but not counted would be written twice.
    let compiles = delivery.compiles.clone();
    let appended = tokio::spawn(async move { compiles.append_log(&key, offset, &bytes).await });
    match appended.await.map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "LOG",
            format!("the log of compile {key} was not written: {error}"),
        )
    })? {
        Ok(length) => Ok(Json(Length { length }).into_response()),
        Err(ReportError::Offset { expected }) => {
            Ok((StatusCode::CONFLICT, Json(Length { length: expected })).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn output(
    State(delivery): State<Delivery>,
    Path(key): Path<String>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, Failure> {
    let key = authorized(&delivery, &headers, &key)?;
    // An agent of a compile that nobody waits for must not fill the disk.
    delivery.compiles.input(&key)?;
    let limit = Limits::default().bytes;
    let mut ingest = delivery.store.ingest().await?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::invalid(cut(&error)))?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        if ingest.len() + bytes.len() as u64 > limit {
            return Err(Failure::too_large(format!(
                "output of compile {key}: more than {limit} bytes"
            )));
        }
        ingest.append(&bytes).await?;
        delivery
            .counters
            .output_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    delivery.compiles.put_output(&key, ingest).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn exit(
    State(delivery): State<Delivery>,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let key = authorized(&delivery, &headers, &key)?;
    let report = collect(body, EXIT_REPORT).await?;
    let Exit { code, lack, took } = serde_json::from_slice(&report)
        .map_err(|error| Failure::invalid(format!("expected {{\"code\":n}}: {error}")))?;
    delivery.compiles.took(&key, took)?;
    match lack {
        None => delivery.compiles.exited(&key, code).await?,
        Some(lack) => delivery.compiles.ran_out(&key, code, lack).await?,
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, Failure> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::too_large(format!(
            "at most {limit} bytes in one request"
        ))),
        Err(error) => Err(Failure::invalid(cut(error.as_ref()))),
    }
}

pub(super) fn cut(error: &dyn std::error::Error) -> String {
    format!("the body ended early: {error}")
}
