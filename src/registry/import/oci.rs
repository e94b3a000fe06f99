//! An OCI image layout: `index.json` leads to manifests, and everything is a blob named by its digest.

use std::path::{Path, PathBuf};

use super::members::{Members, mismatch};
use super::{Draft, ImportError, Layer, unusable};
use crate::names::{Architecture, Digest, ImageName};
use crate::registry::held::HeldLayer;
use crate::registry::manifest::{Configuration, Descriptor, Index, Manifest};

pub(super) const INDEX: &str = "index.json";

/// The whole name, as containerd and Docker write it.
const FULL_NAME: &str = "io.containerd.image.name";
/// The name, the tag alone, or whatever its writer liked.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The images for this machine. Several names of one image are one draft.
pub(super) fn drafts(members: &Members) -> Result<Vec<Draft>, ImportError> {
    let document = members.document(Path::new(INDEX), "it")?;
    let index: Index = serde_json::from_slice(&document).map_err(|e| ImportError::Member {
        member: INDEX.into(),
        reason: format!("not an index: {e}"),
    })?;
    let mut drafts: Vec<Draft> = Vec::new();
    let mut foreign = Vec::new();
    for entry in &index.manifests {
        if let Some(platform) = &entry.platform
            && (platform.os != "linux"
                || platform.architecture != Architecture::word_for_this_machine())
        {
            foreign.push(format!("{}/{}", platform.os, platform.architecture));
            continue;
        }
        let draft = draft(entry, members)?;
        match drafts.iter_mut().find(|d| d.manifest == draft.manifest) {
            Some(same) => same.names.extend(draft.names),
            None => drafts.push(draft),
        }
    }
    match foreign.is_empty() || !drafts.is_empty() {
        true => Ok(drafts),
        false => Err(ImportError::Foreign {
            here: Architecture::word_for_this_machine(),
            there: foreign.join(", "),
        }),
    }
}

fn draft(entry: &Descriptor, members: &Members) -> Result<Draft, ImportError> {
    let name = name(entry);
    let shown = name.as_ref().map_or(&*entry.digest, |name| name);
    let mut manifest = blob(members, entry, INDEX)?;
    if let Manifest::Index(index) = parse(&manifest, shown)? {
        let of_platform = index.of(&Architecture::of_this_machine());
        let of_platform = of_platform.map_err(|what| unusable(shown, what))?;
        manifest = blob(members, of_platform, "the image's index")?;
    }
    let Manifest::Image(image) = parse(&manifest, shown)? else {
        return Err(unusable(shown, "an index of indexes".into()));
    };
    let raw_config = blob(members, &image.config, "the image's manifest")?;
    let config = Configuration::parse(&raw_config, image.layers.len());
    let config = config.map_err(|what| unusable(shown, what))?;
    let layers =
        HeldLayer::promised(&image.layers, &config).map_err(|what| unusable(shown, what))?;
    let names = name.map(|name| name.parse::<ImageName>()).transpose()?;
    Ok(Draft {
        names: names.into_iter().collect(),
        manifest: Some(manifest),
        raw_config,
        config,
        layers: layers.into_iter().map(layer).collect(),
        named_by: "the image's manifest",
    })
}

fn layer(promised: HeldLayer) -> Layer {
    Layer {
        member: path(&promised.blob.digest),
        digest: promised.blob.digest,
        media_type: promised.media_type,
        diff_id: promised.diff_id,
    }
}

fn parse(bytes: &[u8], shown: &str) -> Result<Manifest, ImportError> {
    Manifest::parse(bytes).map_err(|what| unusable(shown, what))
}

/// A bare tag names nothing: which repository it is of, the archive does not say.
fn name(entry: &Descriptor) -> Option<&str> {
    let annotations = entry.annotations.as_ref()?;
    let whole = annotations.get(FULL_NAME);
    let reference = annotations.get(REF_NAME);
    let reference = reference.filter(|text| text.contains(['/', ':']));
    whole.or(reference).map(String::as_str)
}

fn path(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}

/// A document by its digest, verified.
fn blob(
    members: &Members,
    descriptor: &Descriptor,
    named_by: &str,
) -> Result<Vec<u8>, ImportError> {
    let digest: Digest = descriptor.digest.parse()?;
    let path = path(&digest);
    let bytes = members.document(&path, named_by)?;
    match Digest::of(&bytes) {
        actual if actual == digest => Ok(bytes),
        actual => Err(mismatch(&path, &digest, &actual)),
    }
}
