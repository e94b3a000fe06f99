//! What Peitho must be allowed to do, and whether it is: asked at start with reviews of its own access, so that a missing
//! right is one line then and not a failed launch later. The first question also waits for the API server.
//! `serve` calls it once. [`RIGHTS`] is the only list; a test holds `deploy/role.yaml` to it.

use std::error::Error as StdError;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use kube::core::Status;
use tokio::time::Instant;

use super::connect::Connection;
use super::request::{Failure, Requests, describe};
use crate::runtime::Error;

/// After how much silence of the API server the start says that it waits.
const SILENCE: Duration = Duration::from_secs(1);

/// How many questions are on their way at once: those of one namespace.
const AT_ONCE: usize = 16;

/// Some verbs on one resource of the core API group, in each namespace of chaincode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// As a Role has it: `pods`, `pods/log`.
    pub resource: &'static str,
    /// As a Role has them.
    pub verbs: &'static [&'static str],
    /// What happens without any of them.
    need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing works: the server does not start.
    Vital,
    /// This does not work: a warning.
    Useful(&'static str),
}

/// All rights that are used.
pub const RIGHTS: [Right; 4] = [
    Right {
        resource: "pods",
        verbs: &["get", "list", "watch", "create", "delete"],
        need: Need::Vital,
    },
    Right {
        resource: "pods/log",
        verbs: &["get"],
        need: Need::Useful("a peer that attaches to chaincode sees no output"),
    },
    Right {
        resource: "secrets",
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        need: Need::Vital,
    },
    Right {
        resource: "events",
        verbs: &["get", "list", "watch"],
        need: Need::Useful("some launches that fail end late and without their reason"),
    },
];

/// Waits for the API server, saying so, and asks whether Peitho has its rights in each of `namespaces`. Missing ones that
/// little depends on are logged.
///
/// # Errors
/// [`Error::Unavailable`] when the API server does not answer; [`Error::Refused`] when it takes us for nobody, is not the one
/// that the kubeconfig knows, or denies what nothing works without.
pub async fn check_access(connection: &Connection, namespaces: &[String]) -> Result<(), Error> {
    check(connection, namespaces, &Requests::default()).await
}

async fn check(
    connection: &Connection,
    namespaces: &[String],
    requests: &Requests,
) -> Result<(), Error> {
    let Connection { client, server, .. } = connection;
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let questions: Vec<(&str, Right, &str)> = namespaces
        .iter()
        .flat_map(|namespace| RIGHTS.map(|right| (namespace.as_str(), right)))
        .flat_map(|(namespace, right)| {
            right
                .verbs
                .iter()
                .map(move |verb| (namespace, right, *verb))
        })
        .collect();
    let Some(((namespace, right, verb), others)) = questions.split_first() else {
        return Ok(());
    };
    let params = PostParams::default();
    let ask = async |(namespace, right, verb): &(&str, Right, &str)| {
        let review = review(namespace, right, verb);
        let send = || reviews.create(&params, &review);
        requests.call(send).await.map(is_allowed)
    };
    let first = review(namespace, right, verb);
    let first = patiently(server, requests, async || {
        reviews.create(&params, &first).await
    });
    let asked = async {
        let first = is_allowed(first.await?);
        // Some at once: there are as many as there are namespaces.
        let others = stream::iter(others).map(ask).buffered(AT_ONCE);
        let others: Vec<bool> = others.try_collect().await?;
        Ok([vec![first], others].concat())
    };
    let allowed = match asked.await {
        Ok(allowed) => allowed,
        // Every account may ask this, by a role that Kubernetes comes with. One that may not may still work.
        Err(Failure::Status(status)) if status.is_forbidden() => {
            tracing::warn!(
                error = status.message,
                "the API server does not say what Peitho may do; going on without knowing"
            );
            return Ok(());
        }
        Err(failure) => return Err(failure.into_error(&format!("asking {server}"))),
    };
    let answers = questions.iter().zip(allowed);
    let denied: Vec<(&str, Right, &str)> = answers
        .filter_map(|(question, allowed)| (!allowed).then_some(*question))
        .collect();
    judge(namespaces, &denied)
}

/// The first answer of the API server. It may be away, or still starting: the log says that we wait, and for how long
/// it was.
async fn patiently<T>(
    server: &str,
    requests: &Requests,
    send: impl AsyncFn() -> kube::Result<T>,
) -> Result<T, Failure> {
    let begun = Instant::now();
    let fault: Mutex<Option<String>> = Mutex::default();
    let last = || fault.lock().unwrap_or_else(PoisonError::into_inner);
    let attempt = || async {
        let answer = send().await;
        match answer {
            Err(error) if is_wrong_certificate(&error) => {
                let text = format!(
                    "{}; see certificate-authority and server of the kubeconfig",
                    describe(&error)
                );
                // No passing fault: it will be the same again.
                Err(kube::Error::Api(Status::failure(&text, "").boxed()))
            }
            Err(error) => {
                *last() = Some(describe(&error));
                Err(error)
            }
            Ok(answer) => Ok(answer),
        }
    };
    let mut asking = pin!(requests.call(attempt));
    let seconds = |begun: Instant| begun.elapsed().as_secs();
    let answer = match tokio::time::timeout(SILENCE, &mut asking).await {
        Ok(answer) => return answer,
        Err(_) => {
            let cause = last().clone();
            let cause = cause.unwrap_or_else(|| "no answer yet".to_owned());
            tracing::warn!("waiting for the Kubernetes API server {server}: {cause}");
            asking.await
        }
    };
    match answer {
        Err(Failure::Away(cause)) => Err(Failure::Away(format!(
            "{cause}, for {} s; see whether it runs, and server of the kubeconfig",
            seconds(begun)
        ))),
        answer => {
            tracing::info!(
                "the Kubernetes API server {server} answers after {} s",
                seconds(begun)
            );
            answer
        }
    }
}

/// Whether the API server showed a certificate that does not hold: time alone does not mend that.
fn is_wrong_certificate(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        // An error of a connection hides the one that it was made from from `source`.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let tls = match inner {
            Some(inner) => inner.downcast_ref::<rustls::Error>(),
            None => error.downcast_ref::<rustls::Error>(),
        };
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return true;
        }
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

fn review(namespace: &str, right: &Right, verb: &str) -> SelfSubjectAccessReview {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource, None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

fn is_allowed(review: SelfSubjectAccessReview) -> bool {
    review.status.is_some_and(|status| status.allowed)
}

/// What follows from the denied rights, in the order of [`RIGHTS`] for each namespace.
fn judge(namespaces: &[String], denied: &[(&str, Right, &str)]) -> Result<(), Error> {
    let lacks = |namespace: &str, right: &Right| {
        let verbs: Vec<&str> = denied
            .iter()
            .filter(|(place, other, _)| *place == namespace && other == right)
            .map(|(_, _, verb)| *verb)
            .collect();
        (!verbs.is_empty()).then(|| format!("{} {}", verbs.join(", "), right.resource))
    };
    let vital = |namespace: &String| {
        let vital = RIGHTS.iter().filter(|right| right.need == Need::Vital);
        let lacking: Vec<String> = vital.filter_map(|right| lacks(namespace, right)).collect();
        (!lacking.is_empty()).then(|| format!("in namespace {namespace}: {}", lacking.join("; ")))
    };
    let missing: Vec<String> = namespaces.iter().filter_map(vital).collect();
    if !missing.is_empty() {
        return Err(Error::Refused(format!(
            "missing rights {}; bind the Role of the deployment (deploy/role.yaml) to Peitho's account there",
            missing.join("; and ")
        )));
    }
    for namespace in namespaces {
        for right in &RIGHTS {
            if let (Need::Useful(consequence), Some(lacking)) =
                (right.need, lacks(namespace, right))
            {
                tracing::warn!(
                    "missing rights in namespace {namespace}: {lacking}: {consequence}; bind the Role of the deployment \
                     (deploy/role.yaml) to Peitho's account there"
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
