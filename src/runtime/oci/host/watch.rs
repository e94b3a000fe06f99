//! One inotify instance that sees all launches: the output that grows, the ending that appears, the lock that is let go. It
//! needs no process to be a child of this one and loses nothing in a restart, and nobody polls. [`super`] owns it.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use futures::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

use super::place::{Id, Place};

/// What the kernel's events are read into: some hundreds of them.
const BUFFER: usize = 16 * 1024;

/// What happened to a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A log file grew.
    Output(Id),
    /// Its ending is there.
    Ended(Id),
    /// Its shim is gone, or one that looked at its lock.
    Free(Id),
    /// Anything may have happened to any: the kernel's queue was full.
    Overflow,
}

/// The watch: what is looked at.
pub(super) struct Watch {
    watches: Watches,
    /// Which launch a watch of the kernel belongs to.
    launches: Mutex<HashMap<WatchDescriptor, Id>>,
}

/// What the watch sees, for one to read.
pub(super) type Sight = EventStream<Vec<u8>>;

impl Watch {
    pub(super) fn new() -> io::Result<(Self, Sight)> {
        let sight = Inotify::init()?.into_event_stream(vec![0; BUFFER])?;
        let watch = Self {
            watches: sight.watches(),
            launches: Mutex::default(),
        };
        Ok((watch, sight))
    }

    /// Sees what happens at `place` from now on, until it is removed.
    pub(super) fn add(&self, id: &Id, place: &Place) -> io::Result<()> {
        let mask =
            WatchMask::MODIFY | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::ONLYDIR;
        let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = self.watches.clone().add(place.path(), mask)?;
        launches.insert(watch, id.clone());
        Ok(())
    }

    /// The next event that matters.
    pub(super) async fn next(&self, sight: &mut Sight) -> io::Result<Event> {
        loop {
            let event = match sight.next().await {
                Some(event) => event?,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            let kind = event.mask;
            if kind.contains(EventMask::Q_OVERFLOW) {
                return Ok(Event::Overflow);
            }
            let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
            if kind.contains(EventMask::IGNORED) {
                launches.remove(&event.wd);
                continue;
            }
            let Some(id) = launches.get(&event.wd).cloned() else {
                continue;
            };
            let name = event.name.unwrap_or_default();
            let name = name.to_str().unwrap_or_default();
            if kind.contains(EventMask::MODIFY) && name.starts_with(Place::LOG) {
                return Ok(Event::Output(id));
            } else if kind.contains(EventMask::MOVED_TO) && name == Place::ENDING {
                return Ok(Event::Ended(id));
            } else if kind.contains(EventMask::CLOSE_WRITE) && name == Place::LOCK {
                return Ok(Event::Free(id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::super::output::Output;
    use super::*;

    #[tokio::test]
    async fn output_wakes_by_its_own_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::at(directory.path().to_owned());
        let mut output = Output::create(place.clone()).unwrap();
        let (watch, mut sight) = Watch::new().unwrap();
        watch.add(&"a".parse().unwrap(), &place).unwrap();
        for _ in 0..20 {
            output.append(b"piece");
        }
        // Many changes of one file are one event until it is read.
        let event = sight.next().await.unwrap().unwrap();
        assert_eq!(event.name.as_deref(), Some("log.0".as_ref()));
        assert!(sight.next().now_or_never().is_none());
    }
}
