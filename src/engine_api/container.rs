//! Containers on the wire: create, start, wait, stop, kill, remove.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::{Stream, stream};
use http::{StatusCode, header};
use serde::Deserialize;
use tokio::time::{Instant, Interval, interval_at};

use super::body::json;
use super::error::ApiError;
use super::types::create::CreateBody;
use super::types::{Caller, Container, Created, Params, WaitError, Waited, switch};
use crate::container::{self, Containers, Waiting};
use crate::listener::Departure;
use crate::names::{ContainerRef, Tenant};
use crate::runtime::{Exit, Outcome};

/// Between two spaces of an open `wait`: below the idle timeouts of the proxies that people have.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// What was removed while somebody waited for it was killed.
const KILLED: i64 = 137;

/// Docker's own code for "the engine failed", not the process.
const ENGINE_FAILED: i64 = 125;

/// The query of create.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CreateQuery {
    /// Empty: a builder.
    name: String,
}

/// `POST /containers/create`.
pub(super) async fn create(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Params(query): Params<CreateQuery>,
    body: Body,
) -> Result<Response, ApiError> {
    let body: CreateBody = json(body).await?;
    let name = match query.name.as_str() {
        "" => None,
        name => match name.parse()? {
            ContainerRef::Name(name) => Some(name),
            ContainerRef::Id(_) => {
                return Err(ApiError::bad_request(
                    "name: 64 hexadecimal digits are an id, not a name",
                ));
            }
        },
    };
    let id = containers.create(&tenant, name, body.try_into()?).await?;
    let created = Created { id, warnings: [] };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

/// `POST /containers/{id}/start`.
pub(super) async fn start(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Container(container): Container,
) -> Result<StatusCode, ApiError> {
    containers
        .start(&tenant, &container)
        .await
        .map(status)
        .map_err(ApiError::from)
}

/// `POST /containers/{id}/stop`. Its `t` has no effect: a chaincode pod has one second (design D8).
pub(super) async fn stop(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Container(container): Container,
) -> Result<StatusCode, ApiError> {
    containers
        .stop(&tenant, &container)
        .await
        .map(status)
        .map_err(ApiError::from)
}

/// The query of kill.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct KillQuery {
    /// A name with or without `SIG`, or a number; empty for KILL. Peers send none.
    signal: String,
}

/// Signals after which a process is over. Another would be a message to it, and cannot be passed on.
const ENDING: &[&str] = &["", "KILL", "9", "TERM", "15", "INT", "2", "QUIT", "3"];

/// `POST /containers/{id}/kill`. The process ends as with stop.
pub(super) async fn kill(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Container(container): Container,
    Params(query): Params<KillQuery>,
) -> Result<StatusCode, ApiError> {
    let signal = query.signal.to_ascii_uppercase();
    if !ENDING.contains(&signal.strip_prefix("SIG").unwrap_or(&signal)) {
        let signal: String = query.signal.chars().take(20).collect();
        return Err(ApiError::unsupported(
            &format!("docker kill with signal {signal}, which does not end the process"),
            None,
        ));
    }
    containers.kill(&tenant, &container).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The query of a removal.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RemoveQuery {
    #[serde(deserialize_with = "switch")]
    force: bool,
}

/// `DELETE /containers/{id}`. Always forced for peers, whatever `force` says: they leave it out where they mean it
/// (protocol §3.4). People who do not say so do not mean it.
pub(super) async fn remove(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    caller: Caller,
    Container(container): Container,
    Params(query): Params<RemoveQuery>,
) -> Result<StatusCode, ApiError> {
    match (caller, query.force) {
        (Caller::Person, false) => containers.remove_stopped(&tenant, &container).await?,
        _ => containers.remove(&tenant, &container).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

fn status(outcome: Outcome) -> StatusCode {
    match outcome {
        Outcome::Done => StatusCode::NO_CONTENT,
        Outcome::Already => StatusCode::NOT_MODIFIED,
    }
}

/// `POST /containers/{id}/wait`: the end of the process and its true code (protocol rule 15). Until it runs,
/// nothing goes out, since only a status can carry the reason why it never will; then the head, and a space
/// now and then. That its client has gone is told to `container` all the while: none of peers' clients sends FIN
/// on it before the answer (protocol §3.4: on attach alone), and Docker's own server takes one for the end too.
///
/// `condition` is not looked at: peers send none, and its values differ only for containers that run again.
pub(super) async fn wait(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Extension(client): Extension<Departure>,
    Container(container): Container,
) -> Result<Response, ApiError> {
    let running = containers.wait_running(&tenant, &container, client.seen());
    match running.await? {
        Waiting::Over(exit) => Ok(Json(Waited::from(exit)).into_response()),
        Waiting::Running => {
            let end = async move {
                let end = containers.wait_exit(&tenant, &container).await;
                let waited = waited(end, &container);
                serde_json::to_vec(&waited)
                    .expect("a number and a text are JSON")
                    .into()
            };
            let body = Body::from_stream(with_heartbeats(end, HEARTBEAT));
            Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
        }
    }
}

/// The end after the head went out, when a failure can no longer be a status. A code other than 0 it must be:
/// peers look at nothing else.
fn waited(end: Result<Exit, container::Error>, container: &ContainerRef) -> Waited {
    match end {
        Ok(exit) => exit.into(),
        Err(container::Error::NotFound(_)) => Exit { code: KILLED }.into(),
        Err(error) => {
            tracing::warn!(%container, %error, "wait: the end of a running container cannot be told");
            Waited {
                status_code: ENGINE_FAILED,
                error: Some(WaitError {
                    message: error.to_string(),
                }),
            }
        }
    }
}

/// Spaces until `end` is there, and then that: space before a value is no part of JSON, and all clients of peers
/// skip it (protocol §3.4).
fn with_heartbeats(
    end: impl Future<Output = Bytes> + Send + 'static,
    period: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    type Going = (Pin<Box<dyn Future<Output = Bytes> + Send>>, Interval);
    let beats = interval_at(Instant::now() + period, period);
    let going: Option<Going> = Some((Box::pin(end), beats));
    stream::unfold(going, |going| async move {
        let (mut end, mut beats) = going?;
        tokio::select! {
            end = &mut end => Some((Ok(end), None)),
            _ = beats.tick() => Some((Ok(Bytes::from_static(b" ")), Some((end, beats)))),
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn spaces_come_until_the_end_does() {
        let (ends, end) = oneshot::channel();
        let end = async { end.await.unwrap() };
        let mut body = Box::pin(with_heartbeats(end, Duration::from_millis(1)));
        for _ in 0..2 {
            assert_eq!(body.next().await.unwrap().unwrap(), " ");
        }
        ends.send(Bytes::from_static(b"{}")).unwrap();
        let rest: Vec<_> = body.map(Result::unwrap).collect().await;
        assert_eq!(rest.concat().trim_ascii_start(), b"{}");
    }

    #[test]
    fn after_the_head_a_failure_is_a_code() {
        let container: ContainerRef = "cc".parse().unwrap();
        let removed = waited(
            Err(container::Error::NotFound(container.clone())),
            &container,
        );
        assert_eq!(removed.status_code, 137);
        assert!(removed.error.is_none());
        let lost = container::Error::NeverStarted("gone".into());
        let lost = waited(Err(lost), &container);
        assert_eq!(lost.status_code, 125);
        assert_eq!(lost.error.unwrap().message, "gone");
    }
}
