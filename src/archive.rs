//! Tar archives from strangers, read safely: every member is checked while it is read, and what a member
//! may be is a closed set. `image`, `compile`, `container` and the agent use it; it knows nothing of them.
//!
//! What is refused, and why (design D20): names that leave the root, names that cannot be written, device
//! files, fifos and sparse files, content on members that cannot have any, extended headers that two
//! readers could understand differently, and everything beyond the [`Limits`]. A cut archive is an error;
//! only the two empty blocks at the end may be missing, since some writers leave them out.

mod increment;
mod layer;
mod pack;
mod read;
mod unpack;
mod write;
mod zstd;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::names::Digest;

pub use increment::{Extent, Increment, Known, MAGIC};

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

/// The longest name of a member and the longest target of a link, in bytes: what Linux takes for a path.
const LONGEST_PATH: usize = 4096;

/// The most directories one inside the other. Each costs an open file while the tree is walked.
const DEEPEST_PATH: usize = 128;

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
        /// What there is too much of, for example `entries` or `bytes`.
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
    /// Reading what is to be packed failed.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// What could not be read.
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
        /// Where it points: anywhere, so it must not be followed.
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
    /// Permission bits (`0o777`), without the type bits that peers add (protocol §4.3).
    ///
    /// Setuid, setgid and sticky are dropped: a chaincode runs as one user without privileges, so they
    /// could only serve somebody who should not have them.
    pub mode: u32,
    /// When it was changed last, in seconds since the Unix epoch; 0 where the archive does not say.
    pub mtime: u64,
}

/// Reads plain or gzip-compressed tar from `reader` to its end and gives each member with its content to `each`.
///
/// Leading `/` is dropped (peers write absolute names, protocol rule 20); `.` itself is skipped, and so are
/// global extended headers. `each` may leave content unread. When the archive ends inside a member, that
/// is the error returned, whatever `each` made of it.
///
/// # Errors
/// The first of: unreadable archive, forbidden member, a limit, or the error of `each`.
pub fn read<E: From<Error>>(
    reader: impl Read,
    limits: Limits,
    each: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    read::read(reader, limits, each)
}

/// Checks an archive as [`read()`] does and gives the digest of the bytes inside: of the plain tar, however it came.
///
/// # Errors
/// As [`read()`].
pub fn digest(reader: impl Read, limits: Limits) -> Result<Digest, Error> {
    read::digest(reader, limits)
}

/// Unpacks an archive below `into`, which exists: never follows a link out of it.
///
/// Links are made as the archive has them, even those that point outside, and never followed: a member
/// below a link is refused. A later member replaces an earlier one of its name, directories excepted.
/// Owners and times are not set. The owner always gets `r` on files and `rwx` on directories, or the
/// tree could be neither read nor removed.
///
/// # Errors
/// As [`read()`]; what was written stays.
pub fn unpack(reader: impl Read, limits: Limits, into: &Path) -> Result<(), Error> {
    unpack::unpack(reader, limits, into, unpack::Times::Dropped)
}

/// What becomes of the owners that a layer gives to its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// They are set. This process must be allowed to give files away.
    Kept,
    /// All files are this process's own. It always gets `r` on files and `rwx` on directories, or the tree could be
    /// neither read nor removed.
    Dropped,
}

/// Puts an image's layer, a plain, gzip- or zstd-compressed tar, over what lies below `into`, by the rules of the OCI
/// image specification; gives the digest of the plain tar, for the caller to compare with the image's diff id.
///
/// Unlike [`unpack()`] this keeps setuid, setgid and sticky bits, takes files away (`.wh.NAME`, `.wh..wh..opq`), lets a
/// file take the place of a directory and the other way round, and goes through symbolic links of the tree, each
/// taken as if `into` were the root of the file system. It never leaves `into`. Device files and fifos are left out:
/// a container gets a `/dev` of its own. Extended attributes are dropped, file capabilities among them, which are of
/// no effect in a container without new privileges; so are times.
///
/// `into` exists, holds nothing but what other layers brought, and nobody else writes below it meanwhile.
///
/// # Errors
/// As [`read()`], and for a member whose place is below a file, or a hard link to what is not there. What was written
/// stays.
pub fn apply_layer(
    reader: impl Read,
    limits: Limits,
    owners: Owners,
    into: &Path,
) -> Result<Digest, Error> {
    layer::apply(reader, limits, owners, into)
}

/// Writes the content of directory `from` (not itself) as a tar: sorted, links as links, devices and
/// sockets refused, no owner, fixed times. Equal trees give equal bytes.
///
/// Sorted means depth first, names within a directory by their bytes. Hard links become separate files.
/// No link is followed, not even one that is put in place while this runs. What exceeds
/// [`Limits::default`] is refused, since nobody would read it.
///
/// # Errors
/// When a file cannot be read or is of a forbidden kind. What was written by then lacks its end.
pub fn pack(from: &Path, to: impl std::io::Write) -> Result<(), Error> {
    pack::pack(from, to)
}
