//! Built images as registries give them out, for people who pull one: `delivery` serves them. A repository is a name that
//! peers gave, without its tag, of one tenant; nothing is had of it but what one of its images consists of (design D4). The
//! layers of the base are where the base is.

use std::fs::File;
use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncReadExt as _;

use super::{Error, Image, Images};
use crate::names::{Digest, ImageName, Tenant};
use crate::registry::{Contents, LayerContent, LayerError};
use crate::store::{self, Blob, RefKind};

/// A manifest as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Of the bytes.
    pub digest: Digest,
    /// As it says of itself.
    pub media_type: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// A configuration or a layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub blob: Blob,
    whose: Whose,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    /// Made here, so it is in the store.
    Own,
    /// Of `base`, on which `image` stands.
    Base { base: ImageName, image: ImageName },
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Nothing was built under that name.
    #[error("there is no image {0}; /v2/_catalog lists those that there are")]
    Unknown(ImageName),
    /// The image has none.
    #[error(
        "{name} has no manifest: when it was built, its base {base} could not be read, so that only the new layer is here. \
         Let Peitho reach the registry of {base}, or bring it with `peitho images import`; then remove what was made of the \
         image with `docker rm -f`, and it with `docker rmi`, restart its peer, and install again"
    )]
    Partial {
        /// The image.
        name: ImageName,
        /// Its base.
        base: ImageName,
    },
    /// The store lost it, or failed.
    #[error(transparent)]
    Image(#[from] Error),
}

impl From<store::Error> for PullError {
    fn from(error: store::Error) -> Self {
        Self::Image(error.into())
    }
}

impl Images {
    /// The names that `tenant` has images under, without tags: each once, sorted.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn repositories(&self, tenant: &Tenant) -> Result<Vec<String>, Error> {
        let names = self.names(tenant).await?;
        let mut all: Vec<String> = names.iter().map(ImageName::familiar).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// The tags that `tenant` has in `repository`, sorted.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn tags(
        &self,
        tenant: &Tenant,
        repository: &ImageName,
    ) -> Result<Vec<String>, Error> {
        let names = self.named(tenant, repository).await?;
        let mut tags: Vec<_> = names.iter().filter_map(ImageName::tag).collect();
        tags.sort_unstable();
        Ok(tags.into_iter().map(str::to_owned).collect())
    }

    /// The manifest of `name`, by its tag or by the manifest's digest.
    ///
    /// # Errors
    /// [`PullError`].
    pub async fn manifest(&self, tenant: &Tenant, name: &ImageName) -> Result<Document, PullError> {
        let Some(digest) = name.digest() else {
            let image = self.built(tenant, name).await?;
            let image = image.ok_or_else(|| PullError::Unknown(name.clone()))?;
            let manifest = image.manifest.ok_or_else(|| PullError::Partial {
                name: name.clone(),
                base: image.base.name.clone(),
            })?;
            return Ok(self.document(&image, &manifest).await?);
        };
        let is_wanted = |image: &Image| image.manifest.filter(|it| it.digest == *digest);
        // As good as always the only one, and spares the list.
        if let Ok(latest) = name.at("latest")
            && let Some(image) = self.legible(tenant, &latest).await?
            && let Some(manifest) = is_wanted(&image)
        {
            return Ok(self.document(&image, &manifest).await?);
        }
        for name in self.named(tenant, name).await? {
            if let Some(image) = self.legible(tenant, &name).await?
                && let Some(manifest) = is_wanted(&image)
            {
                return Ok(self.document(&image, &manifest).await?);
            }
        }
        Err(PullError::Unknown(name.clone()))
    }

    /// What has the digest `digest` in an image of `repository`, if anything.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn part(
        &self,
        tenant: &Tenant,
        repository: &ImageName,
        digest: &Digest,
    ) -> Result<Option<Part>, Error> {
        // As good as always the only one, and spares the list.
        if let Ok(latest) = repository.at("latest")
            && let Some(image) = self.legible(tenant, &latest).await?
            && let Some(part) = self.part_of(&image, digest).await?
        {
            return Ok(Some(part));
        }
        for name in self.named(tenant, repository).await? {
            if let Some(image) = self.legible(tenant, &name).await?
                && let Some(part) = self.part_of(&image, digest).await?
            {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// The bytes `span` of `part`, which `tenant` may have; `None` where the store lost it.
    ///
    /// # Errors
    /// [`LayerError`].
    pub async fn content(
        &self,
        tenant: &Tenant,
        part: &Part,
        span: Range<u64>,
    ) -> Result<Option<LayerContent>, LayerError> {
        match &part.whose {
            Whose::Own => {
                let found = self.store.open_blob(&part.blob.digest).await?;
                Ok(found.map(|(file, _)| LayerContent::Held(file)))
            }
            Whose::Base { base, image } => {
                let content = self.registries.layer_of(base, &part.blob, span).await?;
                let LayerContent::Brought(content) = content else {
                    return Ok(Some(content));
                };
                let (tenant, base, image) = (tenant.clone(), base.clone(), image.clone());
                let layer = part.blob.digest;
                let told = content.inspect_err(move |error| {
                    tracing::warn!(
                        %tenant, %image, %base, %layer, %error,
                        "image: a layer of {base} broke off on its way to who pulls {image}"
                    );
                });
                Ok(Some(LayerContent::Brought(told.boxed())))
            }
        }
    }

    async fn part_of(&self, image: &Image, digest: &Digest) -> Result<Option<Part>, Error> {
        let own = |blob| Part {
            blob,
            whose: Whose::Own,
        };
        if image.layer.blob.digest == *digest {
            return Ok(Some(own(image.layer.blob)));
        }
        let Some(manifest) = image.manifest else {
            return Ok(None);
        };
        let manifest = self.document(image, &manifest).await?;
        let Contents { config, layers, .. } = contents(image, &manifest.bytes)?;
        if config.digest == *digest {
            return Ok(Some(own(config)));
        }
        let of_base = layers.into_iter().find(|layer| layer.digest == *digest);
        Ok(of_base.map(|blob| Part {
            blob,
            whose: Whose::Base {
                base: image.base.name.clone(),
                image: image.name.clone(),
            },
        }))
    }

    async fn document(&self, image: &Image, manifest: &Blob) -> Result<Document, Error> {
        let bytes = match self.store.open_blob(&manifest.digest).await? {
            Some((file, _)) => read(file).await,
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        let bytes = bytes.map_err(|error| {
            corrupt(image, format!("its manifest {}: {error}", manifest.digest))
        })?;
        Ok(Document {
            digest: manifest.digest,
            media_type: contents(image, &bytes)?.media_type,
            bytes,
        })
    }

    /// The image `name`, where its record is readable: a search goes on without it else.
    async fn legible(&self, tenant: &Tenant, name: &ImageName) -> Result<Option<Image>, Error> {
        match self.built(tenant, name).await {
            Err(Error::Store(error @ store::Error::Corrupt { .. })) => {
                tracing::warn!(%tenant, image = %name, %error, "image: a record is left out of a search");
                Ok(None)
            }
            built => built,
        }
    }

    /// The names of `tenant` in the repository of `name`.
    async fn named(&self, tenant: &Tenant, name: &ImageName) -> Result<Vec<ImageName>, Error> {
        let mut names = self.names(tenant).await?;
        names.retain(|it| it.is_beside(name));
        Ok(names)
    }

    async fn names(&self, tenant: &Tenant) -> Result<Vec<ImageName>, Error> {
        let names = self.store.readable_refs(RefKind::Image, tenant).await?;
        // All were written as this type.
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

async fn read(file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = tokio::fs::File::from_std(file);
    file.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn contents(image: &Image, manifest: &[u8]) -> Result<Contents, Error> {
    Contents::of(manifest).map_err(|error| corrupt(image, error.to_string()))
}

fn corrupt(image: &Image, reason: String) -> Error {
    let name = format!("image/{}", image.name);
    store::Error::Corrupt { name, reason }.into()
}
