//! Paths inside a tree that may hold links to anywhere, found without leaving it. Each step is relative to an open
//! directory and follows no link by itself; links are read and walked here, with the tree's root as theirs.
//! `openat2` and its `RESOLVE_IN_ROOT` would walk as safely, but not say where they arrived: whiteouts need to know, and so
//! does the bound on depth. Nor would they make directories on their way.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::super::DEEPEST_PATH;

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// As the kernel.
const MOST_LINKS: usize = 40;

/// A directory of the tree, by its real path: one without links.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) directory: Rc<OwnedFd>,
}

/// Why a path leads to no directory.
pub(super) enum Astray {
    /// There is nothing, or something else than a directory on the way.
    Nowhere(&'static str),
    Failed(Errno),
}

impl From<Errno> for Astray {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

/// What to do about a directory that is not there.
#[derive(Clone, Copy)]
pub(super) enum Missing<'a> {
    /// Make it, and have this done to it.
    Make(&'a dyn Fn(&OwnedFd) -> rustix::io::Result<()>),
    Refuse,
}

impl Place {
    pub(super) fn root(tree: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: PathBuf::new(),
            directory: Rc::new(rustix::fs::open(tree, flags, Mode::empty())?),
        })
    }

    /// The directory `path` below this root, through links.
    pub(super) fn walk(&self, path: &Path, missing: Missing<'_>) -> Result<Self, Astray> {
        let mut at = vec![self.clone()];
        let mut ahead: Vec<OsString> = Vec::new();
        push(&mut ahead, path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            let here = at.last().unwrap_or(self);
            if name == ".." {
                at.truncate(1.max(at.len() - 1));
                continue;
            }
            match (here.enter(&name), missing) {
                (Ok(below), _) => at.push(below),
                (Err(Errno::NOENT), Missing::Make(then)) => {
                    let below = here.make(&name)?;
                    then(&below.directory)?;
                    at.push(below);
                }
                (Err(Errno::NOENT), Missing::Refuse) => {
                    return Err(Astray::Nowhere("its directory is not there"));
                }
                (Err(Errno::LOOP | Errno::NOTDIR), _) => {
                    let target = here.link(&name)?;
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Astray::Nowhere("links lead in a circle to its directory"));
                    }
                    if target.is_absolute() {
                        at.truncate(1);
                    }
                    push(&mut ahead, &target);
                }
                (Err(error), _) => return Err(error.into()),
            }
            // More than a path in an archive may have: links can lead on from the deepest one.
            if at.len() > DEEPEST_PATH {
                return Err(Astray::Nowhere("more than 128 directories deep"));
            }
        }
        Ok(at.pop().unwrap_or_else(|| self.clone()))
    }

    /// The real directory `name` in this one; a link is none.
    pub(super) fn enter(&self, name: &OsStr) -> rustix::io::Result<Self> {
        let directory = rustix::fs::openat(&self.directory, name, OPEN_DIRECTORY, Mode::empty())?;
        Ok(Self {
            path: self.path.join(name),
            directory: Rc::new(directory),
        })
    }

    /// Makes the directory `name`, mode 0755 whatever the umask is.
    pub(super) fn make(&self, name: &OsStr) -> rustix::io::Result<Self> {
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(&self.directory, name, mode)?;
        let made = self.enter(name)?;
        rustix::fs::fchmod(&made.directory, mode)?;
        Ok(made)
    }

    fn link(&self, name: &OsStr) -> Result<PathBuf, Astray> {
        match rustix::fs::readlinkat(&self.directory, name, Vec::new()) {
            Ok(target) => Ok(PathBuf::from(OsString::from_vec(target.into_bytes()))),
            Err(Errno::INVAL) => Err(Astray::Nowhere("a file stands where a directory must be")),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in this directory.
    pub(super) fn names(&self) -> rustix::io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Removes `name` with all that is below it; whether there was anything.
    pub(super) fn remove(&self, name: &OsStr) -> rustix::io::Result<bool> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) => return Ok(true),
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        // As deep as `walk` lets a tree become, and no deeper.
        let below = self.enter(name)?;
        for name in below.names()? {
            below.remove(&name)?;
        }
        rustix::fs::unlinkat(&self.directory, name, AtFlags::REMOVEDIR)?;
        Ok(true)
    }
}

/// Puts the components of `path` before what is `ahead`; the next one is the last.
fn push(ahead: &mut Vec<OsString>, path: &Path) {
    ahead.extend(path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }));
}
