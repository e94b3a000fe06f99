//! What is kept of a built image: the record under its name, from which everything that knows images reads. What it names is in
//! the store, and stays there while the record does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dockerfile;
use crate::image_spec::{Builder, ImageConfig, ImageFacts, Layer};
use crate::names::{Digest, ImageName};
use crate::store::Blob;

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
    /// Its name by digest in the registry that it was pushed to.
    #[serde(default)]
    pub pushed: Option<ImageName>,
    /// What compiled it, where this Peitho did, with a builder whose digest was known.
    #[serde(default)]
    pub builder: Option<Builder>,
}

/// The image named by `FROM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Base {
    /// As the Dockerfile names it.
    pub name: ImageName,
    /// Its configuration, when its registry could be reached.
    pub config: Option<ImageConfig>,
    /// The digest of its manifest, for the platform that it is of; as `config`.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// What its registry told beside.
    #[serde(default)]
    pub facts: ImageFacts,
}

impl Image {
    /// All that it consists of beside its base, in the store. The configuration's length is not recorded.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        let documents = self.manifest.map(|manifest| [manifest.digest, self.id]);
        std::iter::once(self.layer.blob.digest).chain(documents.into_iter().flatten())
    }

    /// The configuration of a container of this image: the base's with this image's `ENV`. `None` where the
    /// base's is not known.
    pub fn config(&self) -> Option<ImageConfig> {
        let mut config = self.base.config.clone()?;
        for pair in &self.env {
            dockerfile::set(&mut config.env, pair.clone());
        }
        Some(config)
    }
}
