//! `docker logs`: output of the past by the line, and what follows. Unlike `attach`, which peers use, it is always framed, and
//! waits for no start.

use std::str::FromStr;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use http::header;
use jiff::Timestamp;
use serde::Deserialize;

use super::error::ApiError;
use super::prefix::ApiVersion;
use super::stdcopy::Framing;
use super::types::{Container, Params, switch};
use crate::container::{Containers, Reading, Stamps};
use crate::listener::Departure;
use crate::names::Tenant;
use crate::runtime::{Extent, LineQuery};

/// The type of frames from API 1.42 on, and before it.
const FRAMES: &str = "application/vnd.docker.multiplexed-stream";
const FRAMES_OF_OLD: &str = "application/vnd.docker.raw-stream";

/// The query.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct LogsQuery {
    #[serde(deserialize_with = "switch")]
    follow: bool,
    #[serde(deserialize_with = "switch")]
    stdout: bool,
    #[serde(deserialize_with = "switch")]
    stderr: bool,
    #[serde(deserialize_with = "switch")]
    timestamps: bool,
    since: String,
    until: String,
    tail: String,
}

impl TryFrom<LogsQuery> for Reading {
    type Error = ApiError;

    fn try_from(query: LogsQuery) -> Result<Self, ApiError> {
        // All output is one stream here: either asks for it.
        if !query.stdout && !query.stderr {
            return Err(ApiError::bad_request(
                "Bad parameters: you must choose at least one stream",
            ));
        }
        Ok(Self {
            lines: LineQuery {
                extent: match query.follow {
                    true => Extent::Follow,
                    false => Extent::Present,
                },
                // What is no number means all, as in Docker.
                tail: query.tail.parse().ok(),
                since: time("since", &query.since)?,
            },
            until: time("until", &query.until)?,
            stamps: match query.timestamps {
                true => Stamps::Shown,
                false => Stamps::None,
            },
        })
    }
}

/// As [`moment`], where 0 is none too: so Docker reads the times of logs.
fn time(name: &str, text: &str) -> Result<Option<Timestamp>, ApiError> {
    let read = moment(name, text)?;
    Ok(read.filter(|time| *time != Timestamp::UNIX_EPOCH))
}

/// Seconds since the Unix epoch with up to nine digits behind a point; empty is none. The `docker` command makes these of what
/// people write.
pub(super) fn moment(name: &str, text: &str) -> Result<Option<Timestamp>, ApiError> {
    let wrong = || {
        let text: String = text.chars().take(200).collect();
        ApiError::bad_request(format!(
            "{name}: {text:?} is no number of seconds since 1970, such as 1767225600.5"
        ))
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.is_empty() {
        return Ok(None);
    }
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds = i64::from_str(seconds).map_err(|_| wrong())?;
    let nanos = i32::from_str(&format!("{fraction:0<9}")).map_err(|_| wrong())?;
    Timestamp::new(seconds, nanos)
        .map(Some)
        .map_err(|_| wrong())
}

/// `GET /containers/{id}/logs`.
pub(super) async fn logs(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Extension(version): Extension<ApiVersion>,
    Extension(client): Extension<Departure>,
    Container(container): Container,
    Params(query): Params<LogsQuery>,
) -> Result<Response, ApiError> {
    let output = containers
        .read(&tenant, &container, query.try_into()?)
        .await?;
    let frames = output.map(move |piece| {
        piece
            .map(|bytes: Bytes| Framing::Multiplexed.encode(bytes))
            .inspect_err(|error| {
                tracing::warn!(%container, %error, "logs: the output cannot be read further");
            })
    });
    // Nobody writes to one who is gone, so nobody would notice.
    let frames = frames.take_until(Box::pin(async move { client.seen().await }));
    let kind = match version {
        ApiVersion(Some(version)) if version < (1, 42) => FRAMES_OF_OLD,
        _ => FRAMES,
    };
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(frames)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_with_a_fraction() {
        let read = |text| time("since", text).unwrap().map(|time| time.to_string());
        assert_eq!(read("1767225600").unwrap(), "2026-01-01T00:00:00Z");
        assert_eq!(read("1767225600.5").unwrap(), "2026-01-01T00:00:00.5Z");
        assert_eq!(
            read("1767225600.000000007").unwrap(),
            "2026-01-01T00:00:00.000000007Z"
        );
        for none in ["", "0", "0.000000000"] {
            assert_eq!(read(none), None, "{none}");
        }
        // Of events 0 is a time as any other.
        let epoch = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(moment("until", "0").unwrap(), epoch);
        assert_eq!(moment("until", "").unwrap(), None);
        for wrong in ["x", "1.x", "1.0000000001", "2026-01-01", "99999999999999"] {
            assert!(time("since", wrong).is_err(), "{wrong}");
        }
    }
}
