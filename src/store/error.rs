//! What can go wrong with the store, of the volume and of the bucket. All of `store` makes these errors, and no other module
//! makes one of the bucket; callers tell apart what they must.

use std::path::{Path, PathBuf};

use super::volume;
use crate::names::Digest;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused; says which path, and how many bytes were wanted where that is known.
    #[error("store: {action} {path}: {source}")]
    Io {
        /// What was attempted, for example `writing`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// No room left; the path and the bytes that were to be written (failure table: disk full).
    #[error(
        "store: no space left in {path} for {bytes} bytes; free some space or enlarge the volume; `peitho prune --older-than 1d --dry-run` tells what of the store could go"
    )]
    Full {
        /// The store's directory.
        path: PathBuf,
        /// What was to be written.
        bytes: u64,
    },
    /// The bucket did not do what it was asked.
    #[error("store: {action} {key} in {bucket}: {cause}; {advice}")]
    Bucket {
        /// What was attempted, for example `writing`.
        action: &'static str,
        /// On which object.
        key: String,
        /// Its name and endpoint.
        bucket: String,
        /// Why, in the server's words where there are some.
        cause: String,
        /// What to do.
        advice: &'static str,
        /// Whether another try may succeed without anybody's help.
        lasting: Lasting,
    },
    /// The bucket was not even asked: a file that it needs is missing, or credentials are.
    #[error("store: {place} cannot be opened: {reason}")]
    Unusable {
        /// The bucket.
        place: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A blob's content is not what its digest says.
    #[error("store: expected {expected}, received {actual}")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// What was read of a blob in the bucket is something else.
    #[error(
        "store: the blob {blob} in {place} has other content, {actual}; run `peitho images verify`, and do what it says"
    )]
    Damaged {
        /// Which.
        blob: Digest,
        /// The bucket.
        place: String,
        /// What came.
        actual: Digest,
    },
    /// Several steps of a collection failed.
    #[error("{first}; {others} more steps of the collection failed")]
    Several {
        /// One of them.
        first: Box<Error>,
        /// How many more.
        others: usize,
    },
    /// A ref that is not readable as what it should be.
    #[error("store: the record {name} cannot be read: {reason}")]
    Corrupt {
        /// The ref.
        name: String,
        /// Why.
        reason: String,
    },
    /// The store is one of a later Peitho, or of something else.
    #[error(
        "store: {place} has layout.json {found}, and this Peitho knows layout {known}; run the Peitho that wrote it or a later one, \
         or name another store"
    )]
    Layout {
        /// The directory or bucket.
        place: String,
        /// What stands there.
        found: String,
        /// The newest layout that is known here.
        known: u32,
    },
}

/// Whether a fault goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// It may: the server was not reached, or was too busy.
    Passing,
    /// It is the same the next time, until somebody mends it.
    Permanent,
    /// There is no room, until somebody makes some. What is there can be read.
    Full,
}

impl Error {
    /// The error of an `action` on `path` that was to write `bytes` to the store in `directory`.
    pub(super) fn of(
        directory: &Path,
        action: &'static str,
        path: &Path,
        bytes: u64,
        source: std::io::Error,
    ) -> Self {
        if volume::is_full(&source) {
            Self::Full {
                path: directory.to_owned(),
                bytes,
            }
        } else {
            Self::Io {
                action,
                path: path.to_owned(),
                source,
            }
        }
    }

    /// Whether waiting may help. A volume's fault counts: nobody can tell which of them stay.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Bucket { lasting, .. } => *lasting == Lasting::Passing,
            Self::Several { first, .. } => first.may_pass(),
            Self::Full { .. }
            | Self::Unusable { .. }
            | Self::Mismatch { .. }
            | Self::Damaged { .. }
            | Self::Corrupt { .. }
            | Self::Layout { .. } => false,
        }
    }

    /// Whether there is no room: on the volume, or in the bucket.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Full { .. }
                | Self::Bucket {
                    lasting: Lasting::Full,
                    ..
                }
        )
    }

    /// The same once more, for another one who waited.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path: path.clone(),
                source: volume::again(source),
            },
            Self::Full { path, bytes } => Self::Full {
                path: path.clone(),
                bytes: *bytes,
            },
            Self::Bucket {
                action,
                key,
                bucket,
                cause,
                advice,
                lasting,
            } => Self::Bucket {
                action,
                key: key.clone(),
                bucket: bucket.clone(),
                cause: cause.clone(),
                advice,
                lasting: *lasting,
            },
            Self::Unusable { place, reason } => Self::Unusable {
                place: place.clone(),
                reason: reason.clone(),
            },
            Self::Mismatch { expected, actual } => Self::Mismatch {
                expected: *expected,
                actual: *actual,
            },
            Self::Several { first, others } => Self::Several {
                first: Box::new(first.again()),
                others: *others,
            },
            Self::Damaged {
                blob,
                place,
                actual,
            } => Self::Damaged {
                blob: *blob,
                place: place.clone(),
                actual: *actual,
            },
            Self::Corrupt { name, reason } => Self::Corrupt {
                name: name.clone(),
                reason: reason.clone(),
            },
            Self::Layout {
                place,
                found,
                known,
            } => Self::Layout {
                place: place.clone(),
                found: found.clone(),
                known: *known,
            },
        }
    }
}
