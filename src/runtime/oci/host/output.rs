//! What a container prints, on its way to the disk: files of bounded size, of which the newest are kept. The name of each
//! says which byte of the output is its first, so a reader needs nothing else to go on. The shim writes, [`super::logs`]
//! reads; neither ever waits for the other.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use super::moments::Moments;
use super::place::Place;

/// The size from which on a file gets no more.
pub(super) const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// How many files are kept.
pub(super) const FILES: usize = 5;

/// The output of one container.
pub(super) struct Output {
    place: Place,
    file: File,
    /// When what in `file` was written.
    moments: Moments,
    /// How many bytes are in `file`.
    length: u64,
    /// The first bytes of all files, the newest last.
    starts: VecDeque<u64>,
    /// How many bytes the disk did not take since it last took any.
    lost: u64,
}

impl Output {
    /// An empty one.
    pub(super) fn create(place: Place) -> io::Result<Self> {
        Ok(Self {
            file: open(&place, 0)?,
            moments: Moments::create(&place, 0)?,
            place,
            length: 0,
            starts: VecDeque::from([0]),
            lost: 0,
        })
    }

    /// Adds `bytes`. A disk that takes no more must not stop the container: what does not fit is counted and told in the
    /// output itself once there is room.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.lost > 0 {
            let note = format!(
                "\npeitho: {} bytes of output are left out: the disk did not take them\n",
                self.lost
            );
            if self.write(note.as_bytes()).is_ok() {
                self.lost = 0;
            }
        }
        if self.lost > 0 || self.write(bytes).is_err() {
            self.lost += bytes.len() as u64;
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        // One byte at a time, the moments would be the larger file.
        if self.length.max(self.moments.length()) >= FILE_BYTES {
            self.rotate()?;
        }
        // Before the bytes: who sees them finds when they came.
        self.moments.note(self.newest() + self.length);
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.length += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The first byte of the newest file.
    fn newest(&self) -> u64 {
        self.starts.back().copied().unwrap_or(0)
    }

    fn rotate(&mut self) -> io::Result<()> {
        // The oldest first: on a full disk that makes the room.
        while self.starts.len() >= FILES {
            let oldest = self.starts.pop_front();
            if let Some(start) = oldest {
                let _ = fs::remove_file(self.place.moments(start));
                fs::remove_file(self.place.log(start))?;
            }
        }
        let start = self.newest() + self.length;
        self.file = open(&self.place, start)?;
        self.moments = Moments::create(&self.place, start)?;
        self.starts.push_back(start);
        self.length = 0;
        Ok(())
    }
}

fn open(place: &Place, start: u64) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(place.log(start))
}
