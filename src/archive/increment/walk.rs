//! The look through a directory: what is in it, and what of that is new. It opens what it walks through without following links. `increment` calls it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::super::{DEEPEST_PATH, Error, LONGEST_PATH};
use super::{Entry, Extent, Found, Known, MOST_ENTRIES, OPEN, OUTDATED, What, mtime_of, size_of};
use crate::names::{Digest, Hasher};

/// A look through a directory.
pub(super) struct Walk<'a> {
    pub(super) known: &'a Known,
    pub(super) extent: Extent,
    pub(super) members: Vec<Found>,
    pub(super) entries_left: u64,
    /// Whether all of it can be laid over what is known.
    pub(super) fits: bool,
}

impl Walk<'_> {
    pub(super) fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        for name in self.names(directory)? {
            let path = path.join(&name);
            // Readers would refuse it, or it went away just now.
            if path.as_os_str().len() >= LONGEST_PATH {
                continue;
            }
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(stat) = stat else { continue };
            let mode = stat.st_mode & 0o777;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if depth + 1 < DEEPEST_PATH => {
                    let flags = OPEN | OFlags::DIRECTORY;
                    let opened = rustix::fs::openat(directory, &name, flags, Mode::empty());
                    let Ok(opened) = opened else { continue };
                    self.found(path.clone(), mode, What::Directory, None);
                    self.directory(&opened, &path, depth + 1)?;
                }
                FileType::RegularFile => {
                    let what = What::File {
                        size: size_of(&stat),
                        mtime: mtime_of(&stat),
                    };
                    self.found(path, mode, what, Some((directory, &name)));
                }
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(directory, &name, Vec::new());
                    let Ok(target) = target else { continue };
                    let target = OsString::from_vec(target.into_bytes());
                    self.found(path, 0o777, What::Symlink { target }, None);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn found(&mut self, path: PathBuf, mode: u32, what: What, file: Option<(&OwnedFd, &OsString)>) {
        if self.extent == Extent::New
            && let Some(known) = self.known.has.get(&path)
        {
            let was_directory = matches!(known, Entry::Directory { .. });
            self.fits &= was_directory == what.is_directory();
            if is_same(known, mode, &what, file) {
                if let (Entry::File { mtime: was, .. }, What::File { mtime, .. }) = (known, &what)
                    && mtime.0.saturating_sub(*was) >= OUTDATED
                {
                    let what = What::Touched { mtime: mtime.0 };
                    self.members.push(Found { path, mode, what });
                }
                return;
            }
        }
        self.members.push(Found { path, mode, what });
    }

    /// The names in a directory, sorted by their bytes; none where it cannot be read any more.
    fn names(&mut self, directory: &OwnedFd) -> Result<Vec<OsString>, Error> {
        let mut names = Vec::new();
        let Ok(entries) = Dir::read_from(directory) else {
            return Ok(names);
        };
        for entry in entries.map_while(Result::ok) {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            // Counted before they are packed: the list is in memory.
            if names.len() as u64 == self.entries_left {
                return Err(Error::TooLarge {
                    what: "entries",
                    limit: MOST_ENTRIES,
                });
            }
            names.push(OsString::from_vec(name.to_vec()));
        }
        self.entries_left -= names.len() as u64;
        names.sort_unstable();
        Ok(names)
    }
}

/// Whether what is found is what was unpacked. A file with another time may have been touched only: compilers note so what they
/// use.
fn is_same(known: &Entry, mode: u32, what: &What, file: Option<(&OwnedFd, &OsString)>) -> bool {
    match (known, what) {
        (Entry::Directory { mode: was }, What::Directory) => *was == mode,
        (Entry::Symlink { target: was }, What::Symlink { target }) => was.as_os_str() == target,
        (
            Entry::File {
                mode: was,
                size: length,
                mtime: at,
                content,
            },
            What::File { size, mtime },
        ) => {
            *was == mode
                && length == size
                && (*mtime == (*at, 0)
                    || file
                        .and_then(|(directory, name)| digest(directory, name))
                        .as_ref()
                        == Some(content))
        }
        _ => false,
    }
}

fn digest(directory: &OwnedFd, name: &OsString) -> Option<Digest> {
    let file = rustix::fs::openat(directory, name, OPEN, Mode::empty()).ok()?;
    let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !rustix::fs::fstat(&file).is_ok_and(|stat| is_file(&stat)) {
        return None;
    }
    let (mut file, mut hasher) = (File::from(file), Hasher::default());
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Some(hasher.finish()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
