//! The members of an archive, kept by name: which of them is a layer only the manifest tells, and that mostly comes
//! last. What is large goes to the store's volume, where a commit later only renames it: nothing is written twice.

use std::collections::HashMap;
use std::io::{self, Read, Write as _};
use std::path::{Component, Path, PathBuf};

use tokio::runtime::Handle;

use super::ImportError;
use crate::archive::{self, Kind, Limits};
use crate::names::Digest;
use crate::store::{Blob, Ingest, Store};

/// Members of an archive at the most, and their bytes: far more than all images of a network, and an end for a gzip
/// stream that expands without one.
const LIMITS: Limits = Limits {
    entries: 100_000,
    bytes: 256 << 30,
};
/// What is not longer stays in memory.
const SMALL: u64 = 64 << 10;
/// Bytes in memory at the most.
const ALL_SMALL: u64 = 64 << 20;
/// Each of the large ones is an open file, of which a process has 1024 by default.
const MOST_LARGE: usize = 512;
/// Manifests and configurations have some kilobytes.
const LARGEST_DOCUMENT: u64 = 4 << 20;
/// Old versions of Docker write a layer that two images share once, and links to it; never a link to a link.
const MOST_LINKS: usize = 8;

/// The members by their paths.
#[derive(Default)]
pub(super) struct Members {
    kept: HashMap<PathBuf, Kept>,
    in_memory: u64,
    large: usize,
}

enum Kept {
    Small(Vec<u8>),
    Large(Ingest),
    Link(PathBuf),
    Stored(Blob),
}

impl Members {
    /// Reads an archive to its end, plain or with gzip. Blocks, on a thread of the async runtime.
    pub(super) fn read(from: impl Read, store: &Store) -> Result<Self, ImportError> {
        let mut members = Self::default();
        let mut begun = false;
        let read = archive::read(from, LIMITS, |member, content| {
            begun = true;
            let kept = match &member.kind {
                Kind::Directory => return Ok(()),
                Kind::File { size } if *size <= SMALL => members.small(*size, content)?,
                Kind::File { .. } => members.large(content, store)?,
                Kind::Hardlink { target } => Kept::Link(target.clone()),
                Kind::Symlink { target } => {
                    let beside = member.path.parent().unwrap_or(Path::new(""));
                    Kept::Link(plain(&beside.join(target)))
                }
            };
            members.kept.insert(member.path.clone(), kept);
            Ok::<_, ImportError>(())
        });
        match read {
            // What the reader says of other files is their first bytes.
            Err(ImportError::Archive(archive::Error::Unreadable(_))) if !begun => {
                Err(ImportError::NotTar)
            }
            read => read.map(|()| members),
        }
    }

    fn small(&mut self, size: u64, content: &mut dyn Read) -> Result<Kept, ImportError> {
        self.in_memory += size;
        if self.in_memory > ALL_SMALL {
            return Err(ImportError::TooMany("small members"));
        }
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(unread)?;
        Ok(Kept::Small(bytes))
    }

    fn large(&mut self, content: &mut dyn Read, store: &Store) -> Result<Kept, ImportError> {
        self.large += 1;
        if self.large > MOST_LARGE {
            return Err(ImportError::TooMany("large members"));
        }
        let mut ingest = Handle::current().block_on(store.ingest())?;
        io::copy(content, &mut ingest)
            .and_then(|_| ingest.flush())
            .map_err(unread)?;
        Ok(Kept::Large(ingest))
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.kept.contains_key(Path::new(path))
    }

    /// Where `path` leads after links; as the error's reason who names it.
    fn resolve(&self, path: &Path, named_by: &str) -> Result<PathBuf, ImportError> {
        let mut at = plain(path);
        for _ in 0..MOST_LINKS {
            match self.kept.get(&at) {
                Some(Kept::Link(target)) => at = target.clone(),
                Some(_) => return Ok(at),
                None => break,
            }
        }
        Err(ImportError::Lacks {
            member: path.to_owned(),
            named_by: named_by.to_owned(),
        })
    }

    /// A small document.
    pub(super) fn document(&self, path: &Path, named_by: &str) -> Result<Vec<u8>, ImportError> {
        let bytes = self.start(path, named_by, LARGEST_DOCUMENT + 1)?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            return Err(ImportError::Member {
                member: path.to_owned(),
                reason: "more than 4 MiB, for a document".to_owned(),
            });
        }
        Ok(bytes)
    }

    /// The first bytes of a member, `most` of them.
    pub(super) fn start(
        &self,
        path: &Path,
        named_by: &str,
        most: u64,
    ) -> Result<Vec<u8>, ImportError> {
        let at = self.resolve(path, named_by)?;
        let mut bytes = Vec::new();
        match &self.kept[&at] {
            Kept::Small(all) => all.take(most).read_to_end(&mut bytes).map_err(unread)?,
            Kept::Large(ingest) => {
                let file = ingest.reader()?;
                file.take(most).read_to_end(&mut bytes).map_err(unread)?
            }
            // Only layers are stored, and their first bytes were looked at before.
            Kept::Stored(_) | Kept::Link(_) => 0,
        };
        Ok(bytes)
    }

    /// Makes a member a blob of the store, if it has the digest that was `expected`; once, however often it is named.
    pub(super) async fn commit(
        &mut self,
        path: &Path,
        named_by: &str,
        expected: &Digest,
        store: &Store,
    ) -> Result<Blob, ImportError> {
        let at = self.resolve(path, named_by)?;
        let ingest = match self.kept.remove(&at) {
            Some(Kept::Large(ingest)) => ingest,
            Some(Kept::Small(bytes)) => {
                let mut ingest = store.ingest().await?;
                ingest.append(&bytes).await?;
                ingest
            }
            Some(Kept::Stored(blob)) if blob.digest == *expected => {
                self.kept.insert(at, Kept::Stored(blob));
                return Ok(blob);
            }
            Some(Kept::Stored(blob)) => return Err(mismatch(path, expected, &blob.digest)),
            Some(Kept::Link(_)) | None => unreachable!("it was resolved"),
        };
        let blob = match store.commit_expecting(ingest, expected).await {
            Err(crate::store::Error::Mismatch { actual, .. }) => {
                return Err(mismatch(path, expected, &actual));
            }
            committed => committed?,
        };
        self.kept.insert(at, Kept::Stored(blob));
        Ok(blob)
    }
}

pub(super) fn mismatch(member: &Path, expected: &Digest, actual: &Digest) -> ImportError {
    ImportError::Member {
        member: member.to_owned(),
        reason: format!("its content has the digest {actual}, and should have {expected}"),
    }
}

/// What `archive` did not make an error of its own: the store refused to take it.
fn unread(error: io::Error) -> ImportError {
    ImportError::Spool(error)
}

/// A path without `.` and `..`; what leads above the archive's root stays at it.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}
