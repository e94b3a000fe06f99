//! Readiness: named checks, asked anew at each request, all at once.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use futures::future::{BoxFuture, FutureExt as _, join_all};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;

/// Below the timeout of the probe in `deploy/deployment.yaml`, so that the reason is still heard.
const PATIENCE: Duration = Duration::from_secs(3);

/// A question and its answer: nothing, or the reason in one line.
type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Who cannot be served while a check fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// Nobody: peers are better sent elsewhere.
    Everyone,
    /// Some tenants. It is told, but peers of the others must still get here.
    Some,
}

/// One thing that must hold for Peitho to be of use.
pub struct Check {
    name: String,
    bearing: Bearing,
    probe: Probe,
    patience: Duration,
    /// Of the last answer: the log tells changes only.
    ready: AtomicBool,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

impl Check {
    /// A check called `name`. A probe that takes more than 3 s has failed.
    pub fn new<F>(
        name: impl Into<String>,
        bearing: Bearing,
        probe: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            name: name.into(),
            bearing,
            probe: Box::new(move || probe().boxed()),
            patience: PATIENCE,
            ready: AtomicBool::new(true),
        }
    }

    async fn answer(&self) -> Answer {
        let result = match tokio::time::timeout(self.patience, (self.probe)()).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} s", self.patience.as_secs())),
        };
        let ready = result.is_ok();
        let reason = result.err();
        if self.ready.swap(ready, Ordering::Relaxed) != ready {
            match &reason {
                Some(reason) => {
                    tracing::warn!(check = self.name, "not ready: {}: {reason}", self.name)
                }
                None => tracing::info!(check = self.name, "ready again: {}", self.name),
            }
        }
        Answer {
            name: self.name.clone(),
            bearing: self.bearing,
            ready,
            reason,
        }
    }
}

#[derive(Serialize)]
struct Answer {
    name: String,
    #[serde(skip)]
    bearing: Bearing,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Answers {
    ready: bool,
    checks: Vec<Answer>,
}

pub(super) fn route<S: Clone + Send + Sync + 'static>(checks: Vec<Check>) -> MethodRouter<S> {
    get(readiness).with_state(Arc::new(checks))
}

async fn readiness(State(checks): State<Arc<Vec<Check>>>, headers: HeaderMap) -> Response {
    let checks = join_all(checks.iter().map(Check::answer)).await;
    let mut decisive = checks.iter().filter(|it| it.bearing == Bearing::Everyone);
    let ready = decisive.all(|answer| answer.ready);
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if accept.is_some_and(|kinds| kinds.contains("application/json")) {
        return (status, Json(Answers { ready, checks })).into_response();
    }
    let line = |answer: &Answer| {
        format!(
            "{}: {}\n",
            answer.name,
            answer.reason.as_deref().unwrap_or("ok")
        )
    };
    (status, checks.iter().map(line).collect::<String>()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trouble_of_some_tenants_keeps_no_others_away() {
        let good = Check::new("store", Bearing::Everyone, async || Ok(()));
        let bad = Check::new("kubernetes/org1", Bearing::Some, async || {
            Err("pods is forbidden".to_owned())
        });
        let response = readiness(State(Arc::new(vec![good, bad])), HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = axum::body::to_bytes(response.into_body(), 1000).await;
        assert_eq!(
            body.unwrap(),
            "store: ok\nkubernetes/org1: pods is forbidden\n"
        );
    }

    #[tokio::test]
    async fn a_check_that_hangs_is_a_reason() {
        let mut check = Check::new("runtime", Bearing::Everyone, std::future::pending);
        check.patience = Duration::ZERO;
        let response = readiness(State(Arc::new(vec![check])), HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(response.into_body(), 1000)
            .await
            .unwrap();
        assert_eq!(body, "runtime: no answer within 0 s\n");
    }
}
