//! Which compiles a process of this instance holds (ADR 0006). Whoever began or joined one renews a file in its
//! container; one that nobody renews for a while was left behind by a process that is no more. What counts is that the
//! file was seen not to change, never what time it tells: clocks do not agree. `compile` holds; the trait in `docker`
//! asks what is unheld.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use bollard::query_parameters::{ContainerArchiveInfoOptions, UploadToContainerOptions};
use futures::TryFutureExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::request::{Bound, Failure};
use super::{Engine, archive, found, watch};
use crate::names::CompileKey;
use crate::names::docker as names;
use crate::runtime::Error;

/// Between two renewals: one small request for each compile that runs.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long a living holder may at most be silent, with an engine that is slow or starts anew.
const SILENCE: Duration = RENEWAL.saturating_mul(3);
/// The file; its time of change is the note.
const HELD: &str = "/run/peitho/held";

/// A compile's container, and what its note was when one looked.
#[derive(Debug)]
struct Seen {
    id: String,
    key: Option<CompileKey>,
    /// Seconds of the engine's clock.
    created: i64,
    note: Option<String>,
}

impl Engine {
    /// Holds the compile in the container with this id, until dropped.
    pub(super) async fn hold(&self, id: &str) -> Infallible {
        let mut renewals = interval(RENEWAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            renewals.tick().await;
            let options = UploadToContainerOptions {
                path: "/".to_owned(),
                ..UploadToContainerOptions::default()
            };
            // Its time is of now.
            let note = archive::written(|archive| archive::file(archive, HELD, 0o444, b""));
            let note = bollard::body_try_stream(note);
            let sent = self.docker.upload_to_container(id, Some(options), note);
            // The next one is soon. That the container is gone is told to whoever waits for its end.
            if let Err(failure) = self.requests.once(Bound::Short, sent).await {
                let error = self.requests.error(failure, "renewing a compile's note");
                tracing::debug!(%error, container = id, "a compile is held without a note");
            }
        }
    }

    /// The compiles that were there and whose note did not change for `grace`, or for as long as a holder may be silent;
    /// and those that nobody can hold any more, since they are older than a compile gets: what they run might renew the
    /// note by itself.
    pub(super) async fn unheld_compiles(&self, grace: Duration) -> Result<Vec<CompileKey>, Error> {
        let failed = |failure| {
            self.requests
                .error(failure, "looking which compiles are held")
        };
        let before = self.compiles_seen().await.map_err(failed)?;
        if before.is_empty() {
            return Ok(Vec::new());
        }
        sleep_until(Instant::now() + grace.max(SILENCE)).await;
        let after = self.compiles_seen().await.map_err(failed)?;
        let now = watch::now(&self.docker, &self.requests)
            .map_err(failed)
            .await?;
        let age = i64::try_from((self.settings.compile_timeout + SILENCE).as_secs());
        let oldest = now.map_or(i64::MIN, |now| {
            now.as_second().saturating_sub(age.unwrap_or(i64::MAX))
        });
        Ok(unheld(&before, after, oldest))
    }

    async fn compiles_seen(&self) -> Result<Vec<Seen>, Failure> {
        let component = names::of_component(names::COMPILE_COMPONENT);
        let mut seen = Vec::new();
        for it in self.list(&[component]).await? {
            let is_draft = it.names.iter().flatten().any(|it| names::is_draft(it));
            let Some(id) = it.id.filter(|_| !is_draft) else {
                continue;
            };
            let label = it.labels.and_then(|mut all| all.remove(names::COMPILE_KEY));
            seen.push(Seen {
                key: label.and_then(|text| text.parse().ok()),
                created: it.created.unwrap_or_default(),
                note: self.note(&id).await?,
                id,
            });
        }
        Ok(seen)
    }

    async fn note(&self, id: &str) -> Result<Option<String>, Failure> {
        let asked = self.requests.call(Bound::Short, || {
            let options = ContainerArchiveInfoOptions {
                path: HELD.to_owned(),
            };
            self.docker.get_container_archive_info(id, Some(options))
        });
        match found(asked.await) {
            Ok(shown) => Ok(shown.and_then(|it| it.modification_time)),
            // No such file: the answer to HEAD has no words.
            Err(Failure::Status { code: 404, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// Those of `after` that stood in `before` just so, or were created before `oldest`.
fn unheld(before: &[Seen], after: Vec<Seen>, oldest: i64) -> Vec<CompileKey> {
    let notes: HashMap<_, _> = before
        .iter()
        .map(|seen| (seen.id.as_str(), seen.note.as_deref()))
        .collect();
    after
        .into_iter()
        .filter(|seen| {
            notes
                .get(seen.id.as_str())
                .is_some_and(|note| *note == seen.note.as_deref() || seen.created < oldest)
        })
        .filter_map(|seen| {
            if seen.key.is_none() {
                tracing::warn!(
                    container = seen.id,
                    "a compile's container that nobody holds has no readable label {} and stays; remove it by hand",
                    names::COMPILE_KEY
                );
            }
            seen.key
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Digest;

    fn seen(id: &str, created: i64, note: Option<&str>) -> Seen {
        Seen {
            id: id.to_owned(),
            key: Some(CompileKey::new(Digest::of(id.as_bytes()))),
            created,
            note: note.map(str::to_owned),
        }
    }

    #[test]
    fn only_what_nobody_renewed_is_unheld_and_what_is_too_old() {
        let before = [
            seen("left", 100, Some("1")),
            seen("never noted", 100, None),
            seen("held", 100, Some("1")),
            seen("renews itself", 10, Some("1")),
            seen("gone", 100, Some("1")),
        ];
        let after = vec![
            seen("left", 100, Some("1")),
            seen("never noted", 100, None),
            seen("held", 100, Some("2")),
            seen("renews itself", 10, Some("2")),
            seen("new", 100, None),
        ];
        let keys = ["left", "never noted", "renews itself"]
            .map(|id| CompileKey::new(Digest::of(id.as_bytes())));
        assert_eq!(unheld(&before, after, 50), keys);
    }
}
