//! Archives and stores for the tests of this module.

use std::io::Cursor;

use tar::{Builder, EntryType, Header};

use crate::store::{Ingest, Store};

/// A store in a directory of its own.
pub(super) struct Scratch {
    pub(super) store: Store,
    pub(super) directory: tempfile::TempDir,
}

impl Scratch {
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        Self { store, directory }
    }

    pub(super) async fn filled(&self, bytes: &[u8]) -> Ingest {
        let mut ingest = self.store.ingest().await.unwrap();
        ingest.append(bytes).await.unwrap();
        ingest
    }

    /// How many blobs and refs there are.
    pub(super) fn objects(&self) -> usize {
        ["blobs", "refs"]
            .iter()
            .map(|part| count(&self.directory.path().join(part)))
            .sum()
    }
}

fn count(directory: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => count(&entry.path()),
            false => 1,
        })
        .sum()
}

/// A member, mode 0755.
pub(super) enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Directory(&'a str),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}

/// A tar of regular files.
pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, content)| Entry::File(name, content))
        .collect();
    entries(&files)
}

/// A tar of `members`, in this order.
pub(super) fn entries(members: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for member in members {
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        match member {
            Entry::File(path, content) => {
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, path, *content).unwrap();
            }
            Entry::Directory(path) => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, path, std::io::empty())
                    .unwrap();
            }
            Entry::Symlink(path, target) => {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, path, target).unwrap();
            }
            Entry::Hardlink(path, target) => {
                header.set_entry_type(EntryType::Link);
                tar.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

/// Regular files with their modes, all of one time and owner.
pub(super) fn stamped(files: &[(String, (Vec<u8>, u32))], time: u64, owner: u64) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, (content, mode)) in files {
        let mut header = Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        header.set_mtime(time);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_username(&format!("u{owner}")).unwrap();
        tar.append_data(&mut header, path, Cursor::new(content))
            .unwrap();
    }
    tar.into_inner().unwrap()
}
