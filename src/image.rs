//! Images: what peers inspect, pull and build (`engine_api`), and what `container` looks up to launch.
//! Built images are assembled natively, one normalised layer over a base that need not be at hand
//! (design D3). This module knows nothing of HTTP and nothing of containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image_spec::{ImageConfig, Layer};
use crate::names::{Digest, ImageName, Tenant};
use crate::registry::Registries;
use crate::store::{self, Blob, Ingest, Store};

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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// An image that Peitho built: base + one layer. Stored as a ref, one document per tenant and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// As the peer names it.
    pub name: ImageName,
    /// The config's digest where the base's config was at hand, else the digest of this record's
    /// reproducible part.
    pub id: Digest,
    /// What it stands on.
    pub base: Base,
    /// The layer that was added.
    pub layer: Layer,
    /// `ENV` of the Dockerfile, in order.
    pub env: Vec<(String, String)>,
    /// `LABEL` of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// The OCI manifest, when the base's manifest was at hand; a *partial* image has none.
    pub manifest: Option<Blob>,
}

/// The image named by `FROM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Base {
    /// As the Dockerfile names it.
    pub name: ImageName,
    /// Its configuration, when its registry could be reached.
    pub config: Option<ImageConfig>,
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
    /// Length of the layers that Peitho holds, in bytes.
    pub size: u64,
}

/// The door to images; clones share it.
#[derive(Clone)]
pub struct Images {
    store: Store,
    registries: Registries,
}

impl Images {
    /// Images in `store`, bases from `registries`.
    pub fn new(store: Store, registries: Registries) -> Self {
        Self { store, registries }
    }

    /// What is known of `name`. A chaincode image exists when `tenant` built it, and this waits rather than
    /// fail for a passing reason (protocol rule 5: the peer would cache the failure until it restarts).
    /// A builder or runtime image exists unless its registry says that it does not.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Store`].
    pub async fn inspect(&self, tenant: &Tenant, name: &ImageName) -> Result<Inspected, Error> {
        let _ = (tenant, name, &self.store, &self.registries);
        todo!()
    }

    /// Makes sure that `name` can be used by pods: a second look at its registry. Nothing is copied; the
    /// node's own runtime pulls.
    ///
    /// # Errors
    /// [`Error::Refused`] with the registry's reason.
    pub async fn pull(&self, name: &ImageName) -> Result<(), Error> {
        let _ = name;
        todo!()
    }

    /// The image `name` that `tenant` built, or `None`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn built(&self, tenant: &Tenant, name: &ImageName) -> Result<Option<Image>, Error> {
        let _ = (tenant, name);
        todo!()
    }

    /// The configuration of any image by its registry: `None` when that is out of reach.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the registry says so.
    pub async fn config(&self, name: &ImageName) -> Result<Option<ImageConfig>, Error> {
        let _ = name;
        todo!()
    }

    /// Builds `name` for `tenant` from a complete `/build` body: gzip(tar) with `Dockerfile` and
    /// `binpackage.tar`. Equal input gives an equal digest. Stored durably when this returns.
    ///
    /// # Errors
    /// [`Error::Context`], [`Error::Dockerfile`], [`Error::Archive`] for bad input, [`Error::Store`]; nothing
    /// is stored then.
    pub async fn build(
        &self,
        tenant: &Tenant,
        name: &ImageName,
        body: Ingest,
    ) -> Result<Image, Error> {
        let _ = (tenant, name, body);
        todo!()
    }
}
