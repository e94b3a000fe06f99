//! What is on the disk, judged without the code that put it there.

use std::fs;
use std::path::{Path, PathBuf};

use peitho::names::Digest;

/// Every file below `directory`, relative, sorted.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What the store in a directory holds: whole images and nothing else, or this has panicked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// The blobs' paths.
    pub(crate) blobs: Vec<PathBuf>,
    /// The paths of images' refs.
    pub(crate) refs: Vec<PathBuf>,
    /// What `ingest/` holds beside its lock.
    pub(crate) ingest: Vec<PathBuf>,
}

impl Store {
    /// Every blob has the content that its name says, and every image all that it names.
    pub(crate) fn read(directory: &Path) -> Self {
        let below = |part: &str| -> Vec<PathBuf> {
            let inner = files(&directory.join(part)).into_iter();
            inner.map(|path| directory.join(part).join(path)).collect()
        };
        let store = Self {
            blobs: below("blobs"),
            refs: below("refs/v1/image"),
            ingest: below("ingest")
                .into_iter()
                .filter(|path| !path.ends_with("lock"))
                .collect(),
        };
        for blob in &store.blobs {
            let content = Digest::of(&fs::read(blob).unwrap());
            let name = blob.file_name().unwrap().to_str().unwrap();
            assert_eq!(name, content.hex(), "half a blob under a whole one's name");
        }
        for image in &store.refs {
            for blob in blobs_of(directory, image) {
                assert!(store.blobs.contains(&blob), "{image:?} lacks {blob:?}");
            }
        }
        store
    }
}

/// The blobs that the image whose ref is `image` consists of: layer, manifest, configuration.
pub(crate) fn blobs_of(directory: &Path, image: &Path) -> Vec<PathBuf> {
    let document: serde_json::Value = serde_json::from_slice(&fs::read(image).unwrap()).unwrap();
    let value = &document["value"];
    let manifest = &value["manifest"]["digest"];
    // The id of a complete image is its configuration's digest.
    let id = Some(&value["id"]).filter(|_| manifest.is_string());
    [&value["layer"]["blob"]["digest"], manifest]
        .into_iter()
        .chain(id)
        .filter_map(|digest| digest.as_str())
        .map(|digest| digest.strip_prefix("sha256:").unwrap())
        .map(|hex| directory.join("blobs/sha256").join(hex))
        .collect()
}
