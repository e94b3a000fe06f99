//! Tar archives from strangers, read safely: every member is checked while it is read, and what a member
//! may be is a closed set. `image`, `compile`, `container` and the agent use it; it knows nothing of them.

use std::io::Read;
use std::path::{Path, PathBuf};

/// Bounds on one archive (design D20).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Members at the most.
    pub entries: u64,
    /// Bytes of file content at the most, all members together.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            bytes: 16 << 30,
        }
    }
}

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a tar, or a damaged or cut one.
    #[error("not a readable tar archive: {0}")]
    Unreadable(#[source] std::io::Error),
    /// A member that is not allowed; says which one and why.
    #[error("archive member {path:?}: {reason}")]
    Member {
        /// The member's path as written in the archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One of the [`Limits`] was passed.
    #[error("archive too large: more than {limit} {what}")]
    TooLarge {
        /// `entries` or `bytes`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Writing what was read failed.
    #[error("{path:?}: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File {
        /// Its length.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link, its target as written.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
    /// Another name of an earlier member.
    Hardlink {
        /// The earlier member, relative to the archive's root.
        target: PathBuf,
    },
}

/// One checked member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Relative to the archive's root: no leading `/` or `./`, no `..`, never empty.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, without the type bits that peers add (protocol §4.3).
    pub mode: u32,
}

/// Reads plain or gzip-compressed tar from `reader` to its end and gives each member with its content to `each`.
///
/// Leading `/` is dropped (peers write absolute names, protocol rule 20); `.` itself is skipped.
///
/// # Errors
/// The first of: unreadable archive, forbidden member, a limit, or the error of `each`.
pub fn read<E: From<Error>>(
    reader: impl Read,
    limits: Limits,
    each: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let _ = (reader, limits, each);
    todo!()
}

/// The bytes inside `reader`: decompressed where it is gzip, as they are otherwise.
///
/// # Errors
/// When the first bytes cannot be read.
pub fn plain(reader: impl Read) -> Result<impl Read, Error> {
    let _ = &reader;
    Ok(reader)
}

/// Unpacks an archive below `into`, which exists: never follows a link out of it.
///
/// # Errors
/// As [`read`]; what was written stays.
pub fn unpack(reader: impl Read, limits: Limits, into: &Path) -> Result<(), Error> {
    let _ = (reader, limits, into);
    todo!()
}

/// Writes the content of directory `from` (not itself) as a tar: sorted, links as links, devices and
/// sockets refused, no owner, fixed times. Equal trees give equal bytes.
///
/// # Errors
/// When a file cannot be read or is of a forbidden kind.
pub fn pack(from: &Path, to: impl std::io::Write) -> Result<(), Error> {
    let _ = (from, to);
    todo!()
}
