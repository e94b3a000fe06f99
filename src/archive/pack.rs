//! Packs a tree that may change under our hands: a compile's output, while processes of the compile may
//! still run. Everything is opened first, without following a link, and looked at afterwards.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tar::EntryType;

use super::write::{Content, Head, Writer};
use super::{DEEPEST_PATH, Error, Limits};

pub(super) fn pack(from: &Path, to: impl Write) -> Result<(), Error> {
    let limits = Limits::default();
    let mut packer = Packer {
        from,
        to: Writer::new(to),
        entries_left: limits.entries,
        bytes_left: limits.bytes,
        limits,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(from, flags, Mode::empty())
        .map_err(|e| packer.unreadable(Path::new(""), e))?;
    packer.directory(&root, Path::new(""), 0)?;
    let mut to = packer.to.finish()?;
    to.flush().map_err(|source| Error::Write {
        path: Path::new("").to_owned(),
        source,
    })
}

struct Packer<'a, W: Write> {
    from: &'a Path,
    to: Writer<W>,
    limits: Limits,
    entries_left: u64,
    bytes_left: u64,
}

impl<W: Write> Packer<'_, W> {
    fn directory(&mut self, directory: &OwnedFd, path: &Path, depth: usize) -> Result<(), Error> {
        if depth >= DEEPEST_PATH {
            return Err(refused(path, "more than 128 directories deep"));
        }
        for name in self.names(directory, path)? {
            let path = path.join(&name);
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| self.unreadable(&path, e))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let (opened, stat) = self.open(directory, &name, &path, OFlags::DIRECTORY)?;
                    let mut written = path.clone().into_os_string();
                    written.push("/");
                    self.head(EntryType::Directory, &written, None, stat.st_mode, 0)?;
                    self.directory(&opened, &path, depth + 1)?;
                }
                FileType::RegularFile => {
                    // NONBLOCK: a fifo that took the file's place must not hold us up.
                    let (opened, stat) = self.open(directory, &name, &path, OFlags::NONBLOCK)?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                        return Err(refused(&path, "it changed while it was packed"));
                    }
                    self.file(File::from(opened), &path, &stat)?;
                }
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(directory, &name, Vec::new())
                        .map_err(|e| self.unreadable(&path, e))?;
                    let target = OsString::from_vec(target.into_bytes());
                    let name = path.as_os_str();
                    self.head(EntryType::Symlink, name, Some(&target), 0o777, 0)?;
                }
                FileType::CharacterDevice | FileType::BlockDevice => {
                    return Err(refused(&path, "device files are refused"));
                }
                FileType::Fifo => return Err(refused(&path, "fifos are refused")),
                FileType::Socket => return Err(refused(&path, "sockets are refused")),
                _ => return Err(refused(&path, "an unknown kind of file")),
            }
        }
        Ok(())
    }

    /// The names in a directory, sorted by their bytes.
    fn names(&mut self, directory: &OwnedFd, path: &Path) -> Result<Vec<OsString>, Error> {
        let unreadable = |e: rustix::io::Errno| self.unreadable(path, e);
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            // Counted before they are packed: the list is in memory.
            if names.len() as u64 == self.entries_left {
                return Err(Error::TooLarge {
                    what: "entries",
                    limit: self.limits.entries,
                });
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
        self.entries_left -= names.len() as u64;
        names.sort_unstable();
        Ok(names)
    }

    fn open(
        &self,
        directory: &OwnedFd,
        name: &OsStr,
        path: &Path,
        flags: OFlags,
    ) -> Result<(OwnedFd, Stat), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
        let opened = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(|e| self.unreadable(path, e))?;
        let stat = rustix::fs::fstat(&opened).map_err(|e| self.unreadable(path, e))?;
        Ok((opened, stat))
    }

    fn file(&mut self, mut file: File, path: &Path, stat: &Stat) -> Result<(), Error> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.bytes_left = (self.bytes_left.checked_sub(size)).ok_or(Error::TooLarge {
            what: "bytes",
            limit: self.limits.bytes,
        })?;
        let name = path.as_os_str();
        self.head(EntryType::Regular, name, None, stat.st_mode, size)?;
        let from = self.from;
        let unreadable = |source| Error::Read {
            path: from.join(path),
            source,
        };
        match self.to.content(&mut file, size, path, unreadable)? {
            Content::Whole => Ok(()),
            Content::Short => Err(refused(path, "it shrank while it was packed")),
        }
    }

    /// The time is the same for all: equal trees give equal bytes.
    fn head(
        &mut self,
        kind: EntryType,
        path: &OsStr,
        link: Option<&OsStr>,
        mode: u32,
        size: u64,
    ) -> Result<(), Error> {
        self.to.head(Head {
            kind,
            path,
            link,
            mode,
            mtime: 0,
            size,
        })
    }

    fn unreadable(&self, path: &Path, error: impl Into<io::Error>) -> Error {
        Error::Read {
            path: self.from.join(path),
            source: error.into(),
        }
    }
}

fn refused(path: &Path, reason: &'static str) -> Error {
    Error::Member {
        path: path.to_owned(),
        reason,
    }
}
