//! Requests to the engine: each with a bound, and passing faults repeated (design D18). The other files of the runtime
//! hand it what to send; nothing else retries.

use std::future::Future;
use std::io;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::time::{Instant, timeout};

use crate::runtime::Error;
use crate::telemetry;

/// How long passing faults are repeated.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same before Peitho serves: who starts both may start the engine a little later.
const PATIENCE_AT_START: Duration = Duration::from_secs(15);

/// The longest a single attempt may take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// A question, or an order that the engine carries out at once.
    Short,
    /// Something that moves bytes, or ends a process.
    Long,
    /// A pull: the engine decides.
    Pull,
}

impl Bound {
    fn duration(self) -> Duration {
        match self {
            Self::Short => Duration::from_secs(20),
            Self::Long => Duration::from_secs(5 * 60),
            Self::Pull => Duration::from_secs(30 * 60),
        }
    }
}

/// Why a request failed for good.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine answered, and will answer the same again.
    Status {
        /// The status of HTTP.
        code: u16,
        /// The engine's words.
        message: String,
    },
    /// It did not answer, or only with passing faults: the last one.
    Away(String),
}

impl Failure {
    /// There is no such container.
    pub(super) fn is_no_container(&self) -> bool {
        matches!(self, Self::Status { code: 404, message } if message.contains("No such container"))
    }

    /// There is no such image.
    pub(super) fn is_no_image(&self) -> bool {
        matches!(self, Self::Status { code: 404, message } if message.to_ascii_lowercase().contains("no such image"))
    }

    /// The name is taken, or the container is being removed.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409, .. })
    }
}

/// The engine, as far as asking goes.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// The endpoint, for messages.
    place: String,
    patience: Duration,
}

impl Requests {
    /// Repeats passing faults of the engine at `place`.
    pub(super) fn to(place: &str) -> Self {
        Self {
            place: place.to_owned(),
            patience: PATIENCE,
        }
    }

    /// The same, for the start.
    pub(super) fn at_start(&self) -> Self {
        Self {
            patience: PATIENCE_AT_START,
            ..self.clone()
        }
    }

    /// What `send` gives, repeated while it fails for a passing reason. `send` must be harmless when its first reply
    /// was lost.
    pub(super) async fn call<T, F, Fut>(&self, bound: Bound, mut send: F) -> Result<T, Failure>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let until = Instant::now() + self.patience;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .with_jitter();
        (|| self.once(bound, send()))
            .retry(backoff)
            .when(|failure| matches!(failure, Failure::Away(_)) && Instant::now() < until)
            .notify(|failure, after| {
                if let Failure::Away(cause) = failure {
                    tracing::debug!(cause, ?after, "asking the Docker Engine again");
                }
            })
            .await
    }

    /// One attempt, for what asks again by itself.
    pub(super) async fn once<T>(
        &self,
        bound: Bound,
        sent: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Failure> {
        let bound = bound.duration();
        match telemetry::elsewhere(timeout(bound, sent)).await {
            Ok(result) => result.map_err(failure),
            Err(_) => Err(Failure::Away(format!(
                "no answer within {} s",
                bound.as_secs()
            ))),
        }
    }

    /// The error for the caller, where `what` says what was attempted on which object.
    pub(super) fn error(&self, failure: Failure, what: &str) -> Error {
        match failure {
            Failure::Away(cause) => self.unavailable(&format!("{what}: {cause}")),
            Failure::Status { message, .. } => Error::Refused(format!("{what}: {message}")),
        }
    }

    /// The engine cannot be reached.
    pub(super) fn unavailable(&self, cause: &str) -> Error {
        Error::Unavailable(format!(
            "the Docker Engine at {} does not answer: {cause}",
            self.place
        ))
    }
}

fn failure(error: bollard::errors::Error) -> Failure {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => {
            let message = one_line(&message);
            match status_code {
                // From a proxy before the engine, or an engine that shuts down.
                429 | 502..=504 => Failure::Away(message),
                code => Failure::Status { code, message },
            }
        }
        Error::DockerStreamError { error } => Failure::Status {
            code: 500,
            message: one_line(&error),
        },
        Error::IOError { err } if err.kind() == io::ErrorKind::PermissionDenied => {
            let message = format!(
                "{err}; Peitho needs the right to use the socket: it is root's, or of the group docker"
            );
            Failure::Status { code: 403, message }
        }
        // TLS that does not come about will not by itself: a certificate that is not trusted, or none where one is wanted.
        Error::IOError { err } if err.kind() == io::ErrorKind::InvalidData => Failure::Status {
            code: 495,
            message: one_line(&err.to_string()),
        },
        Error::IOError { err } => Failure::Away(one_line(&err.to_string())),
        error @ (Error::HyperResponseError { .. } | Error::RequestTimeoutError) => {
            Failure::Away(one_line(&error.to_string()))
        }
        other => Failure::Status {
            code: 500,
            message: one_line(&other.to_string()),
        },
    }
}

fn one_line(text: &str) -> String {
    text.trim().replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn impatient() -> Requests {
        Requests {
            patience: Duration::from_millis(300),
            ..Requests::to("unix:///d.sock")
        }
    }

    fn away() -> bollard::errors::Error {
        io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused").into()
    }

    fn answer(status_code: u16) -> bollard::errors::Error {
        bollard::errors::Error::DockerResponseServerError {
            status_code,
            message: "words\n".to_owned(),
        }
    }

    #[tokio::test]
    async fn passing_faults_are_repeated_and_answers_are_not() {
        let calls = AtomicUsize::new(0);
        let result = impatient()
            .call(Bound::Short, || {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                async move {
                    match call {
                        0 => Err(away()),
                        1 => Err(answer(503)),
                        _ => Ok(()),
                    }
                }
            })
            .await;
        assert!(result.is_ok());
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        for code in [400, 404, 409, 500] {
            let calls = AtomicUsize::new(0);
            let result: Result<(), _> = impatient()
                .call(Bound::Short, || {
                    calls.fetch_add(1, Ordering::Relaxed);
                    async move { Err(answer(code)) }
                })
                .await;
            let Err(Failure::Status {
                code: told,
                message,
            }) = result
            else {
                panic!("{code}");
            };
            assert_eq!((told, message.as_str()), (code, "words"));
            assert_eq!(calls.load(Ordering::Relaxed), 1, "{code}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_stays_away_is_named_with_the_cause() {
        let requests = impatient();
        let result: Result<(), _> = requests.call(Bound::Short, || async { Err(away()) }).await;
        let error = requests.error(result.unwrap_err(), "asking its version");
        assert_eq!(
            error.to_string(),
            "the Docker Engine at unix:///d.sock does not answer: asking its version: connection refused"
        );
    }

    #[test]
    fn a_socket_that_may_not_be_opened_is_no_passing_fault() {
        let denied = io::Error::new(io::ErrorKind::PermissionDenied, "permission denied");
        let failure = failure(denied.into());
        assert!(
            matches!(&failure, Failure::Status { code: 403, message } if message.contains("group docker"))
        );
    }
}
