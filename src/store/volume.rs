//! The directory itself: made, locked, swept, synced, probed. Everything here blocks.

use std::error::Error as _;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Alone;
use crate::names::{Digest, Hasher};

/// Where bytes on their way in are.
pub(super) const INGEST: &str = "ingest";

/// Bytes of the readiness probe: one block, so that a full volume shows.
pub(super) const PROBE: u64 = 4096;

/// Makes `directory` a store with `folders` and sweeps it, unless another process has it open. Returns its real path
/// and the lock that has to live as long as the store.
pub(super) fn open(directory: &Path, folders: &[&str]) -> io::Result<(PathBuf, File)> {
    create(directory)?;
    let directory = fs::canonicalize(directory)?;
    let ingest = directory.join(INGEST);
    for folder in folders {
        create(&directory.join(folder))?;
    }
    create(&ingest)?;
    let lock = (File::options().create(true).truncate(false).write(true))
        .open(ingest.join("lock"))
        .and_then(|lock| sweep_alone(lock, &directory, folders))?;
    sync_directory(&ingest)?;
    match probe(&ingest) {
        // What is stored can be served all the same, and room be made.
        Err(e) if is_full(&e) => {
            tracing::warn!(directory = %directory.display(), error = %e, "store: the volume is full");
        }
        probed => probed?,
    }
    Ok((directory, lock))
}

/// Makes a directory with those above it, each durable.
fn create(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(above) = above {
        create(above)?;
    }
    match fs::create_dir(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_directory(above.unwrap_or(Path::new(".")))
}

/// Sweeps while nobody else has the store open; then lets others in.
///
/// Between the two locks another process may sweep: this one has nothing in `ingest/` yet.
fn sweep_alone(lock: File, directory: &Path, folders: &[&str]) -> io::Result<File> {
    match lock.try_lock() {
        Ok(()) => {
            sweep(directory, folders)?;
            lock.unlock()?;
        }
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => {
            // Volumes without locks exist; what a crash left stays there.
            tracing::warn!(directory = %directory.display(), error = %e, "store: cannot be locked, leftovers stay");
            return Ok(lock);
        }
    }
    lock.lock_shared()?;
    Ok(lock)
}

/// Makes the shared lock one that nobody else has.
pub(super) fn keep_alone(lock: &File) -> io::Result<Alone> {
    match lock.try_lock() {
        Ok(()) => Ok(Alone::Yes),
        Err(TryLockError::WouldBlock) => {
            // The shared one may have been lost in the attempt (flock(2)).
            lock.lock_shared()?;
            Ok(Alone::No)
        }
        // Volumes without locks exist.
        Err(TryLockError::Error(_)) => Ok(Alone::No),
    }
}

fn sweep(directory: &Path, folders: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(directory.join(INGEST))? {
        let entry = entry?;
        if entry.file_name() != "lock" && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_staged(&entry) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    for folder in folders {
        let top = folder.split('/').next().unwrap_or(folder);
        sweep_staged(&directory.join(top))?;
    }
    sync_directory(directory)
}

/// Whether it is a `<name>#<digits>`.
fn is_staged(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    (name.to_str().and_then(|n| n.rsplit_once('#')))
        .is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes `<name>#<digits>`: what `object_store` writes before it renames. The names that stay are made durable: the
/// process that gave them may have ended before it came to that, and from now on they are served.
fn sweep_staged(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sweep_staged(&entry.path())?;
        } else if is_staged(&entry) {
            fs::remove_file(entry.path())?;
        }
    }
    sync_directory(directory)
}

/// Whether there is a file below `directory`.
pub(super) fn has_files(directory: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || has_files(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the names in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A new file in `ingest` that goes when it is dropped. The group may read and write it: a volume often
/// outlives the user id of the process, but not its `fsGroup`.
pub(super) fn named_file(ingest: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix("")
        .rand_bytes(20)
        .permissions(fs::Permissions::from_mode(0o660))
        .tempfile_in(ingest)
}

/// Writes, syncs, reads and removes a block.
pub(super) fn probe(ingest: &Path) -> io::Result<()> {
    let written: Vec<u8> = (0..PROBE).map(|_| rand::random()).collect();
    let mut file = tempfile::tempfile_in(ingest)?;
    file.write_all(&written)?;
    file.sync_all()?;
    file.rewind()?;
    let mut read = Vec::with_capacity(written.len());
    file.read_to_end(&mut read)?;
    if read == written {
        Ok(())
    } else {
        Err(io::Error::other(
            "the volume returned other bytes than were written",
        ))
    }
}

/// Has the next reading of `file` come from the disk: what memory has of it may be better, or worse. Where that cannot be, it
/// does not matter.
pub(super) fn forget(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// The digest of all that `file` has from its position on.
pub(super) fn hash(mut file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&piece[..length]),
        }
    }
}

/// Whether there was no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// The error of the file system behind one of `object_store`.
pub(super) fn cause(error: object_store::Error) -> io::Error {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return again(io);
        }
        source = inner.source();
    }
    io::Error::other(error)
}

/// The same error once more.
pub(super) fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
