//! What `docker save` writes: `manifest.json` names configurations, tags and layers by their members. It has no
//! manifest that a registry would know, so one is written here.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use super::members::{Members, mismatch};
use super::{Draft, ImportError, Layer, unusable};
use crate::names::{Digest, ImageName};
use crate::registry::held::HeldLayer;
use crate::registry::manifest::Configuration;
use crate::store::Blob;

pub(super) const MANIFEST: &str = "manifest.json";

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: PathBuf,
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

pub(super) fn drafts(members: &Members) -> Result<Vec<Draft>, ImportError> {
    let document = members.document(Path::new(MANIFEST), "it")?;
    let entries: Vec<Entry> = serde_json::from_slice(&document).map_err(|e| {
        let member = MANIFEST.into();
        let reason = format!("not the list that docker save writes: {e}");
        ImportError::Member { member, reason }
    })?;
    entries.into_iter().map(|e| draft(e, members)).collect()
}

fn draft(entry: Entry, members: &Members) -> Result<Draft, ImportError> {
    let raw_config = members.document(&entry.config, MANIFEST)?;
    let id = Digest::of(&raw_config);
    if let Some(named) = digest_in(&entry.config).filter(|named| *named != id) {
        return Err(mismatch(&entry.config, &named, &id));
    }
    let tags = entry.repo_tags.unwrap_or_default();
    let shown = tags.first().map_or_else(|| id.to_string(), Clone::clone);
    let config = Configuration::parse(&raw_config, entry.layers.len())
        .map_err(|what| unusable(&shown, what))?;
    let diff_ids = config.diff_ids().map_err(|what| unusable(&shown, what))?;
    let layers = entry.layers.into_iter().zip(diff_ids);
    let layers = layers.map(|(member, diff_id)| layer(member, diff_id, members));
    let names = tags.iter().filter(|tag| *tag != "<none>:<none>");
    Ok(Draft {
        names: names
            .map(|tag| tag.parse())
            .collect::<Result<Vec<ImageName>, _>>()?,
        manifest: None,
        raw_config,
        config,
        layers: layers.collect::<Result<_, _>>()?,
        named_by: MANIFEST,
    })
}

/// Plain tars stay plain: their digest is then the one that the configuration has, so that a commit proves them, and a
/// base is read once, when it is unpacked. Newer versions of Docker may write them compressed.
fn layer(member: PathBuf, diff_id: Digest, members: &Members) -> Result<Layer, ImportError> {
    let (suffix, digest) = match members.start(&member, MANIFEST, 4)?.as_slice() {
        [0x1f, 0x8b, ..] => ("+gzip", digest_in(&member)),
        [0x28, 0xb5, 0x2f, 0xfd] => ("+zstd", digest_in(&member)),
        _ => ("", Some(diff_id)),
    };
    let digest = digest.ok_or_else(|| ImportError::Member {
        member: member.clone(),
        reason: "a compressed layer whose name is not its digest".to_owned(),
    })?;
    Ok(Layer {
        member,
        digest,
        media_type: format!("{OCI_LAYER}{suffix}"),
        diff_id,
    })
}

/// The digest that a member's name promises: `blobs/sha256/<hex>`, `<hex>.json`, `<hex>.tar`.
fn digest_in(member: &Path) -> Option<Digest> {
    let name = member.file_name()?.to_str()?;
    let hex = name.split('.').next()?;
    format!("sha256:{hex}").parse().ok()
}

/// The manifest of an image: equal images get equal bytes.
pub(super) fn manifest(config: &[u8], layers: &[HeldLayer]) -> Vec<u8> {
    let descriptor = |media_type: &str, blob: Blob| json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size});
    let config = Blob {
        digest: Digest::of(config),
        size: config.len() as u64,
    };
    let layers = layers.iter();
    let layers: Vec<_> = layers
        .map(|layer| descriptor(&layer.media_type, layer.blob))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}
