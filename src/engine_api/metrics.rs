//! One count, one duration and, for a failure, one log line for each request. `admin` registers [`Requests`];
//! labels come from the router and from fixed texts, so that there are only so many of them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use tracing::Instrument;

use super::error::Failure;
use super::unsupported;
use crate::listener::Remote;
use crate::names::Tenant;
use crate::telemetry;

/// Of every path and method that is not in the router.
const UNKNOWN: &str = "unknown";

/// Of every request that Docker would serve and Peitho does not.
const UNSUPPORTED: &str = "unsupported";

/// Characters; the longest names of containers have some 250.
const SHOWN: usize = 300;

/// From a millisecond to more than an hour: a ping, and a build.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 12))
}

/// What the Engine API counts; clones share the counts.
#[derive(Clone, Debug)]
pub struct Requests {
    total: Family<TotalLabels, Counter>,
    seconds: Family<SecondsLabels, Histogram>,
    platform: Family<SecondsLabels, Counter<f64, AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TotalLabels {
    /// Method and path as the router has it: `POST /containers/{id}/start`, or `unknown`, or `unsupported`.
    endpoint: Arc<str>,
    /// `2xx`, `4xx` …
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SecondsLabels {
    endpoint: Arc<str>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            total: Family::default(),
            seconds: Family::new_with_constructor(buckets as fn() -> Histogram),
            platform: Family::default(),
        }
    }
}

impl Requests {
    /// Puts `engine_api_requests_total`, `engine_api_request_duration_seconds` and `engine_api_platform_seconds_total` into
    /// `registry`. A duration is that from a request's head to its answer's: attach and the heartbeats of wait go on after
    /// it. What of it is not the platform's is Peitho's own, or waiting for a process to end.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "engine_api_requests",
            "Requests of the Docker Engine API by endpoint and class of status",
            self.total.clone(),
        );
        registry.register(
            "engine_api_request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            self.seconds.clone(),
        );
        registry.register_with_unit(
            "engine_api_platform",
            "Time of these requests in which one of their own to Kubernetes or a Docker Engine was under way",
            Unit::Seconds,
            self.platform.clone(),
        );
    }

    fn record(&self, endpoint: Arc<str>, status: StatusCode, started: Instant, platform: Duration) {
        let labels = SecondsLabels {
            endpoint: Arc::clone(&endpoint),
        };
        self.platform
            .get_or_create(&labels)
            .inc_by(platform.as_secs_f64());
        self.seconds
            .get_or_create(&labels)
            .observe(started.elapsed().as_secs_f64());
        let status = class(status);
        self.total
            .get_or_create(&TotalLabels { endpoint, status })
            .inc();
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// The layer around all handlers: counts, gives the request an id, and logs a failure once.
pub(super) async fn observe(
    State(requests): State<Requests>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let id = format!("{:016x}", rand::random::<u64>());
    let span = span(&request, &id);
    let answered = telemetry::accounted(next.run(request).instrument(span.clone()));
    let (mut response, platform) = answered.await;
    let status = response.status();
    let endpoint = endpoint(&method, route.as_ref(), status);
    requests.record(endpoint, status, started, platform);
    let _entered = span.entered();
    log(&response, started);
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// Not the query: what it holds is in the lines of those who understand it.
fn span(request: &Request, id: &str) -> tracing::Span {
    let extensions = request.extensions();
    let tenant = extensions.get::<Tenant>().map(tracing::field::display);
    let remote = extensions.get::<Remote>().map(tracing::field::display);
    let [method, path] = [request.method().as_str(), request.uri().path()].map(shown);
    tracing::info_span!("request", %id, method, path, tenant, remote)
}

/// As much of a client's text as a line takes.
fn shown(text: &str) -> &str {
    text.char_indices()
        .nth(SHOWN)
        .map_or(text, |(end, _)| &text[..end])
}

fn endpoint(method: &Method, route: Option<&MatchedPath>, status: StatusCode) -> Arc<str> {
    match route {
        _ if status == unsupported::STATUS => UNSUPPORTED.into(),
        // What is refused before it is routed by its method may have any: a method is a word of the client's.
        Some(route) if status != StatusCode::METHOD_NOT_ALLOWED && is_common(method) => {
            format!("{method} {}", route.as_str()).into()
        }
        _ => UNKNOWN.into(),
    }
}

/// Whether the router has it for any path.
fn is_common(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method)
}

fn log(response: &Response, started: Instant) {
    let status = response.status().as_u16();
    let duration_ms = started.elapsed().as_millis() as u64;
    match response.extensions().get::<Failure>() {
        None => tracing::debug!(status, duration_ms, "engine api: answered"),
        // Each launch begins with stop, kill and rm of what is not there (protocol §3.5).
        Some(Failure { kind, chain }) if status == 404 => {
            tracing::debug!(status, duration_ms, error.kind = kind, error = %chain, "engine api: not found");
        }
        Some(Failure { kind, chain })
            if status < 500 || response.status() == unsupported::STATUS =>
        {
            tracing::info!(status, duration_ms, error.kind = kind, error = %chain, "engine api: refused");
        }
        Some(Failure { kind, chain }) => {
            tracing::warn!(status, duration_ms, error.kind = kind, error = %chain, "engine api: failed");
        }
    }
}
