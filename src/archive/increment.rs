//! A directory that is kept by increments: unpacked one over the other they give it back, and what is new in it since then is the
//! next one. Compilers' caches are kept so. Whoever filled the directory may still be at work in it, so that nothing here
//! follows a link, and what is not a plain file, a directory or a link is left out.

mod walk;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tar::EntryType;

use self::walk::Walk;
use super::unpack::{Times, unpack};
use super::write::{Content, Head, Writer, padded};
use super::{Error, Kind, Limits, Member};
use crate::names::Digest;

/// What an increment begins with where it is kept: no tar, compressed or not, and no JSON does. So nobody who brings one can choose it to be, byte for
/// byte, what something else in the store is.
pub const MAGIC: [u8; 16] = *b"\0peitho cache 1\n";

/// A file that is as it was travels as its time alone where that moved by so many seconds: tools throw away what was not touched for days, and
/// what does not fit goes by the same order.
const OUTDATED: i64 = 24 * 3600;

const PATHS: &str = "bytes of paths";

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// Things in all increments of a directory together: what is known of each stays in memory, beside a compiler that may need all there is. Go
/// has 2,000 for its standard library, npm some 10,000 for a large project.
const MOST_ENTRIES: u64 = 200_000;

/// Bytes of their paths and of links' targets, likewise.
const MOST_PATHS: u64 = 64 << 20;

/// A file of so many bytes is in memory before anything of it is written, so that it can still be left out. Nearly all that compilers keep is smaller.
const HELD: u64 = 1 << 20;

/// What a directory has by the increments that were unpacked into it, and what that took.
#[derive(Debug, Default)]
pub struct Known {
    has: HashMap<PathBuf, Entry>,
    entries: u64,
    bytes: u64,
    paths: u64,
}

/// One thing in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory {
        mode: u32,
    },
    File {
        mode: u32,
        size: u64,
        mtime: i64,
        content: Digest,
    },
    Symlink {
        target: PathBuf,
    },
}

/// How much of a directory is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Extent {
    /// All of it.
    Whole,
    /// What the increments before do not have.
    New,
}

impl Extent {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::New => "new",
        }
    }
}

impl Known {
    /// Unpacks an increment below `into`, as [`super::unpack()`] does, and remembers what it brought. Files get their times.
    /// All increments together may have `most` bytes of content.
    ///
    /// # Errors
    /// As [`super::unpack()`]; what was written stays.
    pub fn unpack(&mut self, reader: impl Read, most: u64, into: &Path) -> Result<(), Error> {
        let left = Limits {
            entries: MOST_ENTRIES.saturating_sub(self.entries),
            bytes: most.saturating_sub(self.bytes),
        };
        let all = |limit| match limit {
            "bytes" => most,
            _ => MOST_ENTRIES,
        };
        let unpacked = unpack(reader, left, into, Times::Kept(self));
        unpacked.map_err(|error| match error {
            Error::TooLarge { what, .. } if what != PATHS => Error::TooLarge {
                what,
                limit: all(what),
            },
            error => error,
        })
    }

    /// Bytes of all files that were unpacked.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How much was unpacked.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Counts a member that is about to be unpacked.
    pub(super) fn count(&mut self, member: &Member) -> Result<(), Error> {
        let more = match &member.kind {
            Kind::Symlink { target } | Kind::Hardlink { target } => target.as_os_str().len(),
            Kind::File { size } => {
                self.bytes = self.bytes.saturating_add(*size);
                0
            }
            Kind::Directory => 0,
        };
        self.entries += 1;
        self.paths += (member.path.as_os_str().len() + more) as u64;
        match self.paths > MOST_PATHS {
            true => Err(Error::TooLarge {
                what: PATHS,
                limit: MOST_PATHS,
            }),
            false => Ok(()),
        }
    }

    /// A file that is there was used at that time.
    pub(super) fn touch(&mut self, path: &Path, at: i64) {
        if let Some(Entry::File { mtime, .. }) = self.has.get_mut(path) {
            *mtime = at;
        }
    }

    pub(super) fn note(&mut self, path: PathBuf, entry: Entry) {
        self.has.insert(path, entry);
    }
}

/// What is to be packed of a directory.
#[derive(Debug)]
pub struct Increment {
    from: PathBuf,
    extent: Extent,
    /// Directories before what is in them.
    members: Vec<Found>,
}

#[derive(Debug)]
struct Found {
    path: PathBuf,
    mode: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Directory,
    /// Of so many bytes, with the time of its last change in seconds and what is beyond these.
    File {
        size: u64,
        mtime: (i64, i64),
    },
    Symlink {
        target: OsString,
    },
    /// A file that is there already, with a new time: a hard link to itself.
    Touched {
        mtime: i64,
    },
}

impl Increment {
    /// Looks through `directory`. A file that was only touched since it was unpacked is not new. What cannot be read is left
    /// out, and beyond `most` bytes of archive the files whose last change is the longest ago.
    ///
    /// It is [`Extent::Whole`] where something has become a directory, or was one: that could not be laid over what is known; and
    /// where all increments together would be more than [`Known::unpack`] takes.
    ///
    /// # Errors
    /// When the directory itself cannot be read, or has more in it than an archive may have.
    pub fn of(directory: &Path, known: &Known, extent: Extent, most: u64) -> Result<Self, Error> {
        let fits = |found: &Self| {
            found.extent == Extent::Whole
                || known.entries + (found.members.len() as u64) < MOST_ENTRIES
                    && known.bytes + found.content() <= most
        };
        let mut found = match Self::found(directory, known, extent)?.filter(fits) {
            Some(found) => found,
            None => Self::found(directory, known, Extent::Whole)?.unwrap_or_else(|| Self {
                from: directory.to_owned(),
                extent: Extent::Whole,
                members: Vec::new(),
            }),
        };
        found.fit(most);
        Ok(found)
    }

    /// `None` where it cannot be laid over what is known.
    fn found(directory: &Path, known: &Known, extent: Extent) -> Result<Option<Self>, Error> {
        let mut walk = Walk {
            known,
            extent,
            members: Vec::new(),
            entries_left: MOST_ENTRIES,
            fits: true,
        };
        let unreadable = |e: Errno| Error::Read {
            path: directory.to_owned(),
            source: e.into(),
        };
        let flags = OPEN | OFlags::DIRECTORY;
        let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(unreadable)?;
        walk.directory(&root, Path::new(""), 0)?;
        let Walk { members, fits, .. } = walk;
        Ok(fits.then(|| Self {
            from: directory.to_owned(),
            extent,
            members,
        }))
    }

    /// Leaves files out: one that fits by no means, and then those whose last change is the longest ago.
    fn fit(&mut self, most: u64) {
        let is_file = |found: &Found| matches!(found.what, What::File { .. });
        self.members.retain(|it| !is_file(it) || it.size() <= most);
        let all: u64 = self.members.iter().map(Found::size).sum();
        let mut over = all.saturating_sub(most);
        if over == 0 {
            return;
        }
        let mut by_age: Vec<_> = (self.members.iter())
            .filter_map(|found| match found.what {
                What::File { mtime, .. } => Some((mtime, found.size(), &found.path)),
                _ => None,
            })
            .collect();
        by_age.sort_unstable();
        let mut left_out = HashSet::new();
        for (_, size, path) in by_age {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(size);
            left_out.insert(path.clone());
        }
        self.members.retain(|found| !left_out.contains(&found.path));
    }

    /// Bytes of the files in it.
    fn content(&self) -> u64 {
        let sizes = self.members.iter().map(|it| match it.what {
            What::File { size, .. } => size,
            What::Directory | What::Symlink { .. } | What::Touched { .. } => 0,
        });
        sizes.sum()
    }

    /// How much of the directory it is.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Whether there is nothing in it that is worth keeping.
    pub fn is_empty(&self) -> bool {
        self.members.iter().all(|it| it.what.is_directory())
    }

    /// Writes it as a tar with modes and times, without owners; gives what was written to. A file that has changed since it
    /// was found, or cannot be read, is left out.
    ///
    /// # Errors
    /// When one of more than [`HELD`] bytes changes while it is packed, or `to` refuses. What was written by then lacks its end.
    pub fn pack<W: Write>(&self, to: W) -> Result<W, Error> {
        let flags = OPEN | OFlags::DIRECTORY;
        let root = rustix::fs::open(&self.from, flags, Mode::empty());
        let root = root.map_err(|e| self.unreadable(Path::new(""), e))?;
        let mut writer = Writer::new(to);
        // The directory of the member before: most members share theirs with it.
        let mut last: (&Path, Option<OwnedFd>) = (Path::new(""), None);
        for found in &self.members {
            let parent_path = found.path.parent().unwrap_or(Path::new(""));
            if last.0 != parent_path {
                last = (parent_path, entered(&root, parent_path).ok());
            }
            let parent = match (&last.1, parent_path.as_os_str().is_empty()) {
                (Some(parent), _) => parent,
                (None, true) => &root,
                // It is gone.
                (None, false) => continue,
            };
            self.member(&mut writer, found, parent)?;
        }
        writer.finish()
    }

    fn member<W: Write>(
        &self,
        writer: &mut Writer<W>,
        found: &Found,
        parent: &OwnedFd,
    ) -> Result<(), Error> {
        let head = Head {
            kind: EntryType::Regular,
            path: found.path.as_os_str(),
            link: None,
            mode: found.mode,
            mtime: 0,
            size: 0,
        };
        match &found.what {
            What::Directory => {
                let mut path = found.path.clone().into_os_string();
                path.push("/");
                writer.head(Head {
                    kind: EntryType::Directory,
                    path: &path,
                    ..head
                })
            }
            What::Symlink { target } => writer.head(Head {
                kind: EntryType::Symlink,
                link: Some(target),
                ..head
            }),
            What::Touched { mtime } => writer.head(Head {
                kind: EntryType::Link,
                link: Some(found.path.as_os_str()),
                mtime: u64::try_from(*mtime).unwrap_or_default(),
                ..head
            }),
            What::File { size, mtime } => {
                let name = found.path.file_name().unwrap_or_default();
                let Ok(file) = rustix::fs::openat(parent, name, OPEN, Mode::empty()) else {
                    return Ok(());
                };
                let head = Head {
                    mtime: u64::try_from(mtime.0).unwrap_or_default(),
                    size: *size,
                    ..head
                };
                let file = AsFound {
                    file: File::from(file),
                    size: *size,
                    mtime: *mtime,
                };
                match *size <= HELD {
                    true => self.held(writer, head, &found.path, file),
                    false => self.streamed(writer, head, &found.path, file),
                }
            }
        }
    }

    /// A file that is read before anything of it is written.
    fn held<W: Write>(
        &self,
        writer: &mut Writer<W>,
        head: Head<'_>,
        path: &Path,
        found: AsFound,
    ) -> Result<(), Error> {
        let mut content = Vec::with_capacity(found.size as usize + 1);
        let read = (&found.file).take(found.size + 1).read_to_end(&mut content);
        if !read.is_ok_and(|read| read as u64 == found.size) || !found.is_still().unwrap_or(false) {
            return Ok(());
        }
        writer.head(head)?;
        let unreadable = |e| self.unreadable(path, e);
        let written = writer.content(&mut &content[..], found.size, path, unreadable);
        written.map(drop)
    }

    fn streamed<W: Write>(
        &self,
        writer: &mut Writer<W>,
        head: Head<'_>,
        path: &Path,
        mut found: AsFound,
    ) -> Result<(), Error> {
        let unreadable = |e: io::Error| self.unreadable(path, e);
        if !found.is_still().map_err(unreadable)? {
            return Ok(());
        }
        writer.head(head)?;
        let content = writer.content(&mut found.file, found.size, path, unreadable)?;
        match content == Content::Whole && found.is_still().map_err(unreadable)? {
            true => Ok(()),
            false => Err(Error::Member {
                path: path.to_owned(),
                reason: "it changed while it was packed",
            }),
        }
    }

    fn unreadable(&self, path: &Path, error: impl Into<io::Error>) -> Error {
        Error::Read {
            path: self.from.join(path),
            source: error.into(),
        }
    }
}

/// A file that is open, and what was found of it.
struct AsFound {
    file: File,
    size: u64,
    mtime: (i64, i64),
}

impl AsFound {
    fn is_still(&self) -> io::Result<bool> {
        let stat = rustix::fs::fstat(&self.file)?;
        Ok(
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && size_of(&stat) == self.size
                && mtime_of(&stat) == self.mtime,
        )
    }
}

impl What {
    fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }
}

impl Found {
    /// Bytes in the archive.
    fn size(&self) -> u64 {
        let content = match self.what {
            What::File { size, .. } => padded(size),
            What::Directory | What::Symlink { .. } | What::Touched { .. } => 0,
        };
        Writer::<Vec<u8>>::overhead(self.path.as_os_str()) + content
    }
}

/// The directory `path` below `root`, opened one component after the other.
fn entered(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OPEN | OFlags::DIRECTORY;
    let mut names = path.iter();
    let first = names.next().unwrap_or_default();
    let mut directory = rustix::fs::openat(root, first, flags, Mode::empty())?;
    for name in names {
        directory = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
    }
    Ok(directory)
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

fn mtime_of(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime, stat.st_mtime_nsec as i64)
}
