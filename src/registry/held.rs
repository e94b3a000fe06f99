//! Base images that lie in the store with all their content, by full name: brought by `peitho images import`, or
//! pulled when a runtime of this host wanted one. They belong to nobody: any tenant may name a base, as it may name
//! one of a registry, so their refs stand beside those of the tenants, not among them.
//!
//! A ref is written when everything that it names is durable. One is removed by order alone; `collection` spares what they name.

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use super::Found;
use super::manifest::{Configuration, Descriptor, Unusable};
use crate::image_spec::{ImageConfig, ImageFacts};
use crate::names::{Digest, ImageName};
use crate::store::{self, Blob, RefKind, Scope, Store};

/// A base image with all its content in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldImage {
    /// Digest of its configuration: the image's id.
    pub id: Digest,
    /// The manifest's bytes, of a registry or an OCI layout as they came, of a docker-archive as written here.
    pub manifest: Blob,
    /// The configuration's bytes as they came.
    pub config: Blob,
    /// The part of the configuration that decides how a container starts.
    pub start: ImageConfig,
    /// The lowest first.
    pub layers: Vec<HeldLayer>,
}

/// One layer of a held image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldLayer {
    /// The layer as it came: a tar, plain or compressed, whose first bytes say which.
    pub blob: Blob,
    /// As the manifest has it.
    pub media_type: String,
    /// The digest that the uncompressed tar must have. Not checked before it is unpacked, but where it is the blob's.
    pub diff_id: Digest,
}

impl HeldImage {
    /// What it takes in the store, in bytes: layers that several images share are counted for each.
    pub fn size(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(|layer| layer.blob.size).sum();
        layers + self.config.size + self.manifest.size
    }

    pub(super) fn has(&self, layer: &Blob) -> bool {
        self.layers.iter().any(|it| it.blob == *layer)
    }

    /// All that it consists of.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        let documents = [&self.manifest, &self.config].into_iter();
        documents.chain(self.layers.iter().map(|layer| &layer.blob))
    }
}

impl HeldLayer {
    /// The layers that a manifest and its configuration promise, the lowest first, each held against what can be
    /// unpacked here.
    pub(super) fn promised(
        layers: &[Descriptor],
        config: &Configuration,
    ) -> Result<Vec<Self>, Unusable> {
        let diff_ids = config.diff_ids()?;
        let pairs = layers.iter().zip(diff_ids);
        pairs
            .map(|(layer, diff_id)| Self::new(layer, diff_id))
            .collect()
    }

    fn new(layer: &Descriptor, diff_id: Digest) -> Result<Self, Unusable> {
        let kind = layer.media_type.as_str();
        let tar = ["tar", "tar+gzip", "tar.gzip", "tar+zstd", "tar.zstd"];
        if !tar.iter().any(|tar| kind.ends_with(&format!(".{tar}"))) {
            return Err(Unusable(format!(
                "a layer of the type {kind:?}: tar, plain or with gzip or zstd, can be unpacked"
            )));
        }
        let digest = (layer.digest.parse()).map_err(|e| Unusable(format!("a layer: {e}")))?;
        Ok(Self {
            blob: Blob {
                digest,
                size: layer.size.ok_or("a layer without its size")?,
            },
            media_type: layer.media_type.clone(),
            diff_id,
        })
    }
}

/// Every held image with its name, sorted by name.
///
/// # Errors
/// When the store cannot be read.
pub async fn list(store: &Store) -> Result<Vec<(ImageName, HeldImage)>, store::Error> {
    let mut images = Vec::new();
    for text in store.list_refs(RefKind::Held, Scope::Nobody).await? {
        let name: ImageName = text.parse().map_err(|e| corrupt(&text, &e))?;
        // One that was removed in the meantime is no fault.
        images.extend(get(store, &name).await?.map(|image| (name, image)));
    }
    images.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(images)
}

/// The held image `name`.
pub(super) async fn get(
    store: &Store,
    name: &ImageName,
) -> Result<Option<HeldImage>, store::Error> {
    let name = name.full();
    store.get_ref(RefKind::Held, Scope::Nobody, &name).await
}

/// Holds `image`, whose blobs are all in the store, under `name`; whether they still are: what takes hours from the first layer to
/// here may have been collected meanwhile. Where they are not, `name` means what it meant before, unless another process has named
/// something meanwhile, and the next pull brings what is missing.
pub(super) async fn put(
    store: &Store,
    name: &ImageName,
    image: &HeldImage,
) -> Result<bool, store::Error> {
    let before = match get(store, name).await {
        Ok(before) => before,
        // It is of no use to anybody.
        Err(store::Error::Corrupt { .. }) => None,
        Err(error) => return Err(error),
    };
    write(store, name, image).await?;
    let whole = is_whole(store, image).await;
    if matches!(whole, Ok(true)) || get(store, name).await?.as_ref() != Some(image) {
        return whole;
    }
    match before {
        Some(before) => {
            write(store, name, &before).await?;
            // It was not named for a moment: what a collection has moved since comes back by this look.
            if !is_whole(store, &before).await? {
                tracing::warn!(image = %name, "image: parts of {name} are missing in the store; it is pulled again when it is wanted");
            }
        }
        None => drop(remove(store, name).await?),
    }
    whole
}

async fn write(store: &Store, name: &ImageName, image: &HeldImage) -> Result<(), store::Error> {
    let name = name.full();
    let put = store.put_ref(RefKind::Held, Scope::Nobody, &name, image);
    put.await
}

/// Holds `name` no longer; whether it was held. Its blobs are left to `collection`.
///
/// # Errors
/// When the store refuses.
pub async fn remove(store: &Store, name: &ImageName) -> Result<bool, store::Error> {
    let name = name.full();
    store.remove_ref(RefKind::Held, Scope::Nobody, &name).await
}

/// Whether all blobs of `image` are there.
pub(super) async fn is_whole(store: &Store, image: &HeldImage) -> Result<bool, store::Error> {
    for blob in image.blobs() {
        if !store.holds(blob).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The held image `name` as a registry would answer.
pub(super) async fn found(store: &Store, name: &ImageName) -> Result<Option<Found>, store::Error> {
    let Some(image) = get(store, name).await? else {
        return Ok(None);
    };
    let raw_config = document(store, name, &image.config).await?;
    Ok(Some(Found {
        id: image.id,
        digest: image.manifest.digest,
        manifest: document(store, name, &image.manifest).await?,
        facts: ImageFacts {
            // Where it came from an archive, no registry knows its digest.
            digest: None,
            place: None,
            architecture: Configuration::parse(&raw_config, image.layers.len())
                .ok()
                .and_then(|config| config.architecture()),
        },
        raw_config,
        config: image.start,
        source: name.clone(),
    }))
}

async fn document(store: &Store, name: &ImageName, blob: &Blob) -> Result<Vec<u8>, store::Error> {
    let text = name.full();
    let Some((file, _)) = store.open_blob(&blob.digest).await? else {
        return Err(corrupt(&text, &format!("{} is missing", blob.digest)));
    };
    let mut bytes = Vec::new();
    let read = tokio::fs::File::from_std(file)
        .read_to_end(&mut bytes)
        .await;
    read.map_err(|e| corrupt(&text, &e))?;
    Ok(bytes)
}

fn corrupt(name: &str, reason: &dyn std::fmt::Display) -> store::Error {
    store::Error::Corrupt {
        name: format!("held/{name}"),
        reason: reason.to_string(),
    }
}

/// Stores a small document.
pub(super) async fn put_document(store: &Store, bytes: &[u8]) -> Result<Blob, store::Error> {
    let mut ingest = store.ingest().await?;
    ingest.append(bytes).await?;
    store.commit(ingest).await
}
