//! The output of a container by the line, with the time of each: what [`super::logs`] reads and [`super::moments`] knows, put
//! together. [`super`] hands it out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use futures::stream;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::error::{Error, file};
use super::logs::{Progress, Reader, length, starts};
use super::moments::Known;
use super::place::Place;
use crate::runtime::lines::Cutter;
use crate::runtime::{Extent, Line, LineQuery, LineStream};

/// How much is looked at at a time, from the end backwards.
const STEP: u64 = 64 * 1024;

/// The lines of the output at `place` that `query` asks for. `progress` changes whenever there may be more.
///
/// # Errors
/// [`Error::File`].
pub(super) async fn read(
    place: Place,
    progress: watch::Receiver<impl Progress>,
    query: &LineQuery,
) -> Result<LineStream, Error> {
    let (tail, extent) = (query.tail, query.extent);
    let opened = spawn_blocking(move || {
        let open = || {
            let end = match extent {
                Extent::Present => Some(length(&place)?),
                Extent::Follow => None,
            };
            let reader = Reader::at(place.clone(), beginning(&place, tail, end)?)?;
            Ok(Lines::of(place.clone(), reader, end))
        };
        open().map_err(|error| file(place.path(), error))
    });
    let lines = opened.await.expect("reading a file does not panic")?;
    Ok(Box::pin(stream::unfold(
        (lines, progress, Goes::On),
        move |(mut lines, mut progress, mut goes)| async move {
            loop {
                if let Some(line) = lines.ready.pop_front() {
                    return Some((Ok(line), (lines, progress, goes)));
                }
                if goes == Goes::Over {
                    return None;
                }
                // Before the read, or what comes between the two would be missed.
                let over = progress.borrow_and_update().is_over() || extent == Extent::Present;
                let read = spawn_blocking(move || {
                    let more = lines.more();
                    (lines, more)
                });
                let more;
                (lines, more) = read.await.expect("reading a file does not panic");
                match more {
                    Ok(More::Some) => {}
                    Ok(More::None) if over || progress.changed().await.is_err() => {
                        lines.finish();
                        goes = Goes::Over;
                    }
                    Ok(More::None) => {}
                    Err(error) => return Some((Err(error), (lines, progress, Goes::Over))),
                }
            }
        },
    )))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    On,
    Over,
}

enum More {
    Some,
    None,
}

/// The byte at which the last `tail` lines before `until` begin, or the first one kept. Without it those are meant that are
/// there now.
fn beginning(place: &Place, tail: Option<u64>, until: Option<u64>) -> io::Result<u64> {
    let starts = starts(place)?;
    let first = starts.first().copied().unwrap_or(0);
    let Some(tail) = tail else {
        return Ok(first);
    };
    let mut kept = starts.last().copied().unwrap_or(first);
    let mut missing = tail;
    let mut last = true;
    for start in starts.iter().rev() {
        let mut log = match File::open(place.log(*start)) {
            Ok(log) => log,
            // Rotated away since, and so are those before it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
            Err(error) => return Err(error),
        };
        kept = *start;
        // More may have come since, also in files that begin later.
        let length = log.metadata()?.len();
        let mut end = until.map_or(length, |it| length.min(it.saturating_sub(*start)));
        while end > 0 {
            let from = end.saturating_sub(STEP);
            let mut bytes = vec![0; usize::try_from(end - from).unwrap_or(0)];
            log.seek(SeekFrom::Start(from))?;
            log.read_exact(&mut bytes)?;
            for (index, byte) in bytes.iter().enumerate().rev() {
                let after = start + from + index as u64 + 1;
                // The end of the last line begins none.
                if *byte == b'\n' && !last {
                    missing = missing.saturating_sub(1);
                }
                if missing == 0 {
                    return Ok(after);
                }
                last = false;
            }
            end = from;
        }
    }
    Ok(first)
}

struct Lines {
    place: Place,
    reader: Reader,
    /// The byte of the output that is not wanted any more: one that prints without end has no last line.
    end: Option<u64>,
    known: Known,
    cutter: Cutter,
    /// When the line in `cutter` began.
    began: Option<jiff::Timestamp>,
    ready: VecDeque<Line>,
}

impl Lines {
    fn of(place: Place, reader: Reader, end: Option<u64>) -> Self {
        Self {
            place,
            reader,
            end,
            known: Known::default(),
            cutter: Cutter::default(),
            began: None,
            ready: VecDeque::new(),
        }
    }

    fn more(&mut self) -> io::Result<More> {
        let (_, before) = self.reader.position();
        let end = self.end.unwrap_or(u64::MAX);
        if before >= end {
            return Ok(More::None);
        }
        let bytes = self.reader.read()?;
        if bytes.is_empty() {
            return Ok(More::None);
        }
        let (start, after) = self.reader.position();
        if after - before != bytes.len() as u64 {
            // A word about what is missing: it was never written.
            self.finish();
            self.ready.push_back(Line {
                time: None,
                text: bytes,
            });
            return Ok(More::Some);
        }
        self.known.load(&self.place, start);
        let wanted = usize::try_from(end - before).unwrap_or(usize::MAX);
        self.cut(before, &bytes.slice(..bytes.len().min(wanted)));
        Ok(More::Some)
    }

    /// Cuts `bytes`, of which the first is byte `offset` of the output.
    fn cut(&mut self, offset: u64, bytes: &Bytes) {
        let held = self.cutter.held();
        if held == 0 {
            self.began = self.known.time(offset);
        }
        let mut next = offset - held as u64;
        for text in self.cutter.push(bytes) {
            next += text.len() as u64;
            let is_whole = text.ends_with(b"\n");
            let time = self.began.take();
            self.ready.push_back(Line { time, text });
            // A later piece of a long line has the time of the first.
            self.began = is_whole.then(|| self.known.time(next)).flatten();
        }
    }

    /// There is no more: what has no end is a line too.
    fn finish(&mut self) {
        if let Some(text) = self.cutter.finish() {
            let time = self.began.take();
            self.ready.push_back(Line { time, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[test]
    fn the_last_lines_are_found_over_the_ends_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::at(directory.path().to_owned());
        for (start, text) in [(10, "a\nbb"), (14, "b\nc\n"), (18, "d")] {
            std::fs::write(place.log(start), text).unwrap();
        }
        for (tail, expected) in [
            (Some(0), 19),
            (Some(1), 18),
            (Some(2), 16),
            (Some(3), 12),
            (Some(4), 10),
            (Some(5), 10),
            (None, 10),
        ] {
            assert_eq!(beginning(&place, tail, None).unwrap(), expected, "{tail:?}");
        }
        std::fs::write(place.log(18), "d\n").unwrap();
        assert_eq!(beginning(&place, Some(1), None).unwrap(), 18);
        assert_eq!(beginning(&place, Some(0), None).unwrap(), 20);
        // What comes after the end that was noted is not counted.
        for (tail, expected) in [(0, 18), (1, 16), (2, 12)] {
            let found = beginning(&place, Some(tail), Some(18)).unwrap();
            assert_eq!(found, expected, "{tail}");
        }
    }

    #[test]
    fn the_tail_of_what_is_kept_does_without_a_file_that_went() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::at(directory.path().to_owned());
        // Listed, and not to be opened.
        std::os::unix::fs::symlink("nowhere", place.log(0)).unwrap();
        std::fs::write(place.log(10), "a\nb\n").unwrap();
        assert_eq!(beginning(&place, Some(1), None).unwrap(), 12);
        assert_eq!(beginning(&place, Some(9), None).unwrap(), 10);
    }

    #[tokio::test]
    async fn what_is_there_has_an_end_however_fast_more_comes() {
        #[derive(Clone)]
        struct Endless;
        impl Progress for Endless {
            fn is_over(&self) -> bool {
                false
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let place = Place::at(directory.path().to_owned());
        std::fs::write(place.log(0), "a\nb\nc").unwrap();
        let (_more, progress) = watch::channel(Endless);
        let query = LineQuery {
            tail: Some(2),
            ..LineQuery::default()
        };
        let mut lines = read(place.clone(), progress, &query).await.unwrap();
        let mut seen = Vec::new();
        // There is more before each look, and it is never read.
        for _ in 0..10 {
            let log = File::options().append(true).open(place.log(0));
            std::io::Write::write_all(&mut log.unwrap(), b"d\n").unwrap();
            match lines.next().await {
                Some(line) => seen.push(line.unwrap().text),
                None => break,
            }
        }
        assert_eq!(seen, ["b\n", "c"]);
    }
}
