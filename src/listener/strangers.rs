//! How many clients a listener holds of whom nothing is known yet: those without a whole request, and without a certificate
//! that was accepted. Anybody can be one who reaches the port, and each costs a descriptor for as long as a handshake or a
//! head may take, so that they must not be as many as they like. `listener` counts each connection here until it is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};
use tokio_util::sync::CancellationToken;

/// How many clients a listener holds at a time of whom nothing is known yet. By default an eighth of the descriptors that this
/// process may have when this is asked for, and at most 4,096: there are four listeners, and those who are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd(usize);

/// The most by default: a handshake under way holds some kilobytes too.
const MOST: usize = 4096;

impl Default for Crowd {
    fn default() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current;
        let share = descriptors.map_or(MOST, |it| usize::try_from(it / 8).unwrap_or(MOST));
        Self::of(share.min(MOST))
    }
}

impl Crowd {
    /// So many, and one at least.
    pub fn of(clients: usize) -> Self {
        Self(clients.max(1))
    }
}

/// Of one listener.
#[derive(Debug)]
pub(super) struct Strangers {
    most: Crowd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    came: u64,
    /// By their order.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// A place among them, until it is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    crowded_out: CancellationToken,
}

/// Whether there was room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    /// The one that came first had to go: a handshake that means it takes a moment, so that it hardly was one.
    Made,
}

/// Whether a client became known before it had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    InTime,
    TooLate,
}

impl Strangers {
    pub(super) fn new(most: Crowd) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    /// Takes another one in.
    pub(super) fn take(self: &Arc<Self>) -> (Stranger, Room) {
        let crowded_out = CancellationToken::new();
        let mut state = self.state();
        let first = match state.waiting.len() < self.most.0 {
            true => None,
            false => state.waiting.pop_first(),
        };
        let number = state.came;
        state.came += 1;
        state.waiting.insert(number, crowded_out.clone());
        if let Some((_, first)) = &first {
            // Under the lock: it is told here, or stays.
            first.cancel();
        }
        drop(state);
        let stranger = Stranger {
            strangers: Arc::clone(self),
            number,
            crowded_out,
        };
        let room = match first {
            None => Room::Enough,
            Some(_) => Room::Made,
        };
        (stranger, room)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// It is none any more, and stays; unless it is told to go already.
    pub(super) fn is_known(&self) -> Known {
        let mut state = self.strangers.state();
        state.waiting.remove(&self.number);
        match self.crowded_out.is_cancelled() {
            true => Known::TooLate,
            false => Known::InTime,
        }
    }

    /// Waits until it has to go for another one.
    pub(super) async fn crowded_out(&self) {
        self.crowded_out.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.is_known();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_first_that_is_still_unknown_goes() {
        let strangers = Arc::new(Strangers::new(Crowd::of(9)));
        let mut all: Vec<_> = (0..9).map(|_| strangers.take()).collect();
        assert!(all.iter().all(|(_, room)| *room == Room::Enough));
        assert_eq!(all[0].0.is_known(), Known::InTime);
        drop(all.remove(1));
        let more: Vec<_> = (0..3).map(|_| strangers.take()).collect();
        let rooms: Vec<_> = more.iter().map(|(_, room)| *room).collect();
        assert_eq!(rooms, [Room::Enough, Room::Enough, Room::Made]);
        let is_out =
            |(stranger, _): &(Stranger, Room)| stranger.crowded_out().now_or_never().is_some();
        let out: Vec<_> = all.iter().chain(&more).map(is_out).collect();
        assert_eq!(out.iter().position(|out| *out), Some(1));
        assert_eq!(out.iter().filter(|out| **out).count(), 1);
        assert_eq!(all[1].0.is_known(), Known::TooLate);
        assert_eq!(all[0].0.is_known(), Known::InTime);
    }
}
