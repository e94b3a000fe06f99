//! How full the volume is. Who makes room when it is nearly full is asked by `pressure`.

use std::path::Path;

use super::{Error, Store, volume};

/// The store asks for room when less than this part of its volume is free: a twentieth.
const LITTLE: u64 = 20;
/// Room is made until this part is free: a tenth.
const ENOUGH: u64 = 10;

/// Bytes of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free for this process.
    pub free: u64,
    /// Altogether.
    pub size: u64,
}

impl Room {
    /// Of the volume that `directory` is on.
    pub(super) fn of(directory: &Path) -> std::io::Result<Self> {
        let found = rustix::fs::statvfs(directory)?;
        Ok(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            size: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// Whether room should be made.
    pub fn is_little(&self) -> bool {
        self.free < self.size / LITTLE
    }

    /// How many bytes should go.
    pub fn wanting(&self) -> u64 {
        (self.size / ENOUGH).saturating_sub(self.free)
    }
}

impl Store {
    /// The room on the store's volume.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn room(&self) -> Result<Room, Error> {
        let directory = self.0.directory.clone();
        let found = volume::blocking(move || Room::of(&directory)).await;
        found.map_err(|e| {
            let directory = &self.0.directory;
            Error::of(directory, "measuring", directory, 0, e)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_from_a_twentieth_to_a_tenth() {
        for (free, is_little, wanting) in [
            (50, false, 50),
            (49, true, 51),
            (0, true, 100),
            (100, false, 0),
        ] {
            let room = Room { free, size: 1000 };
            assert_eq!((room.is_little(), room.wanting()), (is_little, wanting));
        }
    }
}
