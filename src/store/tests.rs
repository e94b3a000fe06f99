//! The store, opened, broken and opened again: `contract` holds it to the same in a directory and in a bucket of a real server
//! of S3, `directory` and `bucket` to what is particular to each.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::spool::{Reader, Spool};
use super::*;
use crate::names::Tenant;

#[macro_use]
mod contract;
mod directory;
mod moves;
mod populated;
mod s3;
mod spools;
mod trash;

/// Where the objects of a store are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Directory,
    Bucket,
}

/// A store that may be opened again and again, as by one Peitho after the other.
struct World {
    config: config::Store,
    /// Where the files of its objects are.
    objects: PathBuf,
    _root: tempfile::TempDir,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("store");
        let (s3, objects) = match backend {
            Backend::Directory => (config::S3::default(), directory.clone()),
            Backend::Bucket => fixture::bucket(root.path()).await,
        };
        Self::of(directory, s3, objects, root)
    }

    fn of(directory: PathBuf, s3: config::S3, objects: PathBuf, root: tempfile::TempDir) -> Self {
        let mut config = config::Store {
            directory: Some(directory),
            ..config::Store::default()
        };
        config.s3 = s3;
        Self {
            config,
            objects,
            _root: root,
        }
    }

    async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Store, Error> {
        Store::configured(&self.config, Surrounding::Machine, Patience::OfServer).await
    }

    /// The store as another Peitho opens it: in a bucket, with a working directory of its own.
    async fn open_elsewhere(&self) -> Store {
        let mut config = self.config.clone();
        if config.bucket().is_some() {
            let other = format!("other-{:016x}", rand::random::<u64>());
            config.directory = Some(self.directory().with_file_name(other));
        }
        let opened = Store::configured(&config, Surrounding::Machine, Patience::OfServer);
        opened.await.unwrap()
    }

    fn directory(&self) -> &Path {
        self.config.directory.as_deref().unwrap()
    }

    /// Every object, by the names of their files.
    fn objects(&self) -> Vec<String> {
        let mut all = files(&self.objects);
        // The server of S3 has a folder of its own in each bucket.
        all.retain(|file| file != "ingest/lock" && !file.starts_with(".sgwtmp/"));
        all
    }

    /// What is on its way into the store.
    fn ingests(&self) -> Vec<String> {
        files(&self.directory().join("ingest"))
    }
}

async fn put(store: &Store, content: &[u8]) -> Blob {
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(content).await.unwrap();
    store.commit(ingest).await.unwrap()
}

async fn content(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
    let (mut file, blob) = store.open_blob(digest).await.unwrap()?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    assert_eq!(blob.size, content.len() as u64);
    Some(content)
}

/// Every file below `directory`, relative, sorted.
fn files(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let path = path.strip_prefix(root).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

async fn all(mut reader: Reader) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        assert!(!piece.is_empty() && piece.len() <= 64 << 10);
        read.extend_from_slice(&piece);
    }
    read
}
