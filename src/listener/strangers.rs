//! How many clients a listener holds of whom nothing is known yet: those without a whole request, and without a certificate
//! that was accepted. Anybody can be one who reaches the port, and each costs a descriptor for as long as a handshake or a
//! head may take, so that they must not be as many as they like. `listener` counts each connection here until it is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// So many at a time: some times the peers of a network that all connect at once, and a quarter of the descriptors that a process
/// has where nobody gives it more.
pub(super) const STRANGERS: usize = 256;

/// Of one listener.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<State>);

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
    /// The one that came first has to go: a handshake that means it takes a moment, so that it hardly is one.
    Made,
}

impl Strangers {
    /// Takes another one in.
    pub(super) fn take(self: &Arc<Self>) -> (Stranger, Room) {
        let crowded_out = CancellationToken::new();
        let mut state = self.state();
        let first = match state.waiting.len() < STRANGERS {
            true => None,
            false => state.waiting.pop_first(),
        };
        let number = state.came;
        state.came += 1;
        state.waiting.insert(number, crowded_out.clone());
        drop(state);
        let stranger = Stranger {
            strangers: Arc::clone(self),
            number,
            crowded_out,
        };
        let Some((_, first)) = first else {
            return (stranger, Room::Enough);
        };
        first.cancel();
        (stranger, Room::Made)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// It is none any more, and stays.
    pub(super) fn is_known(&self) {
        self.strangers.state().waiting.remove(&self.number);
    }

    /// Waits until it has to go for another one.
    pub(super) async fn crowded_out(&self) {
        self.crowded_out.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.is_known();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_first_that_is_still_unknown_goes() {
        let strangers = Arc::new(Strangers::default());
        let mut all: Vec<_> = (0..STRANGERS).map(|_| strangers.take()).collect();
        assert!(all.iter().all(|(_, room)| *room == Room::Enough));
        all[0].0.is_known();
        drop(all.remove(1));
        let more: Vec<_> = (0..3).map(|_| strangers.take()).collect();
        let rooms: Vec<_> = more.iter().map(|(_, room)| *room).collect();
        assert_eq!(rooms, [Room::Enough, Room::Enough, Room::Made]);
        let is_out =
            |(stranger, _): &(Stranger, Room)| stranger.crowded_out().now_or_never().is_some();
        let out: Vec<_> = all.iter().chain(&more).map(is_out).collect();
        assert_eq!(out.iter().position(|out| *out), Some(1));
        assert_eq!(out.iter().filter(|out| **out).count(), 1);
    }
}
