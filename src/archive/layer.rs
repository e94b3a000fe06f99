//! The layers of an image, put over each other. Images come from anywhere, so a layer is read with the same checks as
//! a stranger's archive; what it may do more is bounded by the tree it is put on.

mod root;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use self::root::{Astray, Missing, Place};
use super::read::{Entry, Hashing, What, decompressed, entries};
use super::zstd::{self, Frames};
use super::{Error, Kind, Limits, Owners};
use crate::names::Digest;

const CREATE_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

const OPEN_FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Takes away what lower layers have of the name behind it.
const WHITEOUT: &[u8] = b".wh.";
/// Takes away all that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What the file system AUFS kept for itself: of no meaning to others.
const OF_AUFS: &[u8] = b".wh..wh.";

pub(super) fn apply(
    reader: impl Read,
    limits: Limits,
    owners: Owners,
    into: &Path,
) -> Result<Digest, Error> {
    let plain = expanded(reader).map_err(Error::Unreadable)?;
    let mut plain = Hashing::new(plain);
    let mut tree = Tree::open(into, owners)?;
    entries(&mut plain, limits, |entry, content| {
        tree.place(&entry, content)
    })?;
    Ok(plain.finish())
}

fn expanded<'a>(mut reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut first = Vec::with_capacity(zstd::MAGIC.len());
    let most = zstd::MAGIC.len() as u64;
    reader.by_ref().take(most).read_to_end(&mut first)?;
    let is_zstd = first == zstd::MAGIC;
    let whole = io::Cursor::new(first).chain(reader);
    Ok(match is_zstd {
        true => Box::new(Frames::new(BufReader::with_capacity(64 << 10, whole))),
        false => Box::new(decompressed(whole)?),
    })
}

/// The tree under one layer.
struct Tree<'a> {
    into: &'a Path,
    root: Place,
    owners: Owners,
    /// What this layer brought, with the directories above, by real paths: whiteouts are about lower layers only.
    brought: HashSet<PathBuf>,
    /// The directory of the member before, as written and real: archives go directory by directory. Forgotten when
    /// anything is removed, since the path may lead elsewhere then.
    last: Option<(PathBuf, Place)>,
    buffer: Vec<u8>,
}

/// Why a member could not be placed.
enum Trouble {
    Refused(&'static str),
    Failed(io::Error),
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Astray> for Trouble {
    fn from(astray: Astray) -> Self {
        match astray {
            Astray::Nowhere(reason) => Self::Refused(reason),
            Astray::Failed(error) => error.into(),
        }
    }
}

impl<'a> Tree<'a> {
    fn open(into: &'a Path, owners: Owners) -> Result<Self, Error> {
        let root = Place::root(into).map_err(|e| Error::Write {
            path: into.to_owned(),
            source: e.into(),
        })?;
        Ok(Self {
            into,
            root,
            owners,
            brought: HashSet::new(),
            last: None,
            buffer: vec![0; 64 << 10],
        })
    }

    fn place(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        let path = &entry.path;
        self.apply(entry, content).map_err(|trouble| match trouble {
            Trouble::Refused(reason) => Error::Member {
                path: path.clone(),
                reason,
            },
            Trouble::Failed(source) => Error::Write {
                path: self.into.join(path),
                source,
            },
        })
    }

    fn apply(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Trouble> {
        let What::Plain(kind) = &entry.what else {
            return Ok(());
        };
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
            // The root itself.
            return self.finish(&self.root.directory, entry, 0o700);
        };
        let starts = |name: &OsStr, with| name.as_bytes().starts_with(with);
        if entry.path.iter().any(|part| starts(part, OF_AUFS)) && name.as_bytes() != OPAQUE {
            return Ok(());
        }
        if parent.iter().any(|part| starts(part, WHITEOUT)) {
            return Err(Trouble::Refused("it lies below a whiteout"));
        }
        if starts(name, WHITEOUT) {
            return self.white_out(parent, name);
        }
        let parent = self.parent(parent)?;
        match kind {
            Kind::Directory => {
                let directory = self.directory(&parent, name)?;
                self.finish(&directory.directory, entry, 0o700)?;
            }
            Kind::File { .. } => {
                let private = Mode::RUSR | Mode::WUSR;
                let file = self.replacing(&parent, name, || {
                    rustix::fs::openat(&parent.directory, name, CREATE_FILE, private)
                })?;
                let mut file = File::from(file);
                self.copy(content, &mut file)?;
                self.finish(&OwnedFd::from(file), entry, 0o400)?;
            }
            Kind::Symlink { target } => {
                self.replacing(&parent, name, || {
                    rustix::fs::symlinkat(target, &parent.directory, name)
                })?;
                if let Some((user, group)) = self.owner(entry)? {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    let (user, group) = (Some(user), Some(group));
                    rustix::fs::chownat(&parent.directory, name, user, group, flags)?;
                }
            }
            Kind::Hardlink { target } => {
                self.link(&parent, name, target)?;
                // Owner and mode are the file's, under all its names; Docker and containerd set them here too.
                match rustix::fs::openat(&parent.directory, name, OPEN_FILE, Mode::empty()) {
                    Ok(file) => self.finish(&file, entry, 0o400)?,
                    Err(Errno::LOOP) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.bring(parent.path.join(name));
        Ok(())
    }

    /// Where a member belongs, its directory made where no layer brought it.
    fn parent(&mut self, path: &Path) -> Result<Place, Trouble> {
        if let Some((_, place)) = self.last.as_ref().filter(|(last, _)| last == path) {
            return Ok(place.clone());
        }
        let owners = self.owners;
        let of_root = |made: &OwnedFd| match owners {
            Owners::Kept => rustix::fs::fchown(made, Some(Uid::ROOT), Some(Gid::ROOT)),
            Owners::Dropped => Ok(()),
        };
        let place = self.root.walk(path, Missing::Make(&of_root))?;
        self.last = Some((path.to_owned(), place.clone()));
        Ok(place)
    }

    fn bring(&mut self, path: PathBuf) {
        for above in path.ancestors().skip(1) {
            if !self.brought.insert(above.to_owned()) {
                break;
            }
        }
        self.brought.insert(path);
    }

    fn white_out(&mut self, parent: &Path, name: &OsStr) -> Result<(), Trouble> {
        let hidden = OsStr::from_bytes(&name.as_bytes()[WHITEOUT.len()..]);
        if ["", ".", ".."].iter().any(|no_name| hidden == *no_name) {
            return Err(Trouble::Refused("a whiteout of nothing"));
        }
        let place = match self.root.walk(parent, Missing::Refuse) {
            Ok(place) => place,
            // Nothing of a lower layer is there.
            Err(Astray::Nowhere(_)) => return Ok(()),
            Err(Astray::Failed(error)) => return Err(error.into()),
        };
        self.last = None;
        match name.as_bytes() == OPAQUE {
            true => self.clear(&place),
            false => self.hide(&place, hidden),
        }
    }

    /// Removes all that lower layers have in a directory.
    fn clear(&self, place: &Place) -> Result<(), Trouble> {
        for name in place.names()? {
            self.hide(place, &name)?;
        }
        Ok(())
    }

    /// Removes what lower layers have under a name.
    fn hide(&self, place: &Place, name: &OsStr) -> Result<(), Trouble> {
        if !self.brought.contains(&place.path.join(name)) {
            place.remove(name)?;
            return Ok(());
        }
        match place.enter(name) {
            Ok(directory) => self.clear(&directory),
            Err(Errno::LOOP | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory `name`, with what is in it; in place of anything else.
    fn directory(&mut self, parent: &Place, name: &OsStr) -> Result<Place, Trouble> {
        match parent.enter(name) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                self.remove(parent, name)?;
                Ok(parent.make(name)?)
            }
            entered => Ok(entered?),
        }
    }

    fn link(&mut self, parent: &Place, name: &OsStr, target: &Path) -> Result<(), Trouble> {
        const NOTHING: Trouble = Trouble::Refused("a hard link to what is no file of the image");
        let above = target.parent().unwrap_or(Path::new(""));
        let target = target.file_name().ok_or(NOTHING)?;
        let from = match self.root.walk(above, Missing::Refuse) {
            Err(Astray::Nowhere(_)) => return Err(NOTHING),
            walked => walked?,
        };
        let stat = |place: &Place, name| {
            rustix::fs::statat(&place.directory, name, AtFlags::SYMLINK_NOFOLLOW)
        };
        let stands = match stat(&from, target) {
            Err(Errno::NOENT) => return Err(NOTHING),
            stands => stands?,
        };
        if FileType::from_raw_mode(stands.st_mode) == FileType::Directory {
            return Err(NOTHING);
        }
        if (&from.path, target) == (&parent.path, name) {
            return Err(Trouble::Refused("a hard link to itself"));
        }
        let linked = self.replacing(parent, name, || {
            let (from, to) = (&from.directory, &parent.directory);
            rustix::fs::linkat(from, target, to, name, AtFlags::empty())
        });
        match linked {
            // It was in the directory that the link replaced.
            Err(Trouble::Failed(error)) if error.kind() == io::ErrorKind::NotFound => Err(NOTHING),
            linked => linked,
        }
    }

    /// Runs `make`, once more without what stands at `name` if that is in its way.
    fn replacing<T>(
        &mut self,
        parent: &Place,
        name: &OsStr,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, Trouble> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    fn remove(&mut self, parent: &Place, name: &OsStr) -> Result<(), Trouble> {
        if parent.remove(name)? {
            self.last = None;
        }
        Ok(())
    }

    /// Owner first: giving a file away takes setuid and setgid from it.
    fn finish(&self, file: &OwnedFd, entry: &Entry, always: u32) -> Result<(), Trouble> {
        if let Some((user, group)) = self.owner(entry)? {
            rustix::fs::fchown(file, Some(user), Some(group))?;
        }
        let always = match self.owners {
            Owners::Kept => 0,
            Owners::Dropped => always,
        };
        let mode = Mode::from_raw_mode(entry.mode | always);
        Ok(rustix::fs::fchmod(file, mode)?)
    }

    fn owner(&self, entry: &Entry) -> Result<Option<(Uid, Gid)>, Trouble> {
        if self.owners == Owners::Dropped {
            return Ok(None);
        }
        let unreadable = Trouble::Refused("an unreadable owner");
        let (user, group) = entry.owner.ok_or(unreadable)?;
        let nobody = u32::MAX;
        if user == nobody || group == nobody {
            // To the kernel this number means: leave it as it is.
            return Err(Trouble::Refused("an owner that cannot be one"));
        }
        Ok(Some((Uid::from_raw(user), Gid::from_raw(group))))
    }

    fn copy(&mut self, from: &mut dyn Read, to: &mut File) -> io::Result<()> {
        loop {
            match from.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => to.write_all(&self.buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
