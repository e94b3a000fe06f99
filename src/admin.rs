//! What operators and probes ask (design D17): liveness, readiness, metrics, and a page that lists them. `serve`
//! puts the router on a listener of its own and hands in the checks. Of the other parts it knows what they count,
//! and nothing else.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

mod health;
mod metrics;
mod spares;

use crate::compile::Parts;
use crate::delivery::Counters;
use crate::engine_api::metrics::Requests;
use crate::listener::tls::Expiry;
use crate::runtime::Spares;

pub use health::{Bearing, Check};
use metrics::Metrics;

/// What the listener shows.
#[derive(Debug)]
pub struct Admin {
    /// What readiness depends on, in the order of the answer.
    pub checks: Vec<Check>,
    /// Counts of the Engine API.
    pub requests: Requests,
    /// Counts of the delivery API.
    pub counters: Arc<Counters>,
    /// What compiles take.
    pub parts: Parts,
    /// Of the Engine API's certificate, where it has one.
    pub expiry: Option<Expiry>,
    /// Pods that are made ahead of need.
    pub spares: Spares,
}

const INDEX: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<title>Peitho</title>\n<h1>Peitho ",
    env!("CARGO_PKG_VERSION"),
    "</h1>\n<ul>\n",
    "<li><a href=\"/livez\">/livez</a>: the process answers</li>\n",
    "<li><a href=\"/readyz\">/readyz</a>: what it needs is there</li>\n",
    "<li><a href=\"/metrics\">/metrics</a>: figures in the OpenMetrics format</li>\n",
    "</ul>\n</html>\n",
);

/// The router of the admin listener.
pub fn router(admin: Admin) -> Router {
    let mut metrics = Metrics::new();
    metrics.add(&admin.requests, admin.counters, &admin.parts, admin.expiry);
    metrics.add_spares(admin.spares);
    Router::new()
        .route("/", get(async || Html(INDEX)))
        // Depends on nothing: a pod is not cured of an absent API server by a restart (design D10).
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", health::route(admin.checks))
        .route("/metrics", get(exposition).with_state(Arc::new(metrics)))
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            let message = format!("the metrics cannot be written: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn fetch(checks: Vec<Check>, path: &str, accept: &str) -> (StatusCode, String, String) {
        let request = Request::get(path)
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .unwrap();
        let admin = Admin {
            checks,
            requests: Requests::default(),
            counters: Arc::default(),
            parts: Parts::default(),
            expiry: Some(Expiry::default()),
            spares: Spares::default(),
        };
        let response = router(admin).oneshot(request).await.unwrap();
        let kind = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    fn checks(runtime: Result<(), &'static str>) -> Vec<Check> {
        vec![
            Check::new("store", Bearing::Everyone, async || Ok(())),
            Check::new("runtime", Bearing::Everyone, move || async move {
                runtime.map_err(str::to_owned)
            }),
        ]
    }

    #[tokio::test]
    async fn alive_while_nothing_is_ready() {
        let (status, _, body) = fetch(checks(Err("away")), "/livez", "*/*").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "ok\n"));
    }

    #[tokio::test]
    async fn ready_when_every_check_passes() {
        let (status, _, body) = fetch(checks(Ok(())), "/readyz", "*/*").await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::OK, "store: ok\nruntime: ok\n")
        );
    }

    #[tokio::test]
    async fn not_ready_with_the_reason() {
        let (status, _, body) = fetch(checks(Err("no route to host")), "/readyz", "*/*").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "store: ok\nruntime: no route to host\n");
    }

    #[tokio::test]
    async fn machines_get_json() {
        let (status, kind, body) = fetch(checks(Err("away")), "/readyz", "application/json").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(kind, "application/json");
        assert_eq!(
            body,
            r#"{"ready":false,"checks":[{"name":"store","ready":true},{"name":"runtime","ready":false,"reason":"away"}]}"#
        );
    }

    #[tokio::test]
    async fn metrics_are_openmetrics() {
        let (status, kind, body) = fetch(checks(Ok(())), "/metrics", "*/*").await;
        assert_eq!(status, StatusCode::OK);
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        assert!(body.ends_with("# EOF\n"), "{body}");
        assert!(
            body.contains(concat!(
                "peitho_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            )),
            "{body}"
        );
    }

    #[tokio::test]
    async fn the_page_lists_the_rest() {
        let (_, _, body) = fetch(checks(Ok(())), "/", "text/html").await;
        for path in ["/livez", "/readyz", "/metrics"] {
            assert!(body.contains(path));
        }
    }

    #[tokio::test]
    async fn every_metric_has_a_row_in_the_documentation() {
        let page = include_str!("../docs/metrics.md");
        let (_, _, body) = fetch(checks(Ok(())), "/metrics", "*/*").await;
        let metrics = body.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut seen = 0;
        for line in metrics {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let row = format!("| `{name}{suffix}` | {kind} |");
            assert!(page.contains(&row), "docs/metrics.md has no row {row}");
            seen += 1;
        }
        assert!(seen > 6, "{body}");
    }
}
