//! Packs a tree that may change under our hands: a compile's output, while processes of the compile may
//! still run. Everything is opened first, without following a link, and looked at afterwards.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tar::{EntryType, Header};

use super::{DEEPEST_PATH, Error, Limits};

const BLOCK: usize = 512;

pub(super) fn pack(from: &Path, to: impl Write) -> Result<(), Error> {
    let limits = Limits::default();
    let mut packer = Packer {
        from,
        to: BufWriter::with_capacity(64 << 10, to),
        buffer: vec![0; 64 << 10],
        entries_left: limits.entries,
        bytes_left: limits.bytes,
        limits,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(from, flags, Mode::empty())
        .map_err(|e| packer.unreadable(Path::new(""), e))?;
    packer.directory(&root, Path::new(""), 0)?;
    let end = Path::new("");
    packer.write(&[0; 2 * BLOCK], end)?;
    packer.to.flush().map_err(|e| unwritten(end, e))
}

struct Packer<'a, W: Write> {
    from: &'a Path,
    to: BufWriter<W>,
    buffer: Vec<u8>,
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
                    self.header(EntryType::Directory, &written, None, stat.st_mode, 0)?;
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
                    self.header(EntryType::Symlink, name, Some(&target), 0o777, 0)?;
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
        self.header(
            EntryType::Regular,
            path.as_os_str(),
            None,
            stat.st_mode,
            size,
        )?;
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(left.try_into().unwrap_or(usize::MAX));
            match file.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(refused(path, "it shrank while it was packed")),
                Ok(n) => {
                    let written = self.to.write_all(&self.buffer[..n]);
                    written.map_err(|e| unwritten(path, e))?;
                    left -= n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.unreadable(path, e)),
            }
        }
        self.pad(size, path)
    }

    /// Writes a member's header, and before it the names that are too long to stand in it (GNU's way,
    /// which every reader knows).
    fn header(
        &mut self,
        kind: EntryType,
        path: &OsStr,
        link: Option<&OsStr>,
        mode: u32,
        size: u64,
    ) -> Result<(), Error> {
        let mut header = plain_header(kind, mode & 0o777, size);
        let path_shown = Path::new(path);
        let name = self.short(path, EntryType::GNULongName, path_shown)?;
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        if let Some(link) = link {
            let link = self.short(link, EntryType::GNULongLink, path_shown)?;
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        }
        header.set_cksum();
        self.write(header.as_bytes(), path_shown)
    }

    /// As much of `text` as a header takes; where that is not all, all of it is written ahead.
    fn short<'t>(
        &mut self,
        text: &'t OsStr,
        ahead: EntryType,
        path: &Path,
    ) -> Result<&'t [u8], Error> {
        const ROOM: usize = 100;
        const NAME: &[u8] = b"././@LongLink";
        let text = text.as_bytes();
        if text.len() <= ROOM {
            return Ok(text);
        }
        let size = text.len() as u64 + 1;
        let mut header = plain_header(ahead, 0o644, size);
        header.as_old_mut().name[..NAME.len()].copy_from_slice(NAME);
        header.set_cksum();
        self.write(header.as_bytes(), path)?;
        self.write(text, path)?;
        self.write(&[0], path)?;
        self.pad(size, path)?;
        Ok(&text[..ROOM])
    }

    fn pad(&mut self, size: u64, path: &Path) -> Result<(), Error> {
        let over = (size % BLOCK as u64) as usize;
        if over > 0 {
            self.write(&[0; BLOCK][over..], path)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], path: &Path) -> Result<(), Error> {
        self.to.write_all(bytes).map_err(|e| unwritten(path, e))
    }

    fn unreadable(&self, path: &Path, error: impl Into<io::Error>) -> Error {
        Error::Read {
            path: self.from.join(path),
            source: error.into(),
        }
    }
}

fn plain_header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn refused(path: &Path, reason: &'static str) -> Error {
    Error::Member {
        path: path.to_owned(),
        reason,
    }
}

fn unwritten(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: PathBuf::from(path),
        source,
    }
}
