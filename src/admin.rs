//! Health and metrics for operators.

use std::sync::Arc;

use axum::Router;
use futures::future::BoxFuture;

use crate::delivery::Counters;
use crate::engine_api::metrics::Requests;

type Probe = dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// One thing that readiness depends on.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    probe: Arc<Probe>,
}

impl Check {
    /// A check called `name`.
    pub fn new<F, A>(name: &'static str, probe: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            name,
            probe: Arc::new(move || Box::pin(probe())),
        }
    }
}

/// What the listener shows.
#[derive(Clone)]
pub struct Admin {
    /// Readiness.
    pub checks: Vec<Check>,
    /// Counts of the Engine API.
    pub requests: Requests,
    /// Counts of the delivery API.
    pub counters: Arc<Counters>,
}

/// The router.
pub fn router(admin: Admin) -> Router {
    let ready = move || {
        let checks = admin.checks.clone();
        async move {
            for check in checks {
                if let Err(error) = (check.probe)().await {
                    return (
                        http::StatusCode::SERVICE_UNAVAILABLE,
                        format!("{}: {error}", check.name),
                    );
                }
            }
            (http::StatusCode::OK, "ok".to_owned())
        }
    };
    Router::new()
        .route("/readyz", axum::routing::get(ready))
        .route("/livez", axum::routing::get(async || "ok"))
}
