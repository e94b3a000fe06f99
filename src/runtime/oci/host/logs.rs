//! The output of a container for those who read it: from the first byte kept to the end, following. A reader has its own place
//! and waits for nobody; one that is overtaken by the rotation is told how much it missed. [`super`] hands them out.

use std::fs::{self, File};
use std::io::{self, Read as _};

use bytes::Bytes;
use futures::stream;
use tokio::sync::watch;

use super::output::{FILE_BYTES, FILES};
use super::place::Place;
use crate::runtime::LogStream;

const CHUNK: usize = 64 * 1024;

/// What a reader of an output has to know of its launch.
pub(super) trait Progress: Clone + Send + Sync + 'static {
    /// Whether no more will come than is there.
    fn is_over(&self) -> bool;
}

/// All of the output at `place`. `progress` changes whenever there may be more.
pub(super) fn follow(place: Place, progress: watch::Receiver<impl Progress>) -> LogStream {
    let reader = Reader {
        place,
        offset: 0,
        file: None,
    };
    Box::pin(stream::unfold(
        Some((reader, progress)),
        |state| async move {
            let (mut reader, mut progress) = state?;
            loop {
                // Before the read, or what comes between the two would be missed.
                let over = progress.borrow_and_update().is_over();
                let read = tokio::task::spawn_blocking(move || {
                    let bytes = reader.read();
                    (reader, bytes)
                });
                let (same, bytes) = read.await.expect("reading a file does not panic");
                reader = same;
                match bytes {
                    Ok(bytes) if !bytes.is_empty() => {
                        return Some((Ok(bytes), Some((reader, progress))));
                    }
                    Ok(_) => {}
                    Err(error) => return Some((Err(error), None)),
                }
                // Whoever knew how it goes on is gone when the wait fails.
                if over || progress.changed().await.is_err() {
                    return None;
                }
            }
        },
    ))
}

struct Reader {
    place: Place,
    /// The next byte of the output.
    offset: u64,
    /// The file that it is in, and the first byte of that.
    file: Option<(u64, File)>,
}

impl Reader {
    /// The next bytes, or a line about those that are gone; nothing when there is no more yet.
    fn read(&mut self) -> io::Result<Bytes> {
        loop {
            let bytes = self.read_file()?;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
            let Some(next) = self.next_file()? else {
                return Ok(Bytes::new());
            };
            // Complete now that there is a next; what was added since the read above is still to be read.
            let rest = self.read_file()?;
            if !rest.is_empty() {
                return Ok(rest);
            }
            match File::open(self.place.log(next)) {
                Ok(file) => self.file = Some((next, file)),
                // Rotated away under our eyes.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            let missed = next - self.offset;
            self.offset = next;
            if missed > 0 {
                let kept = FILE_BYTES * FILES as u64 / (1024 * 1024);
                return Ok(Bytes::from(format!(
                    "\npeitho: {missed} bytes of output are left out: the last {kept} MiB are kept\n"
                )));
            }
        }
    }

    fn read_file(&mut self) -> io::Result<Bytes> {
        let Some((_, file)) = &mut self.file else {
            return Ok(Bytes::new());
        };
        let mut chunk = vec![0; CHUNK];
        let count = file.read(&mut chunk)?;
        chunk.truncate(count);
        self.offset += count as u64;
        Ok(chunk.into())
    }

    /// The file after the current one: its first byte.
    fn next_file(&self) -> io::Result<Option<u64>> {
        let current = self.file.as_ref().map(|(start, _)| *start);
        let entries = match fs::read_dir(self.place.path()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut next = None;
        for entry in entries {
            let name = entry?.file_name();
            let start = name.to_str().and_then(|name| name.strip_prefix(Place::LOG));
            let Some(start) = start.and_then(|start| start.parse::<u64>().ok()) else {
                continue;
            };
            if start >= self.offset && current.is_none_or(|current| start > current) {
                next = Some(next.map_or(start, |other: u64| other.min(start)));
            }
        }
        Ok(next)
    }
}
