//! The output of a container for those who read it: from the first byte kept to the end, following. A reader has its own place
//! and waits for nobody; one that is overtaken by the rotation is told how much it missed. [`super`] hands them out.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};

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

pub(super) struct Reader {
    place: Place,
    /// The next byte of the output.
    offset: u64,
    /// The file that it is in, and the first byte of that.
    file: Option<(u64, File)>,
}

impl Reader {
    /// From byte `offset` on, or from what is kept behind it.
    pub(super) fn at(place: Place, offset: u64) -> io::Result<Self> {
        let starts = starts(&place)?;
        let within = starts.range(..=offset).next_back().copied();
        let file = match within {
            Some(start) => match File::open(place.log(start)) {
                Ok(mut file) => {
                    file.seek(io::SeekFrom::Start(offset - start))?;
                    Some((start, file))
                }
                // Rotated away since: the next file begins with what is missed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        Ok(Self {
            place,
            offset,
            file,
        })
    }

    /// The first byte of the file that was read last, and the next byte.
    pub(super) fn position(&self) -> (u64, u64) {
        let start = self.file.as_ref().map_or(0, |(start, _)| *start);
        (start, self.offset)
    }

    /// The next bytes, or a line about those that are gone; nothing when there is no more yet.
    pub(super) fn read(&mut self) -> io::Result<Bytes> {
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
        let starts = starts(&self.place)?;
        let mut later = starts.range(self.offset..);
        Ok(later
            .find(|start| current.is_none_or(|current| **start > current))
            .copied())
    }
}

/// How many bytes were written at `place` so far.
pub(super) fn length(place: &Place) -> io::Result<u64> {
    let Some(newest) = starts(place)?.last().copied() else {
        return Ok(0);
    };
    match fs::metadata(place.log(newest)) {
        Ok(file) => Ok(newest + file.len()),
        // Removed since, with all that was there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(newest),
        Err(error) => Err(error),
    }
}

/// The first bytes of all files at `place`.
pub(super) fn starts(place: &Place) -> io::Result<BTreeSet<u64>> {
    let entries = match fs::read_dir(place.path()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut starts = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name();
        let start = name.to_str().and_then(|name| name.strip_prefix(Place::LOG));
        starts.extend(start.and_then(|start| start.parse::<u64>().ok()));
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_went_between_two_looks_is_told_as_missed() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::at(directory.path().to_owned());
        // Listed, and not to be opened.
        std::os::unix::fs::symlink("nowhere", place.log(0)).unwrap();
        fs::write(place.log(10), "later\n").unwrap();
        let mut reader = Reader::at(place, 4).unwrap();
        let told = reader.read().unwrap();
        let told = std::str::from_utf8(&told).unwrap();
        assert!(
            told.contains("peitho: 6 bytes of output are left out"),
            "{told}"
        );
        assert_eq!(reader.read().unwrap(), "later\n");
        assert_eq!(reader.position(), (10, 16));
    }
}
