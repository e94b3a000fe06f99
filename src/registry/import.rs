//! Base images brought in an archive: what `docker save` writes, and OCI layouts as tar, with gzip around them or not.
//! `cli` calls it, also while a server has the store open: that one sees an image as soon as its ref is there. Streams:
//! an archive may come from a pipe, and never lies in memory.

mod docker;
mod members;
mod oci;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::path::PathBuf;

use self::members::Members;
use super::held::{self, HeldImage, HeldLayer};
use super::manifest::{Configuration, Unusable};
use super::outside;
use crate::names::{Digest, ImageName, InvalidName};
use crate::store::{self, Store};

/// Why an archive was not imported. Nothing of it is held then that was not before; of several images perhaps the first ones.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Something else.
    #[error(
        "not a tar archive, plain or with gzip; what is compressed otherwise has to be expanded first"
    )]
    NotTar,
    /// A damaged or cut tar, or one with members that are refused.
    #[error(transparent)]
    Archive(#[from] crate::archive::Error),
    /// A tar without images.
    #[error(
        "no images: neither manifest.json, which `docker save` writes, nor index.json of an OCI layout is in it"
    )]
    NoImages,
    /// A member that another one names is not there.
    #[error("{} is not in it, and {named_by} names it", member.display())]
    Lacks {
        /// What is missing.
        member: PathBuf,
        /// By whom it is named.
        named_by: String,
    },
    /// A member is not what it should be.
    #[error("{}: {reason}", member.display())]
    Member {
        /// Which.
        member: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// More of something than any archive of images has.
    #[error("too many {0} for an archive of images")]
    TooMany(&'static str),
    /// An image is none, or of no use here.
    #[error("{image}: {reason}")]
    Unusable {
        /// Its name, or its digest where it has none.
        image: String,
        /// Why.
        reason: String,
    },
    /// All images are for other machines.
    #[error("no image for this machine, linux/{here}: only for {there}")]
    Foreign {
        /// This machine's architecture.
        here: &'static str,
        /// The platforms that are there.
        there: String,
    },
    /// The name of an image, or a digest, does not have its form.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// No image has a name.
    #[error("its images have no names; give the one of a single image with --name")]
    NoName,
    /// One name for several images.
    #[error("--name is for one image, and it has {0}")]
    Several(usize),
    /// It took longer than the store keeps what no record names yet.
    #[error(
        "parts of {0} were collected before it was whole, since its import took longer than store.collectEverySeconds; import it again"
    )]
    Collected(ImageName),
    /// The volume refused what is on its way in.
    #[error("cannot be kept: {0}")]
    Spool(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// An image of the archive, before its layers are in the store.
struct Draft {
    names: Vec<ImageName>,
    /// Where the archive has one.
    manifest: Option<Vec<u8>>,
    raw_config: Vec<u8>,
    config: Configuration,
    layers: Vec<Layer>,
    /// Who names the layers.
    named_by: &'static str,
}

/// A layer in the archive.
struct Layer {
    member: PathBuf,
    /// Of the member.
    digest: Digest,
    media_type: String,
    diff_id: Digest,
}

/// Holds the images of `archive` that have names, or its only one under `name`; gives names and images, in the
/// archive's order. What is held already stays as it is, and an image of the same name is replaced. Durable when this
/// returns. `archive` is read on a thread where it may block.
///
/// A name that is pinned to a digest is taken at its giver's word: an archive of `docker save` has no manifest to
/// compare with.
///
/// # Errors
/// [`ImportError`].
pub async fn import(
    store: &Store,
    archive: impl Read + Send + 'static,
    name: Option<ImageName>,
) -> Result<Vec<(ImageName, HeldImage)>, ImportError> {
    let spooled = tokio::task::spawn_blocking({
        let store = store.clone();
        move || {
            let members = Members::read(archive, &store)?;
            let drafts = drafts(&members)?;
            Ok::<_, ImportError>((members, drafts))
        }
    });
    let (mut members, drafts) = (spooled.await).map_err(|e| ImportError::Spool(e.into()))??;
    let mut images = Vec::new();
    for draft in named(drafts, name)? {
        let names = draft.names.clone();
        let image = commit(draft, &mut members, store).await?;
        images.extend(names.into_iter().map(|name| (name, image.clone())));
    }
    for (name, image) in &images {
        if !held::put(store, name, image).await? {
            return Err(ImportError::Collected(name.clone()));
        }
    }
    Ok(images)
}

/// An archive of newer versions of Docker is both; as an OCI layout it says more.
fn drafts(members: &Members) -> Result<Vec<Draft>, ImportError> {
    if members.has(oci::INDEX) {
        oci::drafts(members)
    } else if members.has(docker::MANIFEST) {
        docker::drafts(members)
    } else {
        Err(ImportError::NoImages)
    }
}

/// The drafts that have a name, or the only one with the name that was given.
fn named(mut drafts: Vec<Draft>, name: Option<ImageName>) -> Result<Vec<Draft>, ImportError> {
    match (name, drafts.as_mut_slice()) {
        (_, []) => return Err(ImportError::NoImages),
        (Some(name), [only]) => only.names = vec![name],
        (Some(_), several) => return Err(ImportError::Several(several.len())),
        (None, _) => drafts.retain(|draft| !draft.names.is_empty()),
    }
    match drafts.is_empty() {
        true => Err(ImportError::NoName),
        false => Ok(drafts),
    }
}

async fn commit(
    draft: Draft,
    members: &mut Members,
    store: &Store,
) -> Result<HeldImage, ImportError> {
    let shown = draft.names.first().map(ToString::to_string);
    let shown = shown.unwrap_or_default();
    (draft.config.runs_here()).map_err(|what| unusable(&shown, what))?;
    let mut layers = Vec::with_capacity(draft.layers.len());
    for layer in draft.layers {
        let (member, named_by) = (&layer.member, draft.named_by);
        let blob = members.commit(member, named_by, &layer.digest, store);
        let blob = blob.await?;
        outside::note(store, &blob).await?;
        layers.push(HeldLayer {
            blob,
            media_type: layer.media_type,
            diff_id: layer.diff_id,
        });
    }
    let manifest = match draft.manifest {
        Some(manifest) => manifest,
        None => docker::manifest(&draft.raw_config, &layers),
    };
    Ok(HeldImage {
        id: Digest::of(&draft.raw_config),
        manifest: held::put_document(store, &manifest).await?,
        config: held::put_document(store, &draft.raw_config).await?,
        start: draft.config.start,
        layers,
    })
}

fn unusable(image: &str, Unusable(reason): Unusable) -> ImportError {
    let image = image.to_owned();
    ImportError::Unusable { image, reason }
}
