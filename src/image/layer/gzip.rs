//! gzip in pieces that are compressed side by side: compressing takes most of the time of a build, while its peer waits and the machine has
//! nothing else to do. What comes out depends on the bytes alone, not on how many threads there are or how the bytes were written: each
//! piece has the same length and knows the end of the one before, as in one stream. `layer` calls it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// How far back a piece may refer: the window of deflate.
const WINDOW: usize = 32 << 10;
/// Threads that compress one layer, where processors are free: each needs about a megabyte, and four builds at once are to stay within 64.
const MOST_WORKERS: usize = 4;
/// Threads that compress beside the first one of each layer, of all layers together.
static HELPING: AtomicUsize = AtomicUsize::new(0);
/// RFC 1952, 2.3: no name, no time, compressed as fast as possible, on no system that is known.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// Compresses what `write` writes into `to`; gives `to` back with what `write` gives.
///
/// # Errors
/// Those of `write` and of `to`.
pub(super) fn compressed<W, T>(
    to: W,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<(T, W)>
where
    W: Write + Send,
{
    let helpers: Vec<Helper> = (1..MOST_WORKERS).map_while(|_| Helper::free()).collect();
    let (jobs, taken) = sync_channel(helpers.len() + 1);
    let (order, coming) = sync_channel(helpers.len() + 1);
    let taken = Mutex::new(taken);
    let (written, collected) = thread::scope(|scope| {
        let named = || Builder::new().name("gzip".to_owned());
        let collecting = named().spawn_scoped(scope, move || collect(to, &coming))?;
        named().spawn_scoped(scope, || work(&taken))?;
        for helper in helpers {
            let taken = &taken;
            let helping = named().spawn_scoped(scope, move || {
                work(taken);
                drop(helper);
            });
            // Where the system has no more threads there are fewer.
            if helping.is_err() {
                break;
            }
        }
        let mut pieces = Pieces {
            plain: Vec::with_capacity(PIECE),
            before: Vec::new(),
            crc: Crc::new(),
            jobs,
            order,
        };
        let written = write(&mut pieces).and_then(|given| Ok((given, pieces.finish()?)));
        let collected = collecting.join().expect("writing to `to` does not panic");
        io::Result::Ok((written, collected))
    })?;
    // Where nobody collects any more, why is more than that.
    let mut to = collected?;
    let (given, crc) = written?;
    to.write_all(&crc.sum().to_le_bytes())?;
    to.write_all(&crc.amount().to_le_bytes())?;
    Ok((given, to))
}

/// A processor that seemed free.
struct Helper;

impl Helper {
    fn free() -> Option<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let more = |helping| (helping + 1 < processors).then_some(helping + 1);
        let taken = HELPING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Self)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        HELPING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A piece, and where it is waited for once it is compressed.
struct Job {
    /// The end of what comes before it.
    before: Vec<u8>,
    plain: Vec<u8>,
    /// How it ends.
    flush: FlushCompress,
    done: SyncSender<io::Result<Vec<u8>>>,
}

/// What is written, cut into pieces.
struct Pieces {
    plain: Vec<u8>,
    before: Vec<u8>,
    /// Of all bytes so far.
    crc: Crc,
    jobs: SyncSender<Job>,
    /// The pieces in their order, each of which comes when it is compressed.
    order: SyncSender<Receiver<io::Result<Vec<u8>>>>,
}

impl Pieces {
    fn pass_on(&mut self, flush: FlushCompress) -> io::Result<()> {
        let plain = std::mem::replace(&mut self.plain, Vec::with_capacity(PIECE));
        let end = plain[plain.len().saturating_sub(WINDOW)..].to_vec();
        let (done, coming) = sync_channel(1);
        let job = Job {
            before: std::mem::replace(&mut self.before, end),
            plain,
            flush,
            done,
        };
        let is_given_up = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        (self.order.send(coming)).map_err(|_| is_given_up(()))?;
        self.jobs.send(job).map_err(|_| is_given_up(()))
    }

    fn finish(mut self) -> io::Result<Crc> {
        self.pass_on(FlushCompress::Finish)?;
        Ok(self.crc)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The last piece is the one that is not full when all is written.
        if self.plain.len() == PIECE {
            self.pass_on(FlushCompress::Sync)?;
        }
        let bytes = &bytes[..bytes.len().min(PIECE - self.plain.len())];
        self.crc.update(bytes);
        self.plain.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses one piece after the other, until there are no more.
fn work(jobs: &Mutex<Receiver<Job>>) {
    let mut deflate = Compress::new(Compression::fast(), false);
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else {
            return;
        };
        // Who waited may have given up.
        let _ = job.done.send(compress(&mut deflate, &job));
    }
}

fn compress(deflate: &mut Compress, job: &Job) -> io::Result<Vec<u8>> {
    deflate.reset();
    if !job.before.is_empty() {
        deflate
            .set_dictionary(&job.before)
            .map_err(io::Error::other)?;
    }
    // What cannot be compressed becomes a sixteenth longer; pages that are not touched cost nothing.
    let mut packed = Vec::with_capacity(PIECE + PIECE / 8);
    loop {
        let consumed = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
        let status = deflate
            .compress_vec(&job.plain[consumed..], &mut packed, job.flush)
            .map_err(io::Error::other)?;
        let is_whole = match job.flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            // zlib.h: a flush is complete when it leaves room.
            _ => packed.len() < packed.capacity(),
        };
        if is_whole {
            return Ok(packed);
        }
        packed.reserve(PIECE / 4);
    }
}

/// Writes the pieces in their order.
fn collect<W: Write>(mut to: W, coming: &Receiver<Receiver<io::Result<Vec<u8>>>>) -> io::Result<W> {
    to.write_all(&HEAD)?;
    for piece in coming {
        let packed = piece.recv();
        to.write_all(&packed.map_err(io::Error::other)??)?;
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::names::Digest;

    /// Bytes that can be compressed, though not at a glance.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut bytes = Vec::with_capacity(length + 64);
        while bytes.len() < length {
            let word = [next() & 15, next() & 3, 0, next()];
            bytes.extend(word.repeat(usize::from(next() & 7)));
        }
        bytes.truncate(length);
        bytes
    }

    fn packed(plain: &[u8], step: usize) -> Vec<u8> {
        let write = |to: &mut dyn Write| plain.chunks(step).try_for_each(|it| to.write_all(it));
        compressed(Vec::new(), write).unwrap().1
    }

    #[test]
    fn what_comes_out_is_what_went_in_however_it_was_written() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7] {
            let plain = sample(length);
            let whole = packed(&plain, length.max(1));
            assert_eq!(whole, packed(&plain, 1_000), "{length}");
            let mut read = Vec::new();
            let mut decoder = GzDecoder::new(&whole[..]);
            decoder.read_to_end(&mut read).unwrap();
            assert!(read == plain, "{length}");
            assert!(decoder.into_inner().is_empty(), "{length}");
        }
    }

    /// What repeats at such a distance would be literal at the beginning of each piece that does not know what was before it.
    #[test]
    fn a_piece_refers_to_the_one_before() {
        let once: Vec<u8> = (0_u64..)
            .flat_map(|it| Digest::of(&it.to_le_bytes()).hex().into_bytes())
            .take(WINDOW - 1_024)
            .collect();
        let plain = once.repeat(4 * PIECE / once.len());
        let alone: usize = plain.chunks(PIECE).map(|it| packed(it, PIECE).len()).sum();
        let together = packed(&plain, PIECE).len();
        assert!(together < alone / 4 * 3, "{together} {alone}");
    }

    #[test]
    fn who_writes_and_who_takes_it_may_fail() {
        let failed = compressed(Vec::new(), |to| {
            to.write_all(&sample(3 * PIECE))?;
            Err::<(), _>(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");

        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let left = self.0.checked_sub(bytes.len());
                self.0 = left.ok_or_else(|| io::Error::other("full"))?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let full = compressed(Full(PIECE), |to| to.write_all(&sample(40 * PIECE)));
        assert_eq!(full.err().unwrap().to_string(), "full");
    }
}
