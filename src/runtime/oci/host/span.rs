//! When a launch began and ended, as its files tell: the order is written just before the shim starts, the ending as soon as
//! the process is over. For people who look; [`super`] hands it out.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::place::Place;

/// The life of a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// When its start was ordered.
    pub started: Option<Timestamp>,
    /// When it was over.
    pub finished: Option<Timestamp>,
    /// Its first process, as this machine counts, while there is one.
    pub pid: Option<i32>,
}

impl Span {
    pub(super) fn of(place: &Place) -> Self {
        let pid = fs::read_to_string(place.pid()).ok();
        Self {
            started: modified(&place.order()),
            finished: modified(&place.ending()),
            pid: pid.and_then(|text| text.trim().parse().ok()),
        }
    }
}

fn modified(path: &Path) -> Option<Timestamp> {
    let modified = fs::metadata(path).and_then(|found| found.modified()).ok()?;
    Timestamp::try_from(modified).ok()
}
