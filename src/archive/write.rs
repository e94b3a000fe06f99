//! The members of a tar as they are written here: GNU's headers, no owners, and what is longer than a header ahead of it.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::Error;

/// All of a tar is in such blocks.
pub(super) const BLOCK: usize = 512;

/// Bytes that are read and written at once.
const BUFFER: usize = 64 << 10;

/// What a header has room for, of a name and of a link's target.
const ROOM: usize = 100;

/// A tar on its way out.
pub(super) struct Writer<W: Write> {
    to: BufWriter<W>,
    buffer: Vec<u8>,
}

/// What a member's header says.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) kind: EntryType,
    /// As it is written: directories end in `/`.
    pub(super) path: &'a OsStr,
    pub(super) link: Option<&'a OsStr>,
    /// Permission bits; others are left out.
    pub(super) mode: u32,
    /// Seconds since the Unix epoch.
    pub(super) mtime: u64,
    pub(super) size: u64,
}

/// How the content of a file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Whole,
    /// There was less than the header says; nothing that is written now can mend the archive.
    Short,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W) -> Self {
        Self {
            to: BufWriter::with_capacity(BUFFER, to),
            buffer: vec![0; BUFFER],
        }
    }

    /// What a member takes beside its content and the padding of that.
    pub(super) fn overhead(path: &OsStr) -> u64 {
        let ahead = match path.len() {
            0..=ROOM => 0,
            longer => BLOCK as u64 + padded(longer as u64 + 1),
        };
        BLOCK as u64 + ahead
    }

    /// Writes a member's header, and before it the names that are too long to stand in it (GNU's way,
    /// which every reader knows).
    pub(super) fn head(&mut self, head: Head<'_>) -> Result<(), Error> {
        let mut header = plain_header(head.kind, head.mode & 0o777, head.size);
        header.set_mtime(head.mtime);
        let shown = Path::new(head.path);
        let name = self.short(head.path, EntryType::GNULongName, shown)?;
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        if let Some(link) = head.link {
            let link = self.short(link, EntryType::GNULongLink, shown)?;
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        }
        header.set_cksum();
        self.write(header.as_bytes(), shown)
    }

    /// Copies `size` bytes of `file`, as the header before said.
    ///
    /// # Errors
    /// [`Error::Write`], and what `unreadable` makes of a failure of the file.
    pub(super) fn content(
        &mut self,
        file: &mut impl Read,
        size: u64,
        path: &Path,
        unreadable: impl FnOnce(io::Error) -> Error,
    ) -> Result<Content, Error> {
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(left.try_into().unwrap_or(usize::MAX));
            match file.read(&mut self.buffer[..most]) {
                Ok(0) => return Ok(Content::Short),
                Ok(n) => {
                    let written = self.to.write_all(&self.buffer[..n]);
                    written.map_err(|e| unwritten(path, e))?;
                    left -= n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(e)),
            }
        }
        self.pad(size, path)?;
        Ok(Content::Whole)
    }

    /// Writes the end; gives what was written to.
    pub(super) fn finish(mut self) -> Result<W, Error> {
        let end = Path::new("");
        self.write(&[0; 2 * BLOCK], end)?;
        let whole = self.to.into_inner();
        whole.map_err(|e| unwritten(end, e.into_error()))
    }

    /// As much of `text` as a header takes; where that is not all, all of it is written ahead.
    fn short<'t>(
        &mut self,
        text: &'t OsStr,
        ahead: EntryType,
        path: &Path,
    ) -> Result<&'t [u8], Error> {
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
}

/// `size` with what fills the last block.
pub(super) fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64)
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

fn unwritten(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: PathBuf::from(path),
        source,
    }
}
