//! Images: what peers inspect, pull and build (`engine_api`), and what `container` looks up to launch.
//! Built images are assembled natively, one normalised layer over a base that need not be at hand
//! (design D3). This module knows nothing of HTTP and nothing of containers.
//!
//! A build goes: `context` (the body's two members) → `dockerfile` (what is ordered) and `tree` (what the
//! compile left) → `layer` (its bytes) → `assemble` (with the base's own JSON, where that is at hand).

mod assemble;
mod base;
mod context;
mod dockerfile;
#[cfg(test)]
mod fixtures;
#[doc(hidden)]
pub mod fuzzing;
mod layer;
mod listed;
mod named;
mod pulled;
mod recent;
mod record;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use self::assemble::Delta;
use self::context::Context;
use self::dockerfile::Dockerfile;
use self::recent::{Made, Recent};
use crate::compile::Origins;
use crate::events::{Action, Events};
use crate::image_spec::{ImageConfig, ImageFacts};
use crate::names::{Digest, ImageName, Tenant};
use crate::orders::Orders;
use crate::registry::{Found, Lookup, Order, PushError, Pusher, Registries};
use crate::store::{self, Blob, Ingest, RefKind, Store};

/// For how long, by the clock, an inspect looks again when the store fails for a moment (design D18). A look may take a minute itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Names are told of once, up to so many.
const MOST_TOLD: usize = 1024;

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such image; the Engine API says `No such image: …` (protocol rule 4).
    #[error("No such image: {0}")]
    NotFound(ImageName),
    /// The registry refuses or lacks the image: its own words.
    #[error("pull of {name} failed: {reason}")]
    Refused {
        /// The image.
        name: ImageName,
        /// The registry's reason.
        reason: String,
    },
    /// The `/build` body is not what a peer sends: what is missing or damaged.
    #[error("build context: {0}")]
    Context(String),
    /// An instruction that is not in the subset, or is malformed, by its line.
    #[error("Dockerfile line {line}: {reason}")]
    Dockerfile {
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what is accepted.
        reason: String,
    },
    /// The archive inside the context is refused.
    #[error("build context: {0}")]
    Archive(#[from] crate::archive::Error),
    /// Removal of an image that Peitho did not build for the tenant.
    #[error(
        "not supported by Peitho: removal of {0}, a base image that all tenants share: it stays in the store"
    )]
    Held(ImageName),
    /// What was given is the beginning of several ids, in hexadecimal digits.
    #[error("Multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// Removal by an id that several names share: each may be of another peer.
    #[error(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories; give one of its {names} names, as docker images shows them",
        &id.hex()[..12]
    )]
    ManyNames {
        /// The id.
        id: Digest,
        /// How many names it has.
        names: usize,
    },
    /// The build took longer than the store keeps what no record names yet.
    #[error(
        "build of {0}: parts of it were collected before it was whole, since it took longer than store.collectEverySeconds; install again"
    )]
    Collected(ImageName),
    /// The image is built and not in the registry that it runs from.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The documents of a complete image, in the store.
struct Stored {
    /// The configuration; its digest is the image's id.
    config: Blob,
    /// Of the manifest.
    blob: Blob,
    manifest: Vec<u8>,
}

/// What inspect tells of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The image's id: its config's digest, or for an image whose registry is out of reach a stable
    /// synthetic one (design D3).
    pub id: Digest,
    /// The name that was asked for.
    pub name: ImageName,
    /// Its configuration where known.
    pub config: Option<ImageConfig>,
    /// What a registry told beside.
    pub facts: ImageFacts,
    /// The digest of its manifest, for this machine's platform; likewise.
    pub manifest: Option<Digest>,
    /// Length of the layers that Peitho holds, in bytes.
    pub size: u64,
    /// `LABEL`s of its build, and what else is known, by [`labels`](crate::names::labels); of built ones alone.
    pub labels: BTreeMap<String, String>,
}

impl Inspected {
    /// Of one that `tenant` built, found under `name`.
    fn of_built(tenant: &Tenant, name: &ImageName, image: &Image) -> Self {
        Self {
            id: image.id,
            name: name.clone(),
            config: image.config(),
            facts: ImageFacts::default(),
            manifest: image.manifest.map(|manifest| manifest.digest),
            size: image.layer.blob.size,
            labels: listed::told(tenant, image),
        }
    }
}

pub use listed::{Catalogue, Listed, catalogue};
pub use pulled::{Document, Part, PullError};
pub use record::{Base, Image};

/// The door to images; clones share it.
#[derive(Clone)]
pub struct Images {
    store: Store,
    registries: Registries,
    pusher: Option<Pusher>,
    /// Images whose registry is out of reach, and of which the log tells already.
    told: Arc<Mutex<HashSet<ImageName>>>,
    events: Events,
    origins: Origins,
    recent: Recent,
    naming: Arc<Orders<(Tenant, ImageName)>>,
}

impl Images {
    /// Images in `store`, bases from `registries`.
    pub fn new(store: Store, registries: Registries) -> Self {
        Self {
            store,
            registries,
            pusher: None,
            told: Arc::default(),
            events: Events::default(),
            origins: Origins::default(),
            recent: Recent::default(),
            naming: Arc::default(),
        }
    }

    /// The same, where `origins` tells which builder made an output.
    pub fn made_by(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// The same, where `pusher` brings what is built into a registry.
    pub fn pushed_by(self, pusher: Option<Pusher>) -> Self {
        Self { pusher, ..self }
    }

    /// What happens to images, and whatever else is told beside.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What is known of `name`. A chaincode image exists when `tenant` built it, and this waits rather than
    /// fail for a passing reason (protocol rule 5: the peer would cache the failure until it restarts).
    /// A builder or runtime image exists unless its registry says that it does not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or [`Error::Store`].
    pub async fn inspect(&self, tenant: &Tenant, name: &ImageName) -> Result<Inspected, Error> {
        let look = || self.built(tenant, name);
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times();
        let begun = Instant::now();
        let built = look
            .retry(backoff)
            .when(|error| {
                begun.elapsed() < PATIENCE
                    && matches!(error, Error::Store(fault) if fault.may_pass())
            })
            .notify(|error, pause| {
                tracing::warn!(%tenant, image = %name, %error, ?pause, "image: inspect waits for the store");
            })
            .await?;
        if let Some(image) = built {
            return Ok(Inspected::of_built(tenant, name, &image));
        }
        // All of them have one id; so any will do.
        if let Some(image) = self.of_id(tenant, name).await?.first() {
            return Ok(Inspected::of_built(tenant, &image.name, image));
        }
        if name.is_chaincode() {
            return Err(Error::NotFound(name.clone()));
        }
        let (id, config, facts, manifest) = match self.look_up(name).await {
            Lookup::Found(found) => (
                found.id,
                Some(found.config),
                found.facts,
                Some(found.digest),
            ),
            Lookup::Missing(_) => return Err(Error::NotFound(name.clone())),
            Lookup::Unknown(cause) => {
                self.tell_unknown(name, &cause);
                let id = Digest::of(name.full().as_bytes());
                (id, None, ImageFacts::default(), None)
            }
        };
        Ok(Inspected {
            id,
            name: name.clone(),
            config,
            facts,
            manifest,
            size: 0,
            labels: BTreeMap::new(),
        })
    }

    /// Makes sure that `name` can be used by pods: a second look at its registry. Nothing is copied; the
    /// node's own runtime pulls.
    ///
    /// # Errors
    /// [`Error::Refused`] with the registry's reason.
    pub async fn pull(&self, name: &ImageName) -> Result<(), Error> {
        match self.look_up(name).await {
            Lookup::Found(_) => Ok(()),
            Lookup::Missing(reason) => Err(refused(name, reason)),
            Lookup::Unknown(cause) => {
                self.tell_unknown(name, &cause);
                Ok(())
            }
        }
    }

    /// Waits until nobody else of this process changes what `name` means to `tenant`; nobody does until the guard is dropped.
    async fn turn(&self, tenant: &Tenant, name: &ImageName) -> OwnedMutexGuard<()> {
        self.naming.turn(&(tenant.clone(), name.clone())).await
    }

    /// The image `name` that `tenant` built, or `None`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn built(&self, tenant: &Tenant, name: &ImageName) -> Result<Option<Image>, Error> {
        let name = name.full();
        Ok(self.store.get_ref(RefKind::Image, tenant, &name).await?)
    }

    /// Where the nodes get `image` whole; `None` where they get its base, and its layer is delivered.
    pub fn whole(&self, image: &Image) -> Option<ImageName> {
        // What was pushed before the mode or the registry was changed is not asked for there: nodes have no login for that
        // one any more, and it may be gone. The store has the layer.
        let pusher = self.pusher.as_ref()?;
        image.pushed.clone().filter(|pushed| pusher.reaches(pushed))
    }

    /// The configuration of any image by its registry: `None` when that is out of reach.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the registry says so.
    pub async fn config(&self, name: &ImageName) -> Result<Option<ImageConfig>, Error> {
        match self.look_up(name).await {
            Lookup::Found(found) => Ok(Some(found.config)),
            Lookup::Missing(_) => Err(Error::NotFound(name.clone())),
            Lookup::Unknown(cause) => {
                self.tell_unknown(name, &cause);
                Ok(None)
            }
        }
    }

    /// Builds `name` for `tenant` from a complete `/build` body: gzip(tar) with `Dockerfile` and
    /// `binpackage.tar`. Equal input gives an equal digest. Stored durably, and in the registry where it runs from one, when
    /// this returns.
    ///
    /// # Errors
    /// [`Error::Context`], [`Error::Dockerfile`], [`Error::Archive`] for bad input, [`Error::Refused`] for a
    /// base that its registry does not have, [`Error::Push`], [`Error::Store`]; no image is stored then.
    pub async fn build(
        &self,
        tenant: &Tenant,
        name: &ImageName,
        body: Ingest,
    ) -> Result<Image, Error> {
        let started = Instant::now();
        let digest = body.digest().await?;
        let make = async || self.make(body).await;
        let (made, lookup) = self.recent.made(digest, &self.store, make).await?;
        let Made {
            dockerfile,
            output,
            layer,
        } = made;
        let Dockerfile {
            from, env, labels, ..
        } = dockerfile;
        let base = match lookup {
            Some(base) => base?,
            None => self.base_of_build(&from).await?,
        };
        let delta = Delta {
            layer: &layer,
            env: &env,
            labels: &labels,
        };
        let builder = self.origins.of(tenant, &output);
        let assembled = match &base {
            Some(found) => {
                let annotations =
                    assemble::annotations(name, &from, found, delta, builder.as_ref());
                Some(self.assemble(&from, found, delta, &annotations).await?)
            }
            None => None,
        };
        let pushed = match (&self.pusher, &assembled, &base) {
            (Some(pusher), Some(assembled), Some(found)) => {
                let (base, source, manifest) = (&from, &found.source, &assembled.manifest);
                Some(
                    pusher
                        .push(Order {
                            name,
                            base,
                            source,
                            manifest,
                        })
                        .await?,
                )
            }
            _ => None,
        };
        let (id, manifest) = match &assembled {
            Some(Stored { config, blob, .. }) => (config.digest, Some(*blob)),
            None => (assemble::partial_id(&from, delta), None),
        };
        let image = Image {
            name: name.clone(),
            id,
            base: Base {
                name: from,
                facts: (base.as_ref()).map_or_else(ImageFacts::default, |it| it.facts.clone()),
                digest: base.as_ref().map(|found| found.digest),
                config: base.map(|found| found.config),
            },
            layer,
            env,
            labels,
            manifest,
            pushed,
            builder,
        };
        // Last: everything it names is durable by then.
        let config = assembled.as_ref().map(|stored| stored.config);
        self.name(tenant, &image, config).await?;
        tracing::info!(
            %tenant, image = %name, image.digest = %image.id, base = %image.base.name,
            partial = image.manifest.is_none(), layer.size = image.layer.blob.size,
            duration_ms = started.elapsed().as_millis() as u64,
            "image: built {name}"
        );
        self.tell(tenant, &image, Action::Tag);
        Ok(image)
    }

    /// Makes the layer of a body, and looks its base up meanwhile: who brings the same body does not wait for a registry that is away.
    async fn make(&self, body: Ingest) -> Result<(Made, Result<Option<Box<Found>>, Error>), Error> {
        let contents = self.store.ingest().await?;
        let Context {
            dockerfile,
            tree,
            output,
        } = blocking(move || context::read(&body, contents)).await?;
        let to = self.store.ingest().await?;
        let destination = dockerfile.destination.clone();
        let (written, base) = tokio::join!(
            blocking(move || layer::write(&tree, destination, to)),
            self.base_of_build(&dockerfile.from),
        );
        let ((draft, layer), base) = match (written?, base) {
            // There will be no image.
            (_, Err(refused @ Error::Refused { .. })) => return Err(refused),
            other => other,
        };
        let layer = draft.stored(self.store.commit(layer).await?);
        let made = Made {
            dockerfile,
            output,
            layer,
        };
        Ok((made, base))
    }

    /// Makes configuration and manifest, and stores them.
    async fn assemble(
        &self,
        from: &ImageName,
        base: &Found,
        delta: Delta<'_>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Stored, Error> {
        let assembled = assemble::complete(base, delta, annotations)
            .map_err(|e| refused(from, e.to_string()))?;
        let config = self.put(&assembled.config).await?;
        Ok(Stored {
            config,
            blob: self.put(&assembled.manifest).await?,
            manifest: assembled.manifest,
        })
    }

    async fn put(&self, bytes: &[u8]) -> Result<Blob, Error> {
        let mut ingest = self.store.ingest().await?;
        ingest.append(bytes).await?;
        Ok(self.store.commit(ingest).await?)
    }

    /// Says once per image why its registry is out of reach: every install asks for it again.
    fn tell_unknown(&self, name: &ImageName, cause: &str) {
        let is_new = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= MOST_TOLD {
                told.clear();
            }
            told.insert(name.clone())
        };
        if is_new {
            tracing::info!(
                image = %name, cause,
                "image: the registry of {name} cannot tell; it is taken to exist, and the nodes pull it themselves"
            );
        }
    }
}

fn refused(name: &ImageName, reason: String) -> Error {
    Error::Refused {
        name: name.clone(),
        reason,
    }
}

/// Runs `work` beside the async runtime. It goes on when the caller is gone; its files are then removed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // A panic goes on where it would be without the thread.
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(Error::Context(format!(
                "the build was given up: {cancelled}"
            ))),
        },
    }
}
