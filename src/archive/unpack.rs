//! The writing half. Every step is relative to an open directory and follows no link, so what the archive
//! says, and what it put on disk a member earlier, cannot lead out of the root.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::increment::{Entry, Known};
use super::{Error, Kind, Limits, Member};
use crate::names::{Digest, Hasher};

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const CREATE_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What becomes of the times that an archive has.
pub(super) enum Times<'a> {
    Dropped,
    /// They are set on files, and what was unpacked is noted.
    Kept(&'a mut Known),
}

pub(super) fn unpack(
    reader: impl Read,
    limits: Limits,
    into: &Path,
    times: Times<'_>,
) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(into, flags, Mode::empty()).map_err(|e| Error::Write {
        path: into.to_owned(),
        source: e.into(),
    })?;
    let root = Rc::new(root);
    spread(&root);
    let mut tree = Tree {
        into,
        last: (PathBuf::new(), Rc::clone(&root)),
        root,
        buffer: vec![0; 64 << 10],
        times,
    };
    super::read(reader, limits, |member, content| {
        tree.place(member, content)
    })
}

/// The tree as far as it is unpacked.
struct Tree<'a> {
    into: &'a Path,
    root: Rc<OwnedFd>,
    /// The directory of the member before: archives go directory by directory, and none is ever removed.
    last: (PathBuf, Rc<OwnedFd>),
    buffer: Vec<u8>,
    times: Times<'a>,
}

/// What to do about a directory that is not there.
#[derive(Clone, Copy)]
enum Missing {
    Make,
    Refuse,
}

impl Tree<'_> {
    fn place(&mut self, member: &Member, content: &mut dyn Read) -> Result<(), Error> {
        if let Times::Kept(known) = &mut self.times {
            known.count(member)?;
        }
        let (parent_path, name) = split(&member.path);
        let parent = self.directory(parent_path, Missing::Make, member)?;
        self.last = (parent_path.to_owned(), Rc::clone(&parent));
        match &member.kind {
            Kind::Directory => {
                let directory = self.enter(&parent, name, Missing::Make, member)?;
                let mode = member.mode | 0o700;
                let done = rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode));
                done.map_err(|e| self.failed(member, e))?;
                self.note(member, || Entry::Directory { mode });
                Ok(())
            }
            Kind::File { size } => {
                let private = Mode::RUSR | Mode::WUSR;
                let file = self.replacing(&parent, name, member, || {
                    rustix::fs::openat(&parent, name, CREATE_FILE, private)
                })?;
                let mut file = File::from(file);
                let content = self
                    .copy(content, &mut file)
                    .map_err(|e| self.failed(member, e))?;
                let mode = member.mode | 0o400;
                let done = rustix::fs::fchmod(&file, Mode::from_raw_mode(mode));
                done.map_err(|e| self.failed(member, e))?;
                if let Some(content) = content {
                    let mtime = i64::try_from(member.mtime).unwrap_or_default();
                    let done = rustix::fs::futimens(&file, &at(mtime));
                    done.map_err(|e| self.failed(member, e))?;
                    self.note(member, || Entry::File {
                        mode,
                        size: *size,
                        mtime,
                        content,
                    });
                }
                Ok(())
            }
            Kind::Symlink { target } => {
                self.replacing(&parent, name, member, || {
                    rustix::fs::symlinkat(target, &parent, name)
                })?;
                self.note(member, || Entry::Symlink {
                    target: target.clone(),
                });
                Ok(())
            }
            Kind::Hardlink { target } if *target == member.path && self.keeps_times() => {
                self.touch(&parent, name, member)
            }
            Kind::Hardlink { target } => self.link(&parent, name, target, member),
        }
    }

    fn keeps_times(&self) -> bool {
        matches!(self.times, Times::Kept(_))
    }

    /// Gives a file that is there the time of the member. One that is not there any more is no fault.
    fn touch(&mut self, parent: &OwnedFd, name: &OsStr, member: &Member) -> Result<(), Error> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = match rustix::fs::statat(parent, name, flags) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(|e| self.failed(member, e))?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(member, "a time for what is no file"));
        }
        let mtime = i64::try_from(member.mtime).unwrap_or_default();
        let done = rustix::fs::utimensat(parent, name, &at(mtime), flags);
        done.map_err(|e| self.failed(member, e))?;
        if let Times::Kept(known) = &mut self.times {
            known.touch(&member.path, mtime);
        }
        Ok(())
    }

    fn link(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        target: &Path,
        member: &Member,
    ) -> Result<(), Error> {
        const NO_FILE: &str = "a hard link to what is not a file of this archive";
        if *target == member.path {
            return Err(refused(member, "a hard link to itself"));
        }
        let (from_path, from_name) = split(target);
        let from = self.directory(from_path, Missing::Refuse, member)?;
        match rustix::fs::statat(&*from, from_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
            Ok(_) | Err(Errno::NOENT) => return Err(refused(member, NO_FILE)),
            Err(e) => return Err(self.failed(member, e)),
        }
        self.replacing(parent, name, member, || {
            rustix::fs::linkat(&*from, from_name, parent, name, AtFlags::empty())
        })
    }

    /// The directory `path` below the root, opened one component after the other.
    fn directory(
        &self,
        path: &Path,
        missing: Missing,
        member: &Member,
    ) -> Result<Rc<OwnedFd>, Error> {
        if self.last.0 == path {
            return Ok(Rc::clone(&self.last.1));
        }
        let mut directory = Rc::clone(&self.root);
        for name in path {
            directory = Rc::new(self.enter(&directory, name, missing, member)?);
        }
        Ok(directory)
    }

    fn enter(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        missing: Missing,
        member: &Member,
    ) -> Result<OwnedFd, Error> {
        let open = || rustix::fs::openat(parent, name, OPEN_DIRECTORY, Mode::empty());
        let opened = match (open(), missing) {
            (Err(Errno::NOENT), Missing::Make) => {
                // Set once more, or the tree would depend on this process's umask.
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::mkdirat(parent, name, mode)
                    .and_then(|()| open())
                    .and_then(|made| rustix::fs::fchmod(&made, mode).map(|()| made))
                    .inspect(spread)
            }
            (opened, _) => opened,
        };
        opened.map_err(|e| match e {
            Errno::LOOP | Errno::NOTDIR => {
                refused(member, "a link or a file stands where a directory must be")
            }
            Errno::NOENT => refused(member, "a link to what is not in the archive"),
            e => self.failed(member, e),
        })
    }

    /// Runs `make`, once more without what stands at `name` if that is in its way.
    fn replacing<T>(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        member: &Member,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, Error> {
        let made = match make() {
            Err(Errno::EXIST) => match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) => make(),
                Err(Errno::ISDIR | Errno::PERM) => {
                    return Err(refused(member, "it would replace a directory"));
                }
                Err(e) => Err(e),
            },
            made => made,
        };
        made.map_err(|e| self.failed(member, e))
    }

    /// Gives the digest of what was copied where somebody wants to know it.
    fn copy(&mut self, from: &mut dyn Read, to: &mut File) -> io::Result<Option<Digest>> {
        let mut hasher = matches!(self.times, Times::Kept(_)).then(Hasher::default);
        loop {
            match from.read(&mut self.buffer) {
                Ok(0) => return Ok(hasher.map(Hasher::finish)),
                Ok(n) => {
                    to.write_all(&self.buffer[..n])?;
                    if let Some(hasher) = &mut hasher {
                        hasher.update(&self.buffer[..n]);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn note(&mut self, member: &Member, entry: impl FnOnce() -> Entry) {
        if let Times::Kept(known) = &mut self.times {
            known.note(member.path.clone(), entry());
        }
    }

    fn failed(&self, member: &Member, error: impl Into<io::Error>) -> Error {
        Error::Write {
            path: self.into.join(&member.path),
            source: error.into(),
        }
    }
}

/// Lets the file system put the directories in this one far from each other, where it knows how to. ext4 makes files near their directory, and
/// looks at each inode there that was freed within the last minutes: where the tree of another compile was just removed, 2,000
/// files take 0.7 s in one place and 0.04 s in many. Any other answer than success is as good: a
/// volume's root is not the agent's own, for one, and what lies below it is.
fn spread(directory: &OwnedFd) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(directory) {
        let _ = rustix::fs::ioctl_setflags(directory, flags | IFlags::TOPDIR);
    }
}

/// Last changed then, and last read.
fn at(seconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn refused(member: &Member, reason: &'static str) -> Error {
    Error::Member {
        path: member.path.clone(),
        reason,
    }
}

/// Directory and name; both checked by `read`: relative, no `..`, not empty.
fn split(path: &Path) -> (&Path, &OsStr) {
    let parent = path.parent().unwrap_or(Path::new(""));
    (parent, path.file_name().unwrap_or_default())
}
