//! Which compiles a process of this instance holds (ADR 0006). Whoever began or joined one renews a note on its
//! Secret; one that nobody changes for a while was left behind by a process that is no more. What counts is
//! that it was seen not to change, never what time the note tells: clocks do not agree. `compile` holds;
//! the trait in `kubernetes` asks what is unheld.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Kubernetes;
use super::hand_over::spare_of;
use crate::names::CompileKey;
use crate::names::kubernetes as names;
use crate::runtime::Error;

/// Between two renewals: one small request for each compile that runs.
const RENEWAL: Duration = Duration::from_secs(5);

/// How many of what is left are removed at once: each takes a handful of requests, and up to twenty seconds where it is stuck.
const AT_ONCE: usize = 10;

/// How long a living holder may at most be silent, with an API server that is slow or starts anew.
const SILENCE: Duration = RENEWAL.saturating_mul(3);

impl Kubernetes {
    /// Holds the compile whose Secret has this name and UID, until dropped; the `pod` that it was given, if that was made ahead of need, has heard
    /// of it.
    pub(super) async fn hold(&self, name: &str, uid: &str, pod: Pod) -> Infallible {
        let mut renewals = interval(RENEWAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            renewals.tick().await;
            let patch = Patch::Merge(note(uid, &jiff::Timestamp::now().to_string(), pod));
            let params = PatchParams::default();
            let sent = self.secrets.patch_metadata(name, &params, &patch);
            // The next one is soon. That the Secret is gone is told by its pod's end.
            if let Err(failure) = self.requests.once(sent).await {
                let error = failure.into_error(&format!("renewing the note on secret {name}"));
                tracing::debug!(%error, "a compile is held without a note");
            }
        }
    }

    /// The compiles that were there and did not change for `grace`, or for as long as a holder may be silent.
    pub(super) async fn unheld_compiles(&self, grace: Duration) -> Result<Vec<CompileKey>, Error> {
        let before = self.compile_secrets().await?;
        if before.is_empty() {
            return Ok(Vec::new());
        }
        sleep_until(Instant::now() + grace.max(SILENCE)).await;
        let mut keys = Vec::new();
        let after = self.compile_secrets().await?;
        // A run that goes on holds what it took by its own Secret.
        let taken: HashSet<_> = after
            .iter()
            .filter_map(spare_of)
            .map(str::to_owned)
            .collect();
        let mut spares = Vec::new();
        for secret in unchanged(&before, after) {
            let name = secret.name.as_deref().unwrap_or_default();
            if names::spare_of(name).is_some() {
                if !taken.contains(name) {
                    spares.push(name.to_owned());
                }
                continue;
            }
            match key_of(&secret) {
                Some(key) => keys.push(key),
                None => tracing::warn!(
                    secret = secret.name,
                    "a compile's secret that nobody holds has no readable {} and stays; delete it by hand",
                    names::COMPILE_KEY
                ),
            }
        }
        let removed = stream::iter(spares).map(|name| self.discard_left(name));
        let removed = removed.buffer_unordered(AT_ONCE);
        // All are tried: one that is stuck keeps no other.
        let removed: Vec<Result<(), Error>> = removed.collect().await;
        removed.into_iter().collect::<Result<(), Error>>()?;
        Ok(keys)
    }

    /// Removes what an earlier process made ahead of need; an error when the API server is away.
    async fn discard_left(&self, name: String) -> Result<(), Error> {
        tracing::info!(
            pod = %name,
            "compile: an earlier process made it ahead of need, and it waits in vain; it is removed"
        );
        match self.discard_named(&name).await {
            Err(error @ Error::Unavailable(_)) => Err(error),
            Err(error) => {
                tracing::warn!(pod = %name, %error, "compile: it was not removed; the next start tries again");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Metadata of the Secrets of all compiles: a pod goes with its Secret.
    async fn compile_secrets(&self) -> Result<Vec<ObjectMeta>, Error> {
        let selector = names::all_compiles_selector(&self.settings.instance);
        let params = ListParams::default().labels(&selector);
        let found = self
            .requests
            .call(|| self.secrets.list_metadata(&params))
            .await
            .map_err(|failure| failure.into_error("listing secrets of compiles"))?;
        Ok(found.items.into_iter().map(|item| item.metadata).collect())
    }
}

/// What pod an object has that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pod {
    /// One of the same name.
    Own,
    /// A compile's that was made ahead of need.
    Ahead,
}

fn note(uid: &str, text: &str, pod: Pod) -> serde_json::Value {
    let mut annotations = serde_json::json!({names::HELD: text});
    if pod == Pod::Ahead {
        annotations[names::SPARE_HEARD] = "true".into();
    }
    serde_json::json!({"metadata": {"uid": uid, "annotations": annotations}})
}

/// Those of `after` that stood in `before` just so.
fn unchanged(before: &[ObjectMeta], after: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
    let versions: HashMap<_, _> = before
        .iter()
        .map(|secret| (secret.uid.as_deref(), secret.resource_version.as_deref()))
        .collect();
    let is_unchanged = |secret: &ObjectMeta| {
        secret.deletion_timestamp.is_none()
            && versions.get(&secret.uid.as_deref()) == Some(&secret.resource_version.as_deref())
    };
    after.into_iter().filter(is_unchanged).collect()
}

fn key_of(secret: &ObjectMeta) -> Option<CompileKey> {
    let annotations = secret.annotations.as_ref()?;
    annotations.get(names::COMPILE_KEY)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn secret(uid: &str, version: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn only_what_nobody_touched_is_unheld() {
        let before = [
            secret("left", "1"),
            secret("held", "2"),
            secret("gone", "3"),
            secret("going", "4"),
        ];
        let mut going = secret("going", "4");
        going.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let after = vec![
            secret("left", "1"),
            secret("held", "7"),
            going,
            secret("new", "8"),
        ];
        let found = unchanged(&before, after);
        let uids: Vec<_> = found.iter().map(|secret| secret.uid.as_deref()).collect();
        assert_eq!(uids, [Some("left")]);
    }

    #[test]
    fn a_renewal_changes_the_note_and_holds_for_one_secret_only() {
        let patch = note("u-1", "2026-01-01T00:00:00Z", Pod::Ahead);
        assert_eq!(patch["metadata"]["annotations"][names::SPARE_HEARD], "true");
        let patch = note("u-1", "2026-01-01T00:00:00Z", Pod::Own);
        assert_eq!(patch["metadata"]["uid"], "u-1");
        assert!(patch["metadata"]["annotations"][names::SPARE_HEARD].is_null());
        assert_eq!(
            patch["metadata"]["annotations"][names::HELD],
            "2026-01-01T00:00:00Z"
        );
    }
}
