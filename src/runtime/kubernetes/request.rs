//! Requests to the API server: each with a bound, and passing faults repeated (design D18, failure table
//! "API server away 60 s"). The other files of the runtime hand it what to send; nothing else retries.
//!
//! kube's client has no read timeout, which watches need, so each attempt is bounded here; its own retries
//! are switched off in `connect`, so that there is one place that waits.

use std::error::Error as _;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use kube::Api;
use kube::api::PostParams;
use kube::core::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::runtime::Error;
use crate::telemetry;

/// The longest a single attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// For how long a quota may count what is gone: its controller hears of that, and admission of the new number, each a moment later.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);
/// How long passing faults are repeated.
const PATIENCE: Duration = Duration::from_secs(60);
/// For how long after its return an API server may refuse rights that it has not read yet: it answers before that.
const WARMING: Duration = Duration::from_secs(15);

/// Why a request failed for good.
#[derive(Debug)]
pub(super) enum Failure {
    /// The API server answered, and will answer the same again.
    Status(Box<Status>),
    /// It did not answer, or only with passing faults: the last one.
    Away(String),
}

impl Failure {
    /// The object is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status(status) if status.is_not_found())
    }

    /// The name is taken.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Status(status) if status.is_already_exists())
    }

    /// The object is not the one that was meant, or has changed: a precondition or a resourceVersion.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Status(status) if status.is_conflict())
    }

    /// A quota of the namespace is used up.
    pub(super) fn is_of_quota(&self) -> bool {
        // The API server tells this apart by its words alone: k8s.io/apiserver/pkg/admission/plugin/resourcequota.
        matches!(self, Self::Status(status) if status.code == 403 && status.message.contains("exceeded quota"))
    }

    /// The error for the caller, where `what` says what was attempted on which object.
    pub(super) fn into_error(self, what: &str) -> Error {
        match self {
            Self::Away(cause) => unavailable(&format!("{what}: {cause}")),
            Self::Status(status) => {
                let hint = match status.code {
                    401 => "; see whether the service account's token is valid",
                    403 if denies_rights(&status) => {
                        "; bind the Role of the deployment to Peitho's service account"
                    }
                    404 => "; see whether the namespace exists",
                    _ => "",
                };
                Error::Refused(format!("{what}: {}{hint}", words(&status)))
            }
        }
    }
}

/// The API server cannot be reached.
pub(super) fn unavailable(cause: &str) -> Error {
    Error::Unavailable(format!(
        "the Kubernetes API server does not answer: {cause}"
    ))
}

/// Sends requests, and remembers when the API server last answered, and when it last did not.
#[derive(Debug)]
pub(super) struct Requests {
    patience: Duration,
    answered: Mutex<Option<Instant>>,
    missed: Mutex<Option<Instant>>,
}

impl Default for Requests {
    fn default() -> Self {
        Self::with_patience(PATIENCE)
    }
}

impl Requests {
    /// Repeats passing faults for `patience`.
    pub(super) fn with_patience(patience: Duration) -> Self {
        Self {
            patience,
            answered: Mutex::new(None),
            missed: Mutex::new(None),
        }
    }

    /// What `send` gives, repeated while it fails for a passing reason. `send` must be harmless when its
    /// first reply was lost: a read, a delete of one UID, a create whose name arbitrates.
    pub(super) async fn call<T, F, Fut>(&self, mut send: F) -> Result<T, Failure>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = kube::Result<T>>,
    {
        let until = Instant::now() + self.patience;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .with_jitter();
        (|| self.once(send()))
            .retry(backoff)
            .when(|failure| matches!(failure, Failure::Away(_)) && Instant::now() < until)
            .notify(|failure, after| {
                if let Failure::Away(cause) = failure {
                    tracing::debug!(cause, ?after, "asking the API server again");
                }
            })
            .await
    }

    /// Creates `object`: its name arbitrates between attempts, and between askers.
    pub(super) async fn create<K>(&self, api: &Api<K>, object: &K) -> Result<K, Failure>
    where
        K: Clone + DeserializeOwned + Debug + Serialize,
    {
        let params = PostParams::default();
        self.call(|| async {
            match api.create(&params, object).await {
                // A quota that others change at the same moment: the second attempt decides.
                Err(kube::Error::Api(status))
                    if status.code == 409 && !status.is_already_exists() =>
                {
                    Err(kube::Error::Api(
                        Status {
                            code: 503,
                            ..*status
                        }
                        .boxed(),
                    ))
                }
                other => other,
            }
        })
        .await
    }

    /// The same where something has just made room in a quota: that counts what is gone for a while. `may_again` is asked at each such refusal.
    pub(super) async fn create_as_counted<K>(
        &self,
        api: &Api<K>,
        object: &K,
        mut may_again: impl FnMut() -> bool,
    ) -> Result<K, Failure>
    where
        K: Clone + DeserializeOwned + Debug + Serialize,
    {
        let until = Instant::now() + COUNTED_WITHIN;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .without_max_times()
            .with_jitter();
        (|| self.create(api, object))
            .retry(backoff)
            .when(|failure| failure.is_of_quota() && Instant::now() < until && may_again())
            .await
    }

    /// One attempt, for what asks again by itself.
    pub(super) async fn once<T>(
        &self,
        sent: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        let result = match telemetry::elsewhere(tokio::time::timeout(ATTEMPT, sent)).await {
            Ok(result) => result.map_err(failure),
            Err(_) => Err(Failure::Away(format!(
                "no answer within {} s",
                ATTEMPT.as_secs()
            ))),
        };
        match result {
            Err(Failure::Status(status))
                if denies_rights(&status) && is_recent(&self.missed, WARMING) =>
            {
                Err(Failure::Away(format!(
                    "it came back just now: {}",
                    words(&status)
                )))
            }
            Err(Failure::Away(cause)) => {
                *lock(&self.missed) = Some(Instant::now());
                Err(Failure::Away(cause))
            }
            other => {
                self.note_answer();
                other
            }
        }
    }

    /// The API server was heard of now.
    pub(super) fn note_answer(&self) {
        *lock(&self.answered) = Some(Instant::now());
    }

    /// Whether it was heard of within `lately`.
    pub(super) fn answered_within(&self, lately: Duration) -> bool {
        is_recent(&self.answered, lately)
    }
}

fn is_recent(moment: &Mutex<Option<Instant>>, lately: Duration) -> bool {
    lock(moment).is_some_and(|at| at.elapsed() <= lately)
}

fn lock(moment: &Mutex<Option<Instant>>) -> std::sync::MutexGuard<'_, Option<Instant>> {
    moment
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The authorizer's refusal, and none of admission: `User "x" cannot get resource …`.
fn denies_rights(status: &Status) -> bool {
    status.code == 403 && status.message.contains("cannot ")
}

fn failure(error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if !is_passing(&status) => Failure::Status(status),
        error @ (kube::Error::SerdeError(_)
        | kube::Error::BuildRequest(_)
        | kube::Error::HttpError(_)) => {
            Failure::Status(Status::failure(&describe(&error), "").boxed())
        }
        other => Failure::Away(describe(&other)),
    }
}

/// 409 is no fault, 403 a decision: only overload and breakdown pass by themselves.
fn is_passing(status: &Status) -> bool {
    status.code == 429 || status.code >= 500
}

/// `error` in one line, without the repetitions of kube's own text.
pub(super) fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return words(status);
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text.replace('\n', " ")
}

fn words(status: &Status) -> String {
    if status.message.is_empty() {
        format!("{} {}", status.code, status.reason)
    } else {
        status.message.replace('\n', " ")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn api(code: u16, reason: &str) -> kube::Error {
        kube::Error::Api(Status::failure("words", reason).with_code(code).boxed())
    }

    fn no_rights() -> kube::Error {
        let message = r#"secrets is forbidden: User "x" cannot get resource "secrets""#;
        kube::Error::Api(Status::failure(message, "Forbidden").with_code(403).boxed())
    }

    #[tokio::test]
    async fn rights_are_asked_for_again_when_the_server_came_back_just_now() {
        let (calls, result) =
            calls_until_end(&[|| api(503, "ServiceUnavailable"), no_rights]).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(calls, 3);
        let (calls, result) = calls_until_end(&[no_rights]).await;
        assert!(matches!(result, Err(Failure::Status(_))), "{result:?}");
        assert_eq!(calls, 1);
    }

    async fn calls_until_end(errors: &[fn() -> kube::Error]) -> (usize, Result<(), Failure>) {
        let calls = AtomicUsize::new(0);
        let result = Requests::with_patience(Duration::from_millis(350))
            .call(|| {
                let n = calls.fetch_add(1, Ordering::Relaxed);
                let error = errors.get(n.min(errors.len())).map(|error| error());
                async move { error.map_or(Ok(()), Err) }
            })
            .await;
        (calls.load(Ordering::Relaxed), result)
    }

    #[tokio::test]
    async fn passing_faults_are_repeated_and_decisions_are_not() {
        let (calls, result) = calls_until_end(&[
            || api(503, "ServiceUnavailable"),
            || kube::Error::Service("connection refused".into()),
        ])
        .await;
        assert!(result.is_ok());
        assert_eq!(calls, 3);

        for (code, reason) in [
            (403, "Forbidden"),
            (404, "NotFound"),
            (409, "AlreadyExists"),
        ] {
            let requests = Requests::default();
            let result: Result<(), _> = requests.call(|| async { Err(api(code, reason)) }).await;
            assert!(matches!(result, Err(Failure::Status(_))), "{code}");
            assert!(requests.answered_within(Duration::from_secs(1)), "{code}");
        }
    }

    #[tokio::test]
    async fn a_fault_that_lasts_is_told_with_its_cause() {
        let requests = Requests::with_patience(Duration::from_millis(250));
        let result: Result<(), _> = requests
            .call(|| async { Err(kube::Error::Service("connection refused".into())) })
            .await;
        let error = result.unwrap_err().into_error("reading secret cc-x");
        assert_eq!(
            error.to_string(),
            "the Kubernetes API server does not answer: reading secret cc-x: \
             ServiceError: connection refused"
        );
        assert!(!requests.answered_within(Duration::from_secs(1)));
    }

    #[test]
    fn a_missing_right_says_what_to_do() {
        let status = Status::failure(
            "pods is forbidden: User \"x\" cannot create resource \"pods\"",
            "Forbidden",
        )
        .with_code(403);
        let text = Failure::Status(status.boxed())
            .into_error("creating pod p")
            .to_string();
        assert!(
            text.contains("cannot create") && text.contains("Role"),
            "{text}"
        );
    }
}
