//! A part of the directory that is kept, while it arrives: verified and decompressed on a thread of its own, since writing thousands
//! of files takes as long. `cache` calls it.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Instant;

use lz4_flex::frame::FrameDecoder;

use crate::archive::MAGIC;
use crate::names::{Digest, Hasher};

/// Bytes that pass from one thread to the other at once, and how many of such pieces may wait.
const PIECE: usize = 256 << 10;
const WAITING: usize = 8;

/// Whether the bytes were those that were promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    AsPromised,
    Another,
}

/// Gives what is in `input` to `unpack`, which reads to its end. `input` has `size` bytes with this `digest`; whether that is so is
/// known when all of it has been unpacked.
///
/// # Errors
/// Those of `unpack`.
pub(super) fn read<T, E>(
    input: impl Read + Send,
    size: u64,
    digest: &Digest,
    unpack: impl FnOnce(Arriving) -> Result<T, E>,
) -> Result<(T, Content), E> {
    let (pieces, arriving) = sync_channel(WAITING);
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut counted = Counted::new(input, size);
            let mut magic = [0; MAGIC.len()];
            let begun = counted.read_exact(&mut magic);
            if begun.is_err() || magic != MAGIC {
                let error = begun.err();
                let error = error.unwrap_or_else(|| io::Error::other("it is no part of a cache"));
                let _ = pieces.send(Err(error));
                return Content::Another;
            }
            let mut decoder = FrameDecoder::new(&mut counted);
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = decoder.by_ref().take(PIECE as u64).read_to_end(&mut piece);
                let told = match read {
                    Ok(0) => break,
                    Ok(_) => pieces.send(Ok(piece)),
                    Err(error) => {
                        // Where nobody listens any more, `unpack` has an error of its own.
                        let _ = pieces.send(Err(error));
                        return Content::Another;
                    }
                };
                if told.is_err() {
                    return Content::Another;
                }
            }
            drop(pieces);
            counted.is(digest)
        });
        let unpacked = unpack(Arriving {
            pieces: arriving,
            piece: io::Cursor::default(),
        });
        let content = reading.join().expect("reading does not panic");
        unpacked.map(|unpacked| (unpacked, content))
    })
}

/// What the other thread has decompressed.
pub(super) struct Arriving {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            match self.pieces.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece?),
                Err(_) => return Ok(0),
            }
        }
    }
}

/// Reads until a moment, and no longer: a slow disk, or what unpacks to much, is late like a slow server.
pub(super) struct Timely<R, F> {
    input: R,
    deadline: Instant,
    late: F,
}

impl<R, F> Timely<R, F> {
    /// Tells `late` once the `deadline` is past.
    pub(super) fn new(input: R, deadline: Instant, late: F) -> Self {
        Self {
            input,
            deadline,
            late,
        }
    }
}

impl<R: Read, F: FnMut()> Read for Timely<R, F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            (self.late)();
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.input.read(into)
    }
}

/// Hashes what is read through it, and reads no more than it should be.
struct Counted<R> {
    input: io::Take<R>,
    hasher: Hasher,
    left: u64,
}

impl<R: Read> Counted<R> {
    fn new(input: R, size: u64) -> Self {
        Self {
            // One more, which gives too long ones away.
            input: input.take(size + 1),
            hasher: Hasher::default(),
            left: size,
        }
    }

    /// Whether all of it, to the end, is what has this digest.
    fn is(mut self, digest: &Digest) -> Content {
        let rest = io::copy(&mut self, &mut io::sink());
        match rest.is_ok() && self.left == 0 && self.hasher.finish() == *digest {
            true => Content::AsPromised,
            false => Content::Another,
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.hasher.update(&into[..count]);
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| io::Error::other("longer than it should be"))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(MAGIC.to_vec());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn whole(input: &[u8], size: u64, digest: &Digest) -> io::Result<(Vec<u8>, Content)> {
        read(input, size, digest, |mut arriving| {
            let mut all = Vec::new();
            arriving.read_to_end(&mut all).map(|_| all)
        })
    }

    #[test]
    fn what_is_longer_shorter_or_other_than_promised_is_told() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|it| (it / 7) as u8).collect();
        let archive = packed(&content);
        let (size, digest) = (archive.len() as u64, Digest::of(&archive));
        let sound = whole(&archive, size, &digest).unwrap();
        assert_eq!(sound, (content, Content::AsPromised));
        let mut longer = archive.clone();
        longer.push(0);
        for (input, size, digest) in [
            (&longer, size, digest),
            (&archive, size + 1, digest),
            (&archive, size - 1, digest),
            (&archive, size, Digest::of(b"other")),
        ] {
            let read = whole(input, size, &digest);
            assert!(!matches!(read, Ok((_, Content::AsPromised))));
        }
        assert!(whole(&archive[..archive.len() / 2], size, &digest).is_err());
        let (size, digest) = (
            size - MAGIC.len() as u64,
            Digest::of(&archive[MAGIC.len()..]),
        );
        assert!(whole(&archive[MAGIC.len()..], size, &digest).is_err());
        assert!(whole(b"no archive", 10, &Digest::of(b"no archive")).is_err());
    }

    #[test]
    fn bytes_that_are_always_there_are_late_all_the_same() {
        let mut is_late = false;
        let mut timely = Timely::new(io::repeat(0), Instant::now(), || is_late = true);
        let read = timely.read(&mut [0; 8]);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(is_late);
        let soon = Instant::now() + std::time::Duration::from_secs(600);
        let mut timely = Timely::new(io::repeat(0), soon, || panic!("in time"));
        assert_eq!(timely.read(&mut [0; 8]).unwrap(), 8);
    }

    /// The thread that reads ends too.
    #[test]
    fn who_unpacks_may_give_up() {
        let archive = packed(&vec![0; 64 << 20]);
        let digest = Digest::of(&archive);
        let given_up = read(&archive[..], archive.len() as u64, &digest, |_| {
            Err::<(), _>("enough")
        });
        assert_eq!(given_up, Err("enough"));
    }
}
