//! Room for what comes in. Who writes to a full volume asks for some and waits until somebody has tried, so that what may go does,
//! instead of a build that peers wait for; who brings bytes in tells when there is little. Who makes room, and of what, is
//! `collection`'s business; where nobody does, nobody waits.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Store, volume};

/// Who waits for room waits no longer: reading all records of a large store takes seconds, and a peer waits for the build.
const LONGEST: Duration = Duration::from_secs(10);

/// Between those who write and the one who makes room.
#[derive(Default)]
pub(super) struct Pressure {
    state: Mutex<State>,
    eased: Condvar,
    asked: Notify,
}

#[derive(Default)]
struct State {
    /// Somebody makes room when asked.
    is_served: bool,
    is_being_made: bool,
    /// Bytes that could not be written by those who wait.
    wanted: Option<u64>,
    /// How many wait.
    waiting: usize,
    /// How many times somebody has tried to make room.
    attempts: u64,
}

impl Pressure {
    /// Nothing panics while it is locked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that there is little room.
    pub(super) fn hint(&self) {
        self.asked.notify_one();
    }

    /// Asks for room for `bytes`; whether somebody has tried to make it. Blocks.
    fn ask(&self, bytes: u64) -> bool {
        let mut state = self.state();
        if !state.is_served {
            return false;
        }
        state.wanted = Some(state.wanted.unwrap_or_default().max(bytes));
        state.waiting += 1;
        // An attempt that goes on looked before.
        let enough = state.attempts + 1 + u64::from(state.is_being_made);
        self.asked.notify_one();
        let is_open = |state: &mut State| state.is_served && state.attempts < enough;
        let waited = self.eased.wait_timeout_while(state, LONGEST, is_open);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        if state.waiting == 0 {
            // Else something would go later for nobody.
            state.wanted = None;
        }
        state.attempts >= enough
    }
}

/// The one who makes room in a store.
pub struct RoomMaker(Store);

/// Somebody asks for room; dropped when that was tried.
pub struct Asked {
    store: Store,
    bytes: Option<u64>,
}

impl Store {
    /// Who calls this makes room when [`RoomMaker::asked`]; one for each store.
    pub fn makes_room(&self) -> RoomMaker {
        self.0.pressure.state().is_served = true;
        RoomMaker(self.clone())
    }

    /// Does what writes `bytes` to the volume, and once more when that was full and somebody has tried to make room. Blocks, for
    /// ten seconds at the most.
    pub(super) fn with_room<T>(
        &self,
        bytes: u64,
        mut write: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        match self.with_copies_giving_way(bytes, &mut write) {
            // What could be given up of a bucket takes no room here, but copies.
            Err(error) if self.0.bucket.is_none() && volume::is_full(&error) => {
                match self.0.pressure.ask(bytes) {
                    true => write(),
                    false => Err(error),
                }
            }
            written => written,
        }
    }
}

impl RoomMaker {
    /// Ends when there is little room, or none.
    pub async fn asked(&self) -> Asked {
        let pressure = &self.0.0.pressure;
        pressure.state().is_served = true;
        pressure.asked.notified().await;
        let mut state = pressure.state();
        state.is_being_made = true;
        Asked {
            store: self.0.clone(),
            bytes: state.wanted.take(),
        }
    }

    /// Nobody needs to wait for room until [`RoomMaker::asked`] is called again: there is nothing more that may go.
    pub fn rest(&self) {
        let pressure = &self.0.0.pressure;
        pressure.state().is_served = false;
        pressure.eased.notify_all();
    }
}

impl Drop for RoomMaker {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Asked {
    /// What somebody could not write, who waits; `None`: there is little room.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let pressure = &self.store.0.pressure;
        {
            let mut state = pressure.state();
            state.is_being_made = false;
            state.attempts += 1;
        }
        pressure.eased.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume on which there is room at the second time.
    async fn written(store: &Store) -> io::Result<usize> {
        let store = store.clone();
        let mut times = 0;
        let write = move || {
            times += 1;
            match times {
                1 => Err(io::ErrorKind::StorageFull.into()),
                times => Ok(times),
            }
        };
        volume::blocking(move || store.with_room(7, write)).await
    }

    #[tokio::test]
    async fn who_writes_waits_for_who_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let is_full = |written: io::Result<usize>| volume::is_full(&written.unwrap_err());
        assert!(is_full(written(&store).await), "nobody makes room");

        let maker = store.makes_room();
        // Whether the attempt that goes on ends before somebody asks or after it, it is not the one that helps.
        store.0.pressure.hint();
        let hint = maker.asked().await;
        assert_eq!(hint.bytes(), None);
        let (done, asked) = tokio::join!(written(&store), async {
            drop(hint);
            maker.asked().await.bytes()
        });
        assert_eq!((done.unwrap(), asked), (2, Some(7)));

        maker.rest();
        assert!(is_full(written(&store).await), "nothing more may go");
        drop(maker);
        assert!(is_full(written(&store).await), "it is gone");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let maker = store.makes_room();
        let pressure = &store.0.pressure;
        let gave_up = async {
            pressure.asked.notified().await;
            // It waits by now: it told so under the same lock.
            maker.rest();
        };
        let (written, ()) = tokio::join!(written(&store), gave_up);
        assert!(volume::is_full(&written.unwrap_err()));
        pressure.hint();
        assert_eq!(maker.asked().await.bytes(), None);
    }

    #[tokio::test]
    async fn one_attempt_serves_all_who_wait_when_it_begins() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let maker = store.makes_room();
        let mut writers = Vec::new();
        for _ in 0..2 {
            let store = store.clone();
            writers.push(tokio::spawn(async move { written(&store).await }));
            maker.0.0.pressure.asked.notified().await;
        }
        store.0.pressure.hint();
        let asked = maker.asked().await;
        assert_eq!(asked.bytes(), Some(7));
        drop(asked);
        for writer in writers {
            assert_eq!(writer.await.unwrap().unwrap(), 2);
        }
        store.0.pressure.hint();
        assert_eq!(maker.asked().await.bytes(), None);
    }
}
