//! Images on disk, as directories that containers share and never change: bases with all their layers in one, and the
//! layers of built images. The rest of this runtime puts them under each container's own files.
//!
//! ```text
//! <directory>/
//! ├── images/<hex digits of the base's id>/     all its layers, over each other
//! ├── layers/<hex digits of the diff id>/       the one layer of a built image
//! ├── {images,layers}/.unpacking-<random>/      on its way; renamed when it is whole and durable
//! └── rootfs.lock                               held, shared, by every process that has this open
//! ```
//!
//! What is there under its name is whole, so a process may end at any moment; [`Rootfs::open`] removes what that
//! leaves. What no image and no container refers to any more stays: who removes it, beside [`Rootfs::base`] and
//! [`Rootfs::layer`], has to ask the store and the containers first.

#[cfg(test)]
mod tests;
mod volume;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;

use self::volume::Unpacked;
use crate::archive::{self, Owners};
use crate::image_spec::{ImageConfig, Layer};
use crate::names::{Digest, ImageName};
use crate::registry::{HoldError, Registries};
use crate::single_flight::SingleFlight;
use crate::store::{self, Blob, Store};

const IMAGES: &str = "images";
const LAYERS: &str = "layers";

/// Why an image could not be brought to disk.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum RootfsError {
    /// The base cannot be had.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// The file system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted, for example `opening`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// A layer is damaged, refused or did not fit.
    #[error(
        "layer {layer} cannot be unpacked: {source}; run `peitho images verify` to see whether it is damaged"
    )]
    Layer {
        /// Its diff id.
        layer: Digest,
        /// Why.
        source: Arc<archive::Error>,
    },
    /// A layer holds something else than its image says.
    #[error(
        "layer {expected} of the image holds {actual} when it is unpacked; run `peitho images verify`, and do what it says"
    )]
    Mismatch {
        /// The image's diff id.
        expected: Digest,
        /// What came out.
        actual: Digest,
    },
    /// A layer is not in the store, though it should be.
    #[error("layer {0} is no longer in the store; run `peitho images verify`, and do what it says")]
    Lost(Digest),
    /// The store failed.
    #[error(transparent)]
    Store(Arc<store::Error>),
}

impl From<store::Error> for RootfsError {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl RootfsError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// A base on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Its root directory, not to be changed.
    pub(super) directory: PathBuf,
    /// How a container of it starts.
    pub(super) config: ImageConfig,
}

/// The directories; clones share them.
#[derive(Clone)]
pub(super) struct Rootfs(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    store: Store,
    registries: Registries,
    owners: Owners,
    unpackings: SingleFlight<PathBuf, Result<(), RootfsError>>,
    /// Tells other processes that unpackings may be under way.
    _lock: File,
}

impl Rootfs {
    /// Opens the images in `directory`, made where it is missing, and removes what a crash left half-unpacked, unless
    /// another process has it open. Files keep the owners that images give them where this process may give files away,
    /// which is tried here; else all are its own, as a container without root rights needs them.
    ///
    /// # Errors
    /// [`RootfsError::Io`].
    pub(super) async fn open(
        directory: &Path,
        store: Store,
        registries: Registries,
    ) -> Result<Self, RootfsError> {
        let path = directory.to_owned();
        let opened = blocking(directory, move || {
            volume::open(&path, &[IMAGES, LAYERS]).map_err(|e| RootfsError::io("opening", &path, e))
        });
        let volume::Opened {
            directory,
            lock,
            owners,
        } = opened.await?;
        Ok(Self(Arc::new(Inner {
            directory,
            store,
            registries,
            owners,
            unpackings: SingleFlight::default(),
            _lock: lock,
        })))
    }

    /// The base `name`, held by the store from now on, and unpacked. Both are done once, for all who want it.
    ///
    /// # Errors
    /// [`RootfsError`]; nothing of the image is on disk then.
    pub(super) async fn base(&self, name: &ImageName) -> Result<Base, RootfsError> {
        let image = self.0.registries.hold(name).await?;
        let directory = self.0.directory.join(IMAGES).join(image.id.hex());
        let layers = image.layers.iter().map(|layer| (layer.blob, layer.diff_id));
        self.unpacked(&directory, layers.collect()).await?;
        Ok(Base {
            directory,
            config: image.start,
        })
    }

    /// The directory that holds the layer of a built image, as it lies over the base's root: not to be changed.
    ///
    /// # Errors
    /// [`RootfsError`]; nothing of the layer is on disk then.
    pub(super) async fn layer(&self, layer: &Layer) -> Result<PathBuf, RootfsError> {
        let directory = self.0.directory.join(LAYERS).join(layer.diff_id.hex());
        let layers = vec![(layer.blob, layer.diff_id)];
        self.unpacked(&directory, layers).await?;
        Ok(directory)
    }

    /// Sees to it that `directory` holds `layers`, the lowest first.
    async fn unpacked(
        &self,
        directory: &Path,
        layers: Vec<(Blob, Digest)>,
    ) -> Result<(), RootfsError> {
        let work = || {
            let (this, directory) = (self.clone(), directory.to_owned());
            async move { this.unpack(directory, layers).await }
        };
        self.0.unpackings.run(directory.to_owned(), work).await
    }

    async fn unpack(
        self,
        directory: PathBuf,
        layers: Vec<(Blob, Digest)>,
    ) -> Result<(), RootfsError> {
        if tokio::fs::metadata(&directory).await.is_ok() {
            return Ok(());
        }
        let started = Instant::now();
        let mut files = Vec::with_capacity(layers.len());
        for (blob, diff_id) in layers {
            match self.0.store.open_blob(&blob.digest).await? {
                Some((file, _)) => files.push((file, diff_id)),
                None => return Err(RootfsError::Lost(blob.digest)),
            }
        }
        let (owners, to) = (self.0.owners, directory.clone());
        // Goes on when nobody waits any more: what is whole then is of use to the next one.
        let outcome = blocking(&directory, move || volume::unpack(files, owners, &to)).await?;
        if outcome == Unpacked::Now {
            tracing::info!(
                directory = %directory.display(), duration_ms = started.elapsed().as_millis() as u64,
                "oci: an image is unpacked"
            );
        }
        Ok(())
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, RootfsError> + Send + 'static,
) -> Result<T, RootfsError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(RootfsError::io("unpacking", path, e.into())))
}
