//! What the store has, held against what its records say. Damage is moved to quarantine, so that it is never served, and told:
//! what, why, and what to do. The server looks at its start, at records and lengths; an operator may have all content read.
//!
//! An image whose layer is lost loses its record too. Then the peer hears 404 when it looks for the image, and builds it
//! anew: one of 1.4 at the next launch, one of 2.x once it was restarted, or when the package is installed again. Where the
//! record stayed, it would be told for ever that the image is there.

use std::collections::HashMap;

use futures::TryStreamExt as _;

use crate::image::Image;
use crate::names::{Digest, ImageName, Tenant};
use crate::registry::HeldImage;
use crate::store::{self, Blob, Place, Read, RefKind, Store, Verdict};

/// How closely the check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// At records, and at the length of each blob.
    Lengths,
    /// At all content that images need.
    Contents,
}

/// What was found: a line for each thing.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many images there are.
    pub images: u64,
    /// What is wrong, and what became of it.
    pub troubles: Vec<String>,
    /// Why the check ended before its end, where it did.
    pub unfinished: Option<store::Error>,
}

impl Findings {
    fn tell(&mut self, trouble: String) {
        tracing::error!("store: {trouble}");
        self.troubles.push(trouble);
    }

    /// What the volume refused is told, and the check goes on with the rest: a disk dies block by block.
    fn or_told<T>(
        &mut self,
        what: impl std::fmt::Display,
        done: Result<T, store::Error>,
    ) -> Result<Option<T>, store::Error> {
        match done {
            Ok(done) => Ok(Some(done)),
            // A full one refuses moves.
            Err(error @ (store::Error::Io { .. } | store::Error::Full { .. })) => {
                self.tell(format!("{what} could not be checked: {error}; {AGAIN}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What to do about what the volume does not give.
const AGAIN: &str = "look after the volume, and run `peitho images verify` again";

/// What an image needs.
pub(super) struct Needs {
    pub(super) whose: Whose,
    pub(super) name: ImageName,
    pub(super) place: Place,
    /// Without these it is no image.
    pub(super) layers: Vec<Blob>,
    /// Without these it cannot be pulled whole.
    pub(super) documents: Vec<(Digest, Option<u64>)>,
}

pub(super) enum Whose {
    /// Built for a tenant; whether a registry has it whole.
    Built(Tenant, Whole),
    Held,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    InRegistry,
    HereAlone,
}

/// Checks what images need. What was found until a fault that ended it is told all the same: it may have been moved.
pub async fn check(store: &Store, depth: Depth) -> Findings {
    let mut findings = Findings::default();
    findings.unfinished = look(store, depth, &mut findings).await.err();
    findings
}

async fn look(store: &Store, depth: Depth, findings: &mut Findings) -> Result<(), store::Error> {
    for other in store.no_refs().await? {
        tracing::warn!(
            "store: {other} is no record and is left alone; delete it, if nobody needs it"
        );
    }
    let mut images = built(store, findings).await?;
    images.extend(held(store, findings).await?);
    findings.images = images.len() as u64;
    // After the records: what they name was durable before.
    let lengths = store.survey().await?.sizes();
    let mut judged = HashMap::new();
    for image in &images {
        let mut is_lost = false;
        for layer in &image.layers {
            let is_as_told = lengths.get(&layer.digest) == Some(&layer.size);
            if depth == Depth::Contents || !is_as_told {
                let verdict = judge(store, layer, &mut judged, findings).await?;
                is_lost |= verdict.is_some_and(|verdict| verdict != Verdict::Sound);
            }
        }
        let mut is_partly = false;
        for (digest, size) in &image.documents {
            let found = lengths.get(digest);
            let is_as_told = found.is_some() && size.is_none_or(|size| found == Some(&size));
            if depth == Depth::Contents || !is_as_told {
                let size = size.or(found.copied()).unwrap_or_default();
                let blob = Blob {
                    digest: *digest,
                    size,
                };
                let verdict = judge(store, &blob, &mut judged, findings).await?;
                // Nobody wrote down how long a configuration is.
                is_partly |= matches!(verdict, Some(Verdict::Missing | Verdict::Damaged));
            }
        }
        if is_lost {
            let lost = lost(store, image, findings).await;
            findings.or_told(format_args!("the image {}", image.name), lost)?;
        } else if is_partly {
            findings.tell(format!(
                "{} lacks its manifest or its configuration; it runs as before, and cannot be pulled whole until it is built or brought anew",
                image.name
            ));
        }
    }
    Ok(())
}

async fn built(store: &Store, findings: &mut Findings) -> Result<Vec<Needs>, store::Error> {
    let mut images = Vec::new();
    let mut read = std::pin::pin!(store.every_ref::<Image>(RefKind::Image));
    while let Some(read) = read.try_next().await? {
        let Some((place, image)) = sound(store, read, findings).await? else {
            continue;
        };
        let Some(tenant) = place.tenant.clone() else {
            continue;
        };
        let whole = match image.pushed {
            Some(_) => Whole::InRegistry,
            None => Whole::HereAlone,
        };
        let manifest = image.manifest;
        images.push(Needs {
            whose: Whose::Built(tenant, whole),
            layers: vec![image.layer.blob],
            documents: (manifest.iter())
                .flat_map(|manifest| [(manifest.digest, Some(manifest.size)), (image.id, None)])
                .collect(),
            name: image.name,
            place,
        });
    }
    Ok(images)
}

async fn held(store: &Store, findings: &mut Findings) -> Result<Vec<Needs>, store::Error> {
    let mut images = Vec::new();
    let mut read = std::pin::pin!(store.every_ref::<HeldImage>(RefKind::Held));
    while let Some(read) = read.try_next().await? {
        let name = match &read {
            Read::Ref { name, .. } => name.parse().ok(),
            _ => None,
        };
        let Some((place, image)) = sound(store, read, findings).await? else {
            continue;
        };
        let Some(name) = name else {
            continue;
        };
        images.push(Needs {
            whose: Whose::Held,
            layers: image.blobs().copied().collect(),
            documents: Vec::new(),
            name,
            place,
        });
    }
    Ok(images)
}

/// A sound record; another one is told, and moved where it is no record at all.
async fn sound<T>(
    store: &Store,
    read: Read<T>,
    findings: &mut Findings,
) -> Result<Option<(Place, T)>, store::Error> {
    match read {
        Read::Ref { place, value, .. } => Ok(Some((place, value))),
        Read::Damaged { place, reason } => {
            let moved = store.quarantine_ref(&place).await;
            let moved = findings.or_told(format_args!("the damaged record {place}"), moved)?;
            let Some(to) = moved.flatten() else {
                return Ok(None);
            };
            findings.tell(format!(
                "the record {place} was damaged ({reason}) and is now {to}; install the package again that it was of, and restart peers that say they have it. Nothing is collected as long as that file is there"
            ));
            Ok(None)
        }
        Read::Unread { place, reason } => {
            findings.tell(format!(
                "the record {place} could not be checked: {reason}; {AGAIN}"
            ));
            Ok(None)
        }
        Read::Strange { place, reason } => {
            findings.tell(format!(
                "the record {place} is not understood ({reason}); it is left alone: another release of Peitho may have written it"
            ));
            Ok(None)
        }
    }
}

/// Reads a blob, once; a damaged one goes to quarantine. `None` where the volume does not give it: it may be sound.
async fn judge(
    store: &Store,
    blob: &Blob,
    judged: &mut HashMap<Digest, Option<Verdict>>,
    findings: &mut Findings,
) -> Result<Option<Verdict>, store::Error> {
    if let Some(verdict) = judged.get(&blob.digest) {
        return Ok(*verdict);
    }
    let verdict = read(store, blob, findings).await;
    let verdict = findings.or_told(format_args!("the blob {}", blob.digest), verdict)?;
    judged.insert(blob.digest, verdict);
    Ok(verdict)
}

async fn read(
    store: &Store,
    blob: &Blob,
    findings: &mut Findings,
) -> Result<Verdict, store::Error> {
    let mut verdict = store.judge(blob).await?;
    if verdict == Verdict::Damaged {
        match store.quarantine_blob(&blob.digest).await? {
            Some(to) => findings.tell(format!(
                "the blob {} does not have the content that its name says and is now {to}; look after the volume",
                blob.digest
            )),
            // Written again by an install, or a reading that failed.
            None => verdict = store.judge(blob).await?,
        }
    }
    let is_lost = matches!(verdict, Verdict::Damaged | Verdict::Missing);
    if is_lost && store.mend(&blob.digest).await? {
        findings.tell(format!(
            "the blob {} was lost in the bucket; the copy that this machine has of it is there now",
            blob.digest
        ));
        verdict = Verdict::Sound;
    }
    Ok(verdict)
}

/// An image that was found without a layer. Long ago, perhaps, so that it is looked for again: two images may share a layer,
/// and one of them have been built anew since.
pub(super) async fn lost(
    store: &Store,
    image: &Needs,
    findings: &mut Findings,
) -> Result<(), store::Error> {
    let mut is_whole = true;
    for layer in &image.layers {
        is_whole &= store.holds(layer).await?;
    }
    if is_whole {
        return Ok(());
    }
    let name = &image.name;
    match &image.whose {
        Whose::Built(tenant, Whole::HereAlone) => {
            let Some(to) = store.quarantine_ref(&image.place).await? else {
                return Ok(());
            };
            findings.tell(format!(
                "the image {name} of the tenant {tenant} has lost its layer; its record is now {to}, and nothing is launched from it: install its package again, and restart peers that say they have it"
            ));
        }
        Whose::Built(tenant, Whole::InRegistry) => findings.tell(format!(
            "the image {name} of the tenant {tenant} has lost its layer here; it runs from the registry that it was pushed to, and from nowhere else until it is built anew"
        )),
        Whose::Held => findings.tell(format!(
            "the base image {name} has lost content; it is pulled again when a container of this machine needs it, or bring it with `peitho images import`"
        )),
    }
    Ok(())
}
