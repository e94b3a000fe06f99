//! The reading half: one pass over a tar stream, gzip or not, that lets nothing unchecked through.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::{DEEPEST_PATH, Error, Kind, LONGEST_PATH, Limits, Member};
use crate::names::{Digest, Hasher};

/// Bytes of headers before one member's content: long names and extended headers are held in memory.
const HEADERS_PER_MEMBER: u64 = 1 << 20;

/// Bytes beside the content that a member may cost on average: header, padding, long name. With them the
/// whole stream is bounded, so a few kilobytes of gzip cannot keep a reader busy for hours.
const OVERHEAD_PER_MEMBER: u64 = 4096;

pub(super) fn read<E: From<Error>>(
    reader: impl Read,
    limits: Limits,
    mut each: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let input = decompressed(reader).map_err(Error::Unreadable)?;
    entries(input, limits, |entry, content| {
        match entry.of_stranger()? {
            Some(member) => each(&member, content),
            None => Ok(()),
        }
    })
}

pub(super) fn digest(reader: impl Read, limits: Limits) -> Result<Digest, Error> {
    let mut input = Hashing::new(decompressed(reader).map_err(Error::Unreadable)?);
    entries(&mut input, limits, |entry, _| entry.of_stranger().map(drop))?;
    Ok(input.finish())
}

/// One member as far as it is checked for everybody.
pub(super) struct Entry {
    /// Relative to the archive's root, and empty for the root itself; no `..`.
    pub(super) path: PathBuf,
    pub(super) what: What,
    /// With setuid, setgid and sticky.
    pub(super) mode: u32,
    /// User and group; `None` where they are unreadable or no 32-bit numbers.
    pub(super) owner: Option<(u32, u32)>,
    /// Seconds since the Unix epoch; 0 where that is unreadable.
    pub(super) mtime: u64,
}

/// What a member is, for those who take more than strangers may send.
pub(super) enum What {
    Plain(Kind),
    /// A device or a fifo: why a stranger's is refused.
    Special(&'static str),
}

impl Entry {
    /// The member that a stranger may send, or `None` for the root.
    fn of_stranger(self) -> Result<Option<Member>, Error> {
        match self.what {
            What::Special(reason) => Err(Error::Member {
                path: self.path,
                reason,
            }),
            What::Plain(_) if self.path.as_os_str().is_empty() => Ok(None),
            What::Plain(kind) => Ok(Some(Member {
                path: self.path,
                kind,
                mode: self.mode & 0o777,
                mtime: self.mtime,
            })),
        }
    }
}

/// Reads a plain tar to its very end.
pub(super) fn entries<E: From<Error>>(
    input: impl Read,
    limits: Limits,
    mut each: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let meter = Meter::new(limits);
    let mut archive = tar::Archive::new(Metered {
        input,
        meter: &meter,
    });
    let mut entries = archive.entries().map_err(|e| meter.explain(e))?;
    let (mut count, mut bytes) = (0_u64, 0_u64);
    loop {
        meter.headers_begin();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|e| meter.explain(e))?;
        meter.content_begins();
        count += 1;
        if count > limits.entries {
            return Err(too_large("entries", limits.entries).into());
        }
        let member = checked(&mut entry)?;
        if let Some(What::Plain(Kind::File { size })) = member.as_ref().map(|m| &m.what) {
            bytes = bytes.saturating_add(*size);
            if bytes > limits.bytes {
                return Err(too_large("bytes", limits.bytes).into());
            }
        }
        let mut content = Content {
            left: entry.size(),
            entry: &mut entry,
            meter: &meter,
            failure: None,
        };
        let outcome = match member {
            Some(member) => each(member, &mut content),
            None => Ok(()),
        };
        if outcome.is_ok() {
            content.skip_rest();
        }
        if let Some(failure) = content.failure {
            return Err(failure.into());
        }
        outcome?;
    }
    if meter.passed.get() == 0 {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "there is nothing in it");
        return Err(Error::Unreadable(source).into());
    }
    // To the very end: a gzip stream proves itself by the checksum that stands there.
    meter.content_begins();
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|e| meter.explain(e))?;
    Ok(())
}

fn too_large(what: &'static str, limit: u64) -> Error {
    Error::TooLarge { what, limit }
}

/// Bytes that were gzip or not.
enum Decompressed<R: Read> {
    Gzip(Box<BufReader<MultiGzDecoder<Whole<R>>>>),
    Plain(Whole<R>),
}

/// The reader together with the bytes that were read ahead.
type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// A tar cannot begin with gzip's two bytes, unless its first name does.
pub(super) fn decompressed<R: Read>(mut reader: R) -> io::Result<impl Read> {
    const BUFFER: usize = 64 << 10;
    let mut first = Vec::with_capacity(2);
    reader.by_ref().take(2).read_to_end(&mut first)?;
    let gzip = first == [0x1f, 0x8b];
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(first).chain(reader));
    Ok(if gzip {
        let inside = MultiGzDecoder::new(whole);
        Decompressed::Gzip(Box::new(BufReader::with_capacity(BUFFER, inside)))
    } else {
        Decompressed::Plain(whole)
    })
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(inside) => inside.read(into),
            Self::Plain(whole) => whole.read(into),
        }
    }
}

/// Hashes what is read through it.
pub(super) struct Hashing<R> {
    input: R,
    hasher: Hasher,
}

impl<R> Hashing<R> {
    pub(super) fn new(input: R) -> Self {
        let hasher = Hasher::default();
        Self { input, hasher }
    }

    /// The digest of what was read.
    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.hasher.update(&into[..count]);
        Ok(count)
    }
}

/// What a reader that is inside the tar crate may still read.
struct Meter {
    limit: u64,
    passed: Cell<u64>,
    headers_left: Cell<Option<u64>>,
    exceeded: RefCell<Option<Error>>,
}

impl Meter {
    fn new(limits: Limits) -> Self {
        let overhead = limits.entries.saturating_mul(OVERHEAD_PER_MEMBER);
        Self {
            limit: (limits.bytes.saturating_add(overhead)).saturating_add(HEADERS_PER_MEMBER),
            passed: Cell::new(0),
            headers_left: Cell::new(None),
            exceeded: RefCell::new(None),
        }
    }

    fn headers_begin(&self) {
        self.headers_left.set(Some(HEADERS_PER_MEMBER));
    }

    fn content_begins(&self) {
        self.headers_left.set(None);
    }

    fn left(&self) -> u64 {
        let total = self.limit - self.passed.get();
        self.headers_left.get().map_or(total, |h| h.min(total))
    }

    fn count(&self, bytes: u64) {
        self.passed.set(self.passed.get() + bytes);
        if let Some(left) = self.headers_left.get() {
            self.headers_left.set(Some(left - bytes));
        }
    }

    fn exceed(&self) -> io::Error {
        let error = if self.headers_left.get() == Some(0) {
            too_large("bytes of headers before one member", HEADERS_PER_MEMBER)
        } else {
            too_large("bytes, headers included", self.limit)
        };
        *self.exceeded.borrow_mut() = Some(error);
        io::Error::other("a limit was passed")
    }

    /// The error behind one that came out of the tar crate.
    fn explain(&self, error: io::Error) -> Error {
        (self.exceeded.borrow_mut().take()).unwrap_or(Error::Unreadable(error))
    }
}

struct Metered<'a, R> {
    input: R,
    meter: &'a Meter,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.meter.left();
        if left == 0 {
            // The end of the data right at the limit is fine.
            return match self.input.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(self.meter.exceed()),
            };
        }
        let most = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.input.read(&mut into[..most])?;
        self.meter.count(n as u64);
        Ok(n)
    }
}

/// One member's content; remembers why it ended early, so that no caller can take a cut file for a whole one.
struct Content<'a, R: Read> {
    entry: &'a mut R,
    left: u64,
    meter: &'a Meter,
    failure: Option<Error>,
}

impl<R: Read> Content<'_, R> {
    fn skip_rest(&mut self) {
        // Its failure is kept in `failure`.
        let _ = io::copy(self, &mut io::sink());
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.left == 0 {
            return Ok(0);
        }
        let error = match self.entry.read(into) {
            Ok(0) => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("cut {} bytes before a member's end", self.left),
            ),
            Ok(n) => {
                self.left = self.left.saturating_sub(n as u64);
                return Ok(n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => e,
        };
        let (kind, text) = (error.kind(), error.to_string());
        self.failure = Some(self.meter.explain(error));
        Err(io::Error::new(kind, text))
    }
}

/// The member that `entry` is, or `None` where there is nothing to do: a global header.
fn checked<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Option<Entry>, Error> {
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() {
        return Ok(None);
    }
    let written = entry.path_bytes().into_owned();
    let refused = |reason| {
        let shown = &written[..written.len().min(LONGEST_PATH)];
        let path = Path::new(OsStr::from_bytes(shown)).to_owned();
        Error::Member { path, reason }
    };
    let path = relative(&written).map_err(refused)?;
    extended_headers(entry).map_err(refused)?;
    let link = entry.link_name_bytes().unwrap_or_default();
    let kind = match kind {
        // The oldest tars know no directories but names that end so.
        EntryType::Regular if written.ends_with(b"/") && entry.size() == 0 => Kind::Directory,
        EntryType::Regular if written.ends_with(b"/") => {
            return Err(refused("a file whose name ends in /"));
        }
        EntryType::Regular => Kind::File { size: entry.size() },
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink {
            target: link_target(&link).map_err(refused)?,
        },
        EntryType::Link => Kind::Hardlink {
            target: (relative(&link).ok())
                .filter(|target| !target.as_os_str().is_empty())
                .ok_or_else(|| refused("a hard link to no place inside the archive"))?,
        },
        special => {
            let what = match special {
                EntryType::Char | EntryType::Block => What::Special("device files are refused"),
                EntryType::Fifo => What::Special("fifos are refused"),
                EntryType::GNUSparse => return Err(refused("sparse files are refused")),
                _ => return Err(refused("an unknown kind of member")),
            };
            return Ok(Some(Entry {
                path,
                what,
                mode: 0,
                owner: None,
                mtime: 0,
            }));
        }
    };
    if !matches!(kind, Kind::File { .. }) && entry.size() != 0 {
        // Readers disagree whether content follows here; the next header would stand elsewhere for them.
        return Err(refused("content on a member that cannot have any"));
    }
    if path.as_os_str().is_empty() && kind != Kind::Directory {
        return Err(refused("the root can only be a directory"));
    }
    let header = entry.header();
    let mode = (header.mode()).map_err(|_| refused("an unreadable mode"))? & 0o7777;
    let fields = header.as_old();
    let user = id(&fields.uid, header.uid());
    Ok(Some(Entry {
        path,
        what: What::Plain(kind),
        mode,
        owner: user.zip(id(&fields.gid, header.gid())),
        mtime: header.mtime().unwrap_or_default(),
    }))
}

/// A user or group. A field that was left empty is root's, as in GNU tar and Go's `archive/tar`.
fn id(field: &[u8], read: io::Result<u64>) -> Option<u32> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Some(0);
    }
    u32::try_from(read.ok()?).ok()
}

/// `written` without what leads to the root: empty when it is the root itself.
fn relative(written: &[u8]) -> Result<PathBuf, &'static str> {
    plain(written)?;
    let mut path = PathBuf::new();
    let mut depth = 0;
    for component in written.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err("its name leads out of the archive"),
            name => {
                path.push(OsStr::from_bytes(name));
                depth += 1;
            }
        }
    }
    if depth > DEEPEST_PATH {
        return Err("more than 128 directories deep");
    }
    Ok(path)
}

fn link_target(written: &[u8]) -> Result<PathBuf, &'static str> {
    plain(written).map_err(|_| "a symbolic link whose target cannot be one")?;
    Ok(PathBuf::from(OsStr::from_bytes(written)))
}

/// Whether a file system could take this for a path at all.
fn plain(path: &[u8]) -> Result<(), &'static str> {
    if path.is_empty() {
        Err("an empty name")
    } else if path.len() > LONGEST_PATH {
        Err("a name longer than 4096 bytes")
    } else if path.contains(&0) {
        Err("a zero byte in its name")
    } else {
        Ok(())
    }
}

/// Refuses extended headers that another reader would understand differently: what is checked here may be
/// unpacked by a container runtime later.
fn extended_headers<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<(), &'static str> {
    const MALFORMED: &str = "a malformed extended header";
    let size = entry.size();
    let Some(records) = entry.pax_extensions().map_err(|_| MALFORMED)? else {
        return Ok(());
    };
    let mut seen = [false; 3];
    for record in records {
        let record = record.map_err(|_| MALFORMED)?;
        let key = record.key_bytes();
        if key.starts_with(b"GNU.sparse.") {
            return Err("sparse files are refused");
        }
        if key == b"size" && record.value().ok().and_then(|v| v.parse().ok()) != Some(size) {
            return Err("an extended header with another size");
        }
        let names: [&[u8]; 3] = [b"path", b"linkpath", b"size"];
        if let Some(at) = names.iter().position(|name| *name == key) {
            if seen[at] {
                return Err("an extended header that says one thing twice");
            }
            seen[at] = true;
        }
    }
    Ok(())
}
