//! How often a listener speaks of clients that it turns away: such a line is written before anybody is known, so that a
//! stranger must not be able to fill the log. `listener` asks before each of them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many lines in each [`WINDOW`]: a peer tries again every few seconds, and a network has some dozens of them.
const LINES: u32 = 30;

const WINDOW: Duration = Duration::from_secs(60);

/// So many addresses are remembered as told; more of them, and all may be told again.
const REMEMBERED: usize = 1024;

/// Of one listener.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    lines: u32,
    untold: u64,
    told: HashSet<IpAddr>,
}

impl Notices {
    /// Whether a line may be written now, and how many were not since the last one.
    pub(super) fn admit(&self) -> Option<u64> {
        self.state().admit(Instant::now())
    }

    /// The same for a line that one client gets once.
    pub(super) fn admit_once(&self, client: Option<IpAddr>) -> Option<u64> {
        let mut state = self.state();
        if client.is_some_and(|client| state.told.contains(&client)) {
            return None;
        }
        let admitted = state.admit(Instant::now());
        if let (Some(client), Some(_)) = (client, admitted) {
            if state.told.len() >= REMEMBERED {
                state.told.clear();
            }
            state.told.insert(client);
        }
        admitted
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now - began >= WINDOW) {
            self.began = Some(now);
            self.lines = 0;
        }
        if self.lines >= LINES {
            self.untold += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_so_many_lines_and_the_next_one_counts_the_rest() {
        let (mut state, now) = (State::default(), Instant::now());
        let admitted = (0..LINES + 7).filter_map(|_| state.admit(now));
        assert_eq!(admitted.count() as u32, LINES);
        assert_eq!(state.admit(now + WINDOW), Some(7));
        assert_eq!(state.admit(now + WINDOW), Some(0));
    }

    #[test]
    fn a_client_is_told_once() {
        let notices = Notices::default();
        let client = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        assert_eq!(notices.admit_once(client(1)), Some(0));
        assert_eq!(notices.admit_once(client(1)), None);
        assert_eq!(notices.admit_once(client(2)), Some(0));
        // Who comes when too many are told is told later.
        while notices.admit().is_some() {}
        assert_eq!(notices.admit_once(client(3)), None);
        assert!(!notices.state().told.contains(&client(3).unwrap()));
    }
}
