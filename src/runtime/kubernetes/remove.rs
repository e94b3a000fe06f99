//! The one place that deletes (design D12): only objects with our labels, only the very object that was
//! meant (its UID is a precondition), always with an explicit propagation: without one the API server may
//! leave pods running without owner (k8s-measurements §2).

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use serde::de::DeserializeOwned;

use super::evidence::Evidence;
use super::request::Requests;
use super::watch::Watch;
use crate::names::InstanceName;
use crate::names::kubernetes::{INSTANCE, MANAGED_BY, MANAGER};
use crate::runtime::Error;

/// How long a pod may take to end before it is forced, and again before it is given up (design D12).
const FORCED_AFTER: Duration = Duration::from_secs(10);

/// An object that is ours to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ours {
    name: String,
    uid: String,
}

/// How much time a deleted object's processes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grace {
    /// What the object says of itself: a second, for our pods.
    Own,
    /// None: also the object of a lost node goes.
    None,
}

/// When a pod counts as ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Its process is over.
    Over,
    /// The object is gone too, so that its name is free.
    Gone,
}

impl Ours {
    /// The object of `metadata`, if it carries the labels of `instance`.
    ///
    /// # Errors
    /// [`Error::Refused`] when it does not: it is somebody else's.
    pub(super) fn of(metadata: &ObjectMeta, instance: &InstanceName) -> Result<Self, Error> {
        let name = metadata.name.clone().unwrap_or_default();
        let has = |label: &str, value: &str| {
            let labels = metadata.labels.as_ref();
            labels.and_then(|all| all.get(label)).map(String::as_str) == Some(value)
        };
        match &metadata.uid {
            Some(uid) if has(MANAGED_BY, MANAGER) && has(INSTANCE, instance.as_str()) => Ok(Self {
                name,
                uid: uid.clone(),
            }),
            _ => Err(Error::Refused(format!(
                "{name} does not carry the labels {MANAGED_BY}={MANAGER} and {INSTANCE}={instance}, so \
                 Peitho does not delete it; see who made it"
            ))),
        }
    }
}

/// Deletes `object`; that it is gone already, or has made way for another, is no error. Returns when the
/// API server accepted it.
///
/// # Errors
/// [`Error::Refused`], [`Error::Unavailable`].
pub(super) async fn delete<K>(
    requests: &Requests,
    api: &Api<K>,
    object: &Ours,
    grace: Grace,
) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = params(object, grace);
    match requests.call(|| api.delete(&object.name, &params)).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_not_found() || failure.is_conflict() => Ok(()),
        Err(failure) => Err(failure.into_error(&format!("deleting {}", object.name))),
    }
}

/// Deletes `pod` and waits until the watch shows its end; forced after ten seconds.
///
/// # Errors
/// As [`delete`]; [`Error::Refused`] when it does not even go by force.
pub(super) async fn end_pod(
    requests: &Requests,
    watch: &Watch,
    api: &Api<Pod>,
    pod: &Pod,
    instance: &InstanceName,
    until: Until,
) -> Result<(), Error> {
    let ours = Ours::of(&pod.metadata, instance)?;
    let mut evidence = watch.follow(pod);
    // Followed before it is asked for: the end cannot be missed.
    let is_over = evidence.borrow().is_over();
    let ended = if is_over {
        true
    } else {
        delete(requests, api, &ours, Grace::Own).await?;
        // That the sender is gone, an error, says that the object is.
        let over = evidence.wait_for(Evidence::is_over);
        tokio::time::timeout(FORCED_AFTER, over).await.is_ok()
    };
    if ended && until == Until::Over {
        return Ok(());
    }
    // What is over needs no grace; what is not, does not deserve more.
    delete(requests, api, &ours, Grace::None).await?;
    let gone = evidence.wait_for(|evidence| evidence.gone);
    if tokio::time::timeout(FORCED_AFTER, gone).await.is_ok() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "pod {} is still there {} s after it was deleted by force; see its finalizers",
        ours.name,
        FORCED_AFTER.as_secs()
    )))
}

fn params(object: &Ours, grace: Grace) -> DeleteParams {
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: Some(object.uid.clone()),
        resource_version: None,
    });
    match grace {
        Grace::Own => params,
        Grace::None => params.grace_period(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(labels: &[(&str, &str)]) -> ObjectMeta {
        ObjectMeta {
            name: Some("cc-x".to_owned()),
            uid: Some("u-1".to_owned()),
            labels: Some(
                labels
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn what_is_not_ours_cannot_be_deleted() {
        let instance = InstanceName::default();
        for labels in [
            &[][..],
            &[(MANAGED_BY, MANAGER)],
            &[(MANAGED_BY, "helm"), (INSTANCE, "peitho")],
            &[(MANAGED_BY, MANAGER), (INSTANCE, "another")],
        ] {
            assert!(
                Ours::of(&metadata(labels), &instance).is_err(),
                "{labels:?}"
            );
        }
        assert!(
            Ours::of(
                &metadata(&[(MANAGED_BY, MANAGER), (INSTANCE, "peitho")]),
                &instance
            )
            .is_ok()
        );
    }

    #[test]
    fn every_delete_names_the_uid_and_a_propagation() {
        let object = Ours {
            name: "cc-x".to_owned(),
            uid: "u-1".to_owned(),
        };
        for (grace, extra) in [(Grace::Own, None), (Grace::None, Some(0))] {
            let sent = serde_json::to_value(params(&object, grace)).unwrap();
            assert_eq!(sent["propagationPolicy"], "Background");
            assert_eq!(sent["preconditions"]["uid"], "u-1");
            assert_eq!(
                sent.get("gracePeriodSeconds"),
                extra.map(Into::into).as_ref()
            );
        }
    }
}
