//! When which byte of a container's output was written: for each file of the output one of *moments*, of sixteen bytes
//! each. The shim adds one for each piece that it reads of the process, before the piece; [`super::lines`] looks them up.
//! The output itself stays as the process wrote it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use jiff::Timestamp;

use super::place::Place;

/// The first byte of a piece, and nanoseconds since the Unix epoch; both little-endian.
const MOMENT: usize = 16;

/// Where the shim notes moments.
pub(super) struct Moments {
    file: File,
    length: u64,
}

impl Moments {
    /// Those of the output file whose first byte is `start`.
    pub(super) fn create(place: &Place, start: u64) -> io::Result<Self> {
        let directory = DirBuilder::new().mode(0o700).create(place.all_moments());
        if let Err(error) = directory
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(place.moments(start))?;
        Ok(Self { file, length: 0 })
    }

    /// How many bytes they are.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Notes that the bytes from `offset` on are written now. A disk that does not take it costs the time of a line.
    pub(super) fn note(&mut self, offset: u64) {
        let nanos = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let mut moment = [0; MOMENT];
        moment[..8].copy_from_slice(&offset.to_le_bytes());
        moment[8..].copy_from_slice(&nanos.to_le_bytes());
        match self.file.write(&moment) {
            Ok(MOMENT) => self.length += MOMENT as u64,
            Ok(0) | Err(_) => {}
            // Half a moment would put all later ones out of step.
            Ok(_) => drop(self.file.set_len(self.length)),
        }
    }
}

/// The moments of one output file, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Known {
    start: Option<u64>,
    moments: Vec<(u64, i64)>,
}

impl Known {
    /// Reads what is there now for the output file whose first byte is `start`.
    pub(super) fn load(&mut self, place: &Place, start: u64) {
        if self.start != Some(start) {
            *self = Self {
                start: Some(start),
                moments: Vec::new(),
            };
        }
        let mut bytes = Vec::new();
        let known = (self.moments.len() * MOMENT) as u64;
        let read = File::open(place.moments(start)).and_then(|mut file| {
            file.seek(SeekFrom::Start(known))?;
            file.read_to_end(&mut bytes)
        });
        // Where there are none, lines have no time.
        if read.is_ok() {
            self.moments
                .extend(bytes.chunks_exact(MOMENT).filter_map(moment));
        }
    }

    /// When the byte `offset` was written.
    pub(super) fn time(&self, offset: u64) -> Option<Timestamp> {
        let after = self.moments.partition_point(|(first, _)| *first <= offset);
        let (_, nanos) = self.moments.get(after.checked_sub(1)?)?;
        Timestamp::from_nanosecond((*nanos).into()).ok()
    }
}

fn moment(moment: &[u8]) -> Option<(u64, i64)> {
    let (offset, nanos) = moment.split_first_chunk()?;
    Some((
        u64::from_le_bytes(*offset),
        i64::from_le_bytes(nanos.try_into().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_has_the_time_of_its_piece() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::at(directory.path().to_owned());
        let mut moments = Moments::create(&place, 100).unwrap();
        let before = Timestamp::now();
        moments.note(100);
        moments.note(120);
        let mut known = Known::default();
        known.load(&place, 100);
        let first = known.time(119).unwrap();
        let second = known.time(120).unwrap();
        assert!(before <= first && first <= second && second <= Timestamp::now());
        assert_eq!(known.time(99), None);
        moments.note(150);
        known.load(&place, 100);
        assert!(known.time(200).unwrap() >= second);
        known.load(&place, 0);
        assert_eq!(known.time(200), None, "an output without moments");
    }
}
