//! `docker events`: what happened lately and what happens, one JSON object a line, until the client goes or its time is over.
//! Who reads too slowly is told in between how much it lost.

use std::convert::Infallible;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use http::header;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::filters::Filters;
use super::logs::time;
use super::types::Params;
use crate::container::Containers;
use crate::events::{Action, Dated, Extent, Heard, Kind};
use crate::listener::Departure;
use crate::names::Tenant;

/// Docker's filters. Those of kinds that never come here fit by id or name alone, as with Docker.
const KNOWN: &[&str] = &[
    "event",
    "type",
    "scope",
    "label",
    "image",
    "container",
    "daemon",
    "network",
    "volume",
    "plugin",
    "service",
    "node",
    "secret",
    "config",
];

/// Docker's name of all that is not of a swarm.
const SCOPE: &str = "local";

/// The query.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct EventsQuery {
    since: String,
    until: String,
    filters: String,
}

/// `GET /events`.
pub(super) async fn events(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Extension(client): Extension<Departure>,
    Params(query): Params<EventsQuery>,
) -> Result<Response, ApiError> {
    let extent = Extent {
        since: time("since", &query.since)?,
        until: time("until", &query.until)?,
    };
    if let (Some(since), Some(until)) = (extent.since, extent.until)
        && until < since
    {
        return Err(ApiError::bad_request(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let filters = Filters::read(&query.filters, KNOWN)?;
    let lines = containers.events().listen(&tenant, extent);
    let lines = lines.filter_map(move |heard| std::future::ready(line(&heard, &filters)));
    // Nobody writes to one who is gone, so nobody would notice.
    let lines = lines.take_until(Box::pin(async move { client.seen().await }));
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// What goes to the client; `None` for what it did not ask for.
fn line(heard: &Heard, filters: &Filters) -> Option<Bytes> {
    let value = match heard {
        Heard::Event(dated) => fits(dated, filters).then(|| told(dated))?,
        Heard::Lost(count) => lost(*count),
    };
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    Some(line.into())
}

fn fits(Dated { event, .. }: &Dated, filters: &Filters) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map_or("", String::as_str);
    let image = match event.kind {
        Kind::Container => attribute("image"),
        Kind::Image => attribute("name"),
    };
    let repository = image.rsplit_once(':').map_or(image, |(name, _)| name);
    let begins = |filter: &str| {
        filters.any(filter, |wanted| {
            event.id.starts_with(wanted) || attribute("name").starts_with(wanted)
        })
    };
    let known = ["event", "type", "scope", "label", "image"];
    filters.any("event", |wanted| wanted == action(event.action))
        && filters.any("type", |wanted| wanted == kind(event.kind))
        && filters.any("scope", |wanted| wanted == SCOPE)
        && filters.any("image", |wanted| {
            [image, repository, event.id.as_str()].contains(&wanted)
        })
        && filters.labels(&event.attributes)
        && KNOWN
            .iter()
            .filter(|name| !known.contains(name))
            .all(|name| begins(name))
}

/// An event in Docker's JSON, with the fields of old.
fn told(Dated { at, event }: &Dated) -> Value {
    let mut value = json!({
        "status": action(event.action),
        "id": event.id,
        "Type": kind(event.kind),
        "Action": action(event.action),
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": SCOPE,
        "time": at.as_second(),
        "timeNano": nanoseconds(*at),
    });
    if event.kind == Kind::Container
        && let Some(image) = event.attributes.get("image")
    {
        value["from"] = json!(image);
    }
    value
}

/// That so many events are not told: an event too, since a client takes nothing else.
fn lost(count: u64) -> Value {
    let now = Timestamp::now();
    json!({
        "Type": "daemon",
        "Action": "lost",
        "Actor": {
            "ID": "peitho",
            "Attributes": {
                "name": "peitho",
                "events": count.to_string(),
                "reason": "they came faster than this client read; docker ps -a shows what is",
            },
        },
        "scope": SCOPE,
        "time": now.as_second(),
        "timeNano": nanoseconds(now),
    })
}

/// Since 1970; what Go's `int64` holds, until the year 2262.
fn nanoseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Container => "container",
        Kind::Image => "image",
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Start => "start",
        Action::Kill => "kill",
        Action::Die => "die",
        Action::Stop => "stop",
        Action::Destroy => "destroy",
        Action::Tag => "tag",
        Action::Untag => "untag",
    }
}
