//! Built images brought into the registry of `images.registry`: what is there is left alone, layers of the base are mounted
//! where they are in the same registry and else streamed from where they are, and the manifest comes last, so that an image
//! is never seen in part. `image` calls it before a build succeeds.
//!
//! All images stand in one repository: a base moves once however many chaincodes are built on it, and registries that want
//! repositories made beforehand want one.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use super::answer::Refusal;
use super::bring::{Content, unreadable};
use super::manifest::{Contents, Unusable};
use super::session::Session;
use super::wire::{Opened, Stop, Wire};
use super::{Login, Lookup, Registries, outside};
use crate::config;
use crate::names::{Digest, ImageName};
use crate::store::{self, Blob};

/// Blobs of one image that are under way at once, as for pulls.
const AT_ONCE: usize = 3;
/// The longest that a registry's `Retry-After` is obeyed: a peer waits for its build.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why an image is not in the registry.
#[derive(Debug, thiserror::Error)]
#[error(
    "the image cannot be pushed to {repository}: {cause}; mend that and install again, or set images.mode to delivery"
)]
pub struct PushError {
    /// With its registry.
    pub repository: String,
    /// The last one.
    pub cause: String,
}

/// A complete image: its blobs are in the store, or in the registry of its base.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// As the peer names it: the tag begins with it.
    pub name: &'a ImageName,
    /// What it stands on, as the peer names it.
    pub base: &'a ImageName,
    /// Where that was found.
    pub source: &'a ImageName,
    /// The manifest's bytes.
    pub manifest: &'a [u8],
}

/// What pushes; clones share connections.
#[derive(Clone)]
pub struct Pusher(Arc<Inner>);

struct Inner {
    registries: Registries,
    /// The tag is none of an image.
    repository: ImageName,
    wire: Wire,
    patience: ExponentialBuilder,
}

impl Stop {
    fn of_store(error: &store::Error) -> Self {
        Refusal::Unknown(format!("the store: {error}")).into()
    }

    fn is_worth_another_try(&self) -> bool {
        self.refusal.may_pass() && self.after.is_none_or(|after| after <= LONGEST_WAIT)
    }

    /// The pause that the backoff has, or the longer one that the registry asks for.
    fn pause(&self, own: Option<Duration>) -> Option<Duration> {
        own.map(|own| own.max(self.after.unwrap_or_default()))
    }
}

/// Who made a part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Peitho, just now.
    Own,
    /// Whoever made the base, and may have listed whatever he wanted.
    Base,
}

/// What was done for an image, in bytes.
#[derive(Debug, Default)]
struct Moved {
    sent: AtomicU64,
    mounted: AtomicU64,
    present: AtomicU64,
}

impl Pusher {
    /// Pushes to the registry of `config`, out of the store of `registries` and from these; `None` where built images are
    /// not pushed.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(config: &config::Images, registries: Registries) -> anyhow::Result<Option<Self>> {
        // A registry blinks when it is moved to another node: some twenty seconds, since a peer waits.
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_factor(2.0)
            .with_max_delay(Duration::from_secs(8))
            .with_jitter()
            .with_max_times(5);
        Self::with_patience(config, registries, patience)
    }

    /// The same, with little patience.
    ///
    /// # Panics
    /// Where built images are not pushed.
    #[cfg(test)]
    pub(crate) fn impatient(
        config: &config::Images,
        registries: Registries,
    ) -> anyhow::Result<Self> {
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_times(3);
        let pusher = Self::with_patience(config, registries, patience)?;
        Ok(pusher.expect("the mode is registry"))
    }

    fn with_patience(
        config: &config::Images,
        registries: Registries,
        patience: ExponentialBuilder,
    ) -> anyhow::Result<Option<Self>> {
        let Some(built) = config.pushed_to() else {
            return Ok(None);
        };
        let Some(repository) = built.repository() else {
            anyhow::bail!("images.registry: address and project make no repository");
        };
        let wire = Wire::new(&registries.access(&repository), repository.repository())?;
        Ok(Some(Self(Arc::new(Inner {
            registries,
            repository,
            wire,
            patience,
        }))))
    }

    /// Whether `pushed` is where it pushes to.
    pub fn reaches(&self, pushed: &ImageName) -> bool {
        pushed.is_beside(&self.0.repository)
    }

    /// Manifest and configuration of `base`, asked for as patiently as what is pushed: without them there is no whole image.
    pub async fn look_up(&self, base: &ImageName) -> Lookup {
        let (registries, patience) = (&self.0.registries, self.0.patience);
        registries.look_up_patiently(base, patience).await
    }

    /// Brings the image into the registry; gives its name there, by digest. Whole when this returns, and tagged for people.
    ///
    /// # Errors
    /// [`PushError`]. What has arrived by then is not sent again by a later push.
    pub async fn push(&self, order: Order<'_>) -> Result<ImageName, PushError> {
        let started = Instant::now();
        let moved = Moved::default();
        let pushed = self.try_push(order, &moved).await;
        let pushed = match pushed {
            Ok(pushed) => pushed,
            Err(stop) => return Err(self.refused(self.explained(&stop).await)),
        };
        tracing::info!(
            image = %order.name, pushed = %pushed,
            sent = moved.sent.into_inner(), mounted = moved.mounted.into_inner(),
            present = moved.present.into_inner(), duration_ms = started.elapsed().as_millis() as u64,
            "image: pushed {}", order.name
        );
        Ok(pushed)
    }

    /// The error of an image that cannot be pushed, for another reason than the registry's.
    pub fn refused(&self, cause: String) -> PushError {
        let it = &self.0.repository;
        PushError {
            repository: format!("{}/{}", it.registry(), it.repository()),
            cause,
        }
    }

    /// The cause, with who was denied.
    async fn explained(&self, stop: &Stop) -> String {
        let cause = stop.to_string();
        if !matches!(stop.refusal, Refusal::Denied(_)) {
            return cause;
        }
        match self.login().await {
            Some(login) => format!("{cause}, to the user {}", login.username),
            None => format!(
                "{cause}, to nobody: images.registry has no username, and images.dockerConfigFile no login for it"
            ),
        }
    }

    /// As it is now.
    async fn login(&self) -> Option<Login> {
        let logins = &self.0.registries.0.logins;
        logins.of(&self.0.repository).await
    }

    async fn try_push(&self, order: Order<'_>, moved: &Moved) -> Result<ImageName, Stop> {
        let Contents {
            media_type,
            config,
            mut layers,
        } = Contents::of(order.manifest)?;
        // The layer that was added lies on top. First, so that a base cannot make it its own.
        let own = [config].into_iter().chain(layers.pop());
        let parts = own.map(|blob| (blob, Whose::Own));
        let parts = parts.chain(layers.into_iter().map(|blob| (blob, Whose::Base)));
        let mut seen = HashSet::new();
        let parts: Vec<_> = parts.filter(|(blob, _)| seen.insert(blob.digest)).collect();
        futures::stream::iter(parts)
            .map(|part| self.patiently(order, move || self.blob(order, part, moved)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        let digest = Digest::of(order.manifest);
        // Whole by its digest, then found by its tag.
        for version in [digest.to_string(), order.name.pushed_tag(&digest)] {
            let version = version.as_str();
            let put = || self.manifest(order.manifest, &digest, version, &media_type);
            self.patiently(order, put).await?;
        }
        let pushed = self.0.repository.at(&digest.to_string());
        pushed.map_err(|error| Unusable(error.to_string()).into())
    }

    /// What `work` gives, tried again while its faults may pass.
    async fn patiently<T, F: Future<Output = Result<T, Stop>>>(
        &self,
        order: Order<'_>,
        work: impl FnMut() -> F,
    ) -> Result<T, Stop> {
        work.retry(self.0.patience)
            .when(Stop::is_worth_another_try)
            .adjust(Stop::pause)
            .notify(|stop, pause| {
                tracing::warn!(
                    image = %order.name, repository = %self.0.repository.repository(), error = %stop, ?pause,
                    "image: the push of {} goes on after a fault", order.name
                );
            })
            .await
    }

    /// Sees to it that the registry has the manifest as `version`.
    async fn manifest(
        &self,
        manifest: &[u8],
        digest: &Digest,
        version: &str,
        media_type: &str,
    ) -> Result<(), Stop> {
        let (wire, mut session) = (&self.0.wire, self.session(None).await);
        // A registry may protect its tags, also against what they name already.
        if wire.manifest(&mut session, version, media_type).await? == Some(*digest) {
            return Ok(());
        }
        let put = wire.put_manifest(&mut session, version, media_type, manifest);
        put.await
    }

    /// Sees to it that the registry has a part of the image. What it has, but of which nothing shows that the base has it too,
    /// may be another tenant's: that is mounted or sent as if it were not there.
    async fn blob(
        &self,
        order: Order<'_>,
        (blob, whose): (Blob, Whose),
        moved: &Moved,
    ) -> Result<(), Stop> {
        let (wire, store) = (&self.0.wire, &self.0.registries.0.store);
        let is_near = order.source.registry() == self.0.repository.registry();
        let from = (is_near && whose == Whose::Base).then(|| order.source.repository());
        // Anew for each attempt: a token may have run out since the last one.
        let mut session = self.session(from).await;
        let failed = |error| Stop::of_store(&error);
        let may_be_had = match whose {
            Whose::Own => true,
            Whose::Base => outside::has(store, &blob).await.map_err(failed)?,
        };
        if may_be_had && wire.has_blob(&mut session, &blob.digest).await? {
            moved.present.fetch_add(blob.size, Ordering::Relaxed);
            return Ok(());
        }
        let opened = match wire.open(&mut session, &blob.digest, from).await {
            // Not to be seen by this login, or a registry that mounts nothing.
            Err(stop) if from.is_some() && !stop.refusal.may_pass() => {
                wire.open(&mut session, &blob.digest, None).await?
            }
            opened => opened?,
        };
        match opened {
            Opened::Mounted => {
                moved.mounted.fetch_add(blob.size, Ordering::Relaxed);
            }
            Opened::At(place) => {
                let content = self.content(order, &blob, whose).await?;
                let broken = Arc::<OnceLock<Refusal>>::default();
                let (base, seen) = (order.base.clone(), Arc::clone(&broken));
                let content = content.inspect_err(move |error| {
                    let _ = seen.set(unread(&base, error));
                });
                let sent = wire.send(&session, place, &blob, content.boxed()).await;
                // The registry that is written to was told nothing but that it ended.
                sent.map_err(|stop| match broken.get() {
                    Some(refusal) => refusal.clone().into(),
                    None => stop,
                })?;
                moved.sent.fetch_add(blob.size, Ordering::Relaxed);
            }
        }
        if whose == Whose::Base && !may_be_had {
            outside::note(store, &blob).await.map_err(failed)?;
        }
        Ok(())
    }

    /// The bytes of `blob`: of the store where it was made here or the base is held, else of the base's registry, as they
    /// come.
    async fn content(&self, order: Order<'_>, blob: &Blob, whose: Whose) -> Result<Content, Stop> {
        let registries = &self.0.registries;
        let failed = |error| Stop::of_store(&error);
        let file = match whose {
            Whose::Own => {
                let stored = registries.0.store.open_blob(&blob.digest).await;
                let (file, _) = stored.map_err(failed)?.ok_or_else(|| {
                    Refusal::Unknown(format!("the store has lost {}", blob.digest))
                })?;
                Some(file)
            }
            Whose::Base => {
                let held = registries.held_layer(order.base, blob).await;
                held.map_err(failed)?
            }
        };
        let Some(file) = file else {
            let brought = registries.bring(order.base, Some(order.source), blob, 0..blob.size);
            return Ok(brought.await?);
        };
        let file = tokio::fs::File::from_std(file);
        Ok(ReaderStream::with_capacity(file, 64 << 10).boxed())
    }

    /// For an attempt, which may mount from the repository `from`.
    async fn session(&self, from: Option<&str>) -> Session {
        Session::new(self.login().await, self.0.repository.repository(), from)
    }
}

/// Why the content of a blob ended before its end.
fn unread(base: &ImageName, error: &std::io::Error) -> Refusal {
    let told = unreadable(base, &error.to_string());
    match error.kind() {
        std::io::ErrorKind::InvalidData => Refusal::Unknown(told),
        _ => Refusal::Passing(told),
    }
}
