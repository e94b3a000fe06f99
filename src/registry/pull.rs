//! Images brought from their registry with all their content: once, however many want one, and held only when
//! every byte is verified and durable. A download that is cut goes on where it stopped.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, ExponentialBuilder, Retryable as _, RetryableWithContext as _};
use futures::{StreamExt as _, TryStreamExt as _};
use oci_client::errors::OciDistributionError;
use tokio::time::Instant;

use super::answer::Refusal;
use super::bring::End;
use super::held::{self, HeldImage, HeldLayer};
use super::manifest::{Configuration, ImageManifest, Manifest, Unusable};
use super::turns::Turn;
use super::{Found, Registries, outside};
use crate::names::{Digest, ImageName};
use crate::store::{self, Ingest};

/// Layers of one image that are under way at once: the largest one decides, and registries limit each client.
const AT_ONCE: usize = 3;

/// Why an image could not be held.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HoldError {
    /// Its registry says that it does not exist.
    #[error("{name} does not exist; its registry says: {words}")]
    Missing {
        /// The image.
        name: ImageName,
        /// The registry's words.
        words: String,
    },
    /// Its registry is out of reach, denies it, or answers what is no image.
    #[error(
        "{name} cannot be pulled: {cause}; mend that, or bring it with `peitho images import FILE`"
    )]
    OutOfReach {
        /// The image.
        name: ImageName,
        /// Why.
        cause: String,
    },
    /// It took longer than the store keeps what no record names yet.
    #[error(
        "parts of {0} were collected before it was whole, since its pull took longer than store.collectEverySeconds; the next one brings them alone"
    )]
    Collected(ImageName),
    /// The store failed.
    #[error(transparent)]
    Store(Arc<store::Error>),
}

impl HoldError {
    fn of(name: &ImageName, refusal: Refusal) -> Self {
        let name = name.clone();
        match refusal {
            Refusal::Missing(words) => Self::Missing { name, words },
            refusal => Self::OutOfReach {
                name,
                cause: refusal.to_string(),
            },
        }
    }
}

impl From<store::Error> for HoldError {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Why a pull stopped.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("{0}")]
    Refused(Refusal),
    /// A layer is not what its digest says.
    #[error(transparent)]
    Damaged(store::Error),
    #[error(transparent)]
    Store(store::Error),
}

impl Stop {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.may_pass())
    }

    /// What the place says that gave nothing; `Err` where it was not the place.
    fn refusal(self) -> Result<Refusal, store::Error> {
        match self {
            Self::Refused(refusal) => Ok(refusal),
            Self::Damaged(error) => {
                let told = format!("its registry sends a damaged layer: {error}");
                Ok(Refusal::Unknown(told))
            }
            Self::Store(error) => Err(error),
        }
    }
}

impl<E: Into<Refusal>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// What is tried again, and how often as long as nothing arrives at all: some five seconds, since a peer waits.
fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_factor(2.0)
        .with_jitter()
        .with_max_times(3)
}

impl Registries {
    /// The held image `name`; where it is not held yet, pulled now for linux on `images.architecture`,
    /// which is this machine's where anything runs on it. All who want one image share a pull; it ends with the last of them, and
    /// what had come by then is not fetched again.
    ///
    /// # Errors
    /// [`HoldError`]; nothing is held then that was not before.
    pub async fn hold(&self, name: &ImageName) -> Result<HeldImage, HoldError> {
        let work = || {
            let (this, name) = (self.clone(), name.clone());
            async move { this.held_or_pulled(&name).await }
        };
        self.0.pulls.run(name.clone(), work).await
    }

    async fn held_or_pulled(&self, name: &ImageName) -> Result<HeldImage, HoldError> {
        let store = &self.0.store;
        match held::get(store, name).await {
            Ok(Some(image)) if held::is_whole(store, &image).await? => return Ok(image),
            Ok(None) => {}
            Ok(Some(_)) => {
                tracing::warn!(image = %name, "image: parts of {name} are missing in the store; it is pulled again");
            }
            Err(error @ store::Error::Corrupt { .. }) => {
                tracing::warn!(image = %name, %error, "image: the record of {name} is damaged; it is pulled again");
            }
            Err(error) => return Err(error.into()),
        }
        let started = Instant::now();
        let image = self.pull(name).await?;
        if !held::put(store, name, &image).await? {
            return Err(HoldError::Collected(name.clone()));
        }
        tracing::info!(
            image = %name, image.digest = %image.id, size = image.size(),
            duration_ms = started.elapsed().as_millis() as u64,
            "image: pulled {name}"
        );
        Ok(image)
    }

    /// From the first place that has all of it.
    async fn pull(&self, name: &ImageName) -> Result<HeldImage, HoldError> {
        let work = |place: ImageName, turn| async move {
            match self.pull_at(&place, turn).await {
                Ok(image) => Ok(Ok(image)),
                Err(stop) => stop.refusal().map(Err),
            }
        };
        let pulled = self.first_that_has(name, None, work).await?;
        pulled.map_err(|refusal| HoldError::of(name, refusal))
    }

    async fn pull_at(&self, place: &ImageName, turn: Turn) -> Result<HeldImage, Stop> {
        let ask = || async { Ok::<_, Stop>(self.ask_in_time(place).await?) };
        let found = match turn {
            // Not patient before the first byte: there are others.
            Turn::Earlier => ask().await?,
            Turn::Last => ask.retry(patience()).when(Stop::may_pass).await?,
        };
        self.pull_found(found).await
    }

    async fn pull_found(&self, found: Found) -> Result<HeldImage, Stop> {
        let name = &found.source;
        let (manifest, config) = documents(&found)?;
        let layers = HeldLayer::promised(&manifest.layers, &config)?;
        let layers = futures::stream::iter(layers)
            .map(|layer| self.layer(name, layer))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let put = |bytes| held::put_document(&self.0.store, bytes);
        Ok(HeldImage {
            id: found.id,
            config: put(&found.raw_config).await.map_err(Stop::Store)?,
            manifest: put(&found.manifest).await.map_err(Stop::Store)?,
            start: found.config,
            layers,
        })
    }

    /// Brings one layer into the store, unless it is there and may be had by who names it.
    async fn layer(&self, name: &ImageName, layer: HeldLayer) -> Result<HeldLayer, Stop> {
        let store = &self.0.store;
        if outside::has(store, &layer.blob)
            .await
            .map_err(Stop::Store)?
            && (store.holds(&layer.blob).await).map_err(Stop::Store)?
        {
            return Ok(layer);
        }
        let fetch = || async {
            let ingest = self.download(name, &layer).await?;
            match store.commit_expecting(ingest, &layer.blob.digest).await {
                Err(error @ store::Error::Mismatch { .. }) => Err(Stop::Damaged(error)),
                committed => committed.map_err(Stop::Store),
            }
        };
        // Something on the way may have changed bytes. If it is the registry, it will do so again.
        let once_more = ConstantBuilder::default()
            .with_delay(Duration::ZERO)
            .with_max_times(1);
        fetch
            .retry(once_more)
            .when(|stop| matches!(stop, Stop::Damaged(_)))
            .notify(|error, _| {
                tracing::warn!(image = %name, %error, "image: a layer of {name} came damaged; once more");
            })
            .await?;
        (outside::note(store, &layer.blob).await).map_err(Stop::Store)?;
        Ok(layer)
    }

    /// The whole of a layer. Goes on after each fault as long as every few attempts bring something.
    async fn download(&self, name: &ImageName, layer: &HeldLayer) -> Result<Ingest, Stop> {
        let mut ingest = self.0.store.ingest().await.map_err(Stop::Store)?;
        loop {
            let before = ingest.len();
            let attempt = |mut ingest: Ingest| async {
                let done = self.append_rest(name, layer, &mut ingest).await;
                (ingest, done)
            };
            let (returned, done) = attempt
                .retry(patience())
                .context(ingest)
                .when(Stop::may_pass)
                .notify(|stop, pause| {
                    tracing::warn!(image = %name, layer = %layer.blob.digest, error = %stop, ?pause, "image: the pull of {name} goes on after a fault");
                })
                .await;
            ingest = returned;
            match done {
                Ok(()) => return Ok(ingest),
                Err(stop) if stop.may_pass() && ingest.len() > before => {}
                Err(stop) => return Err(stop),
            }
        }
    }

    async fn append_rest(
        &self,
        name: &ImageName,
        layer: &HeldLayer,
        ingest: &mut Ingest,
    ) -> Result<(), Stop> {
        let span = ingest.len()..layer.blob.size;
        if span.is_empty() {
            return Ok(());
        }
        let mut rest = self.open(name, &layer.blob, span, End::Rest).await?;
        while let Some(part) = rest.try_next().await.map_err(broken)? {
            ingest.append(&part).await.map_err(Stop::Store)?;
        }
        Ok(())
    }
}

/// Why a layer ended before its end: it was cut, or it is not what was promised.
fn broken(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::InvalidData => Refusal::Unknown(error.to_string()),
        _ => OciDistributionError::from(error).into(),
    }
}

/// What `found` consists of, verified and usable on this machine.
fn documents(found: &Found) -> Result<(ImageManifest, Configuration), Unusable> {
    let Manifest::Image(manifest) = Manifest::parse(&found.manifest)? else {
        return Err("an index of indexes".into());
    };
    let promised = &manifest.config.digest;
    if Digest::of(&found.raw_config).to_string() != *promised {
        return Err(Unusable(format!("its configuration is not {promised}")));
    }
    let config = Configuration::parse(&found.raw_config, manifest.layers.len())?;
    config.runs_here()?;
    Ok((manifest, config))
}
