//! How a launch ended: one small file, written beside it and renamed into place, so that it is there whole or not at all.
//! Whoever watches the directory sees it come.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::place::Place;

/// The exit code of what was killed.
pub(super) const KILLED: i64 = 137;

/// How a launch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The process ran.
    Exited {
        /// Its exit code, or 128 and the number of the signal that ended it.
        code: i64,
        /// Whether the kernel killed one of its processes for want of memory.
        #[serde(rename = "outOfMemory")]
        out_of_memory: bool,
    },
    /// It never ran: the reason in the words of the runtime.
    NeverStarted {
        /// One line.
        reason: String,
    },
}

impl Ending {
    /// Killed, nobody knows by whom.
    pub(super) const LOST: Self = Self::Exited {
        code: KILLED,
        out_of_memory: false,
    };

    /// Says for all time how the launch at `place` ended.
    pub(super) fn write(&self, place: &Place) -> io::Result<()> {
        let unfinished = place.ending().with_extension("new");
        fs::write(&unfinished, serde_json::to_vec(self)?)?;
        fs::rename(unfinished, place.ending())
    }

    /// How the launch at `place` ended; `None` when it did not, or when a crash of the host left half a file.
    pub(super) fn read(place: &Place) -> io::Result<Option<Self>> {
        match fs::read(place.ending()) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
