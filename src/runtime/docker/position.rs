//! How far the output of a container was read, so that another stream goes on exactly there. A stream may break, and
//! the end of one that goes along with the process may lack what was written last. Pure; `logs` reads.
//!
//! The engine can be asked for what was written since a second, not since an entry; entries of the two outputs of one
//! process may be out of order by a little. So entries are counted by their second: what another stream brings first,
//! and how much of it, is known already.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes};

/// How far the order of entries and that of their times may be apart, in seconds.
const APART: i64 = 1;
/// Seconds whose entries are counted.
const COUNTED: usize = 8;

/// How far was read.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// How many entries of each second were handed on.
    counts: BTreeMap<i64, u64>,
    /// How many entries of the present stream are known.
    known: u64,
    /// The last time that was read, and its second: most entries share it with the one before.
    last: (Bytes, i64),
}

impl Position {
    /// A new stream begins. The second since which it is to bring entries: not before `started`, the second in which the
    /// process was started.
    pub(super) fn begin(&mut self, started: i64) -> i64 {
        let latest = self.counts.last_key_value().map(|(second, _)| *second);
        let since = latest.map_or(started, |latest| (latest - APART).max(started));
        self.known = self.counts.range(since..).map(|(_, count)| *count).sum();
        since
    }

    /// What of `entry`, which has its time before it, is new.
    pub(super) fn take(&mut self, mut entry: Bytes) -> Option<Bytes> {
        let end = entry.iter().take(64).position(|byte| *byte == b' ');
        let second = end.and_then(|end| self.second(&entry.slice(..end)));
        let (Some(end), Some(second)) = (end, second) else {
            // No time, as nothing that is to be had by an entry: it is handed on as it is.
            return Some(entry);
        };
        if self.known > 0 {
            self.known -= 1;
            return None;
        }
        *self.counts.entry(second).or_default() += 1;
        if self.counts.len() > COUNTED {
            self.counts.pop_first();
        }
        entry.advance(end + 1);
        Some(entry)
    }

    fn second(&mut self, time: &Bytes) -> Option<i64> {
        /// `2026-01-01T00:00:00`
        const TO_SECONDS: usize = 19;
        let prefix = time.get(..TO_SECONDS)?;
        if self.last.0 != prefix {
            let time: jiff::Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
            self.last = (Bytes::copy_from_slice(prefix), time.as_second());
        }
        Some(self.last.1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(second: i64, nano: u32, text: &str) -> Bytes {
        let time = jiff::Timestamp::new(second, 0).unwrap().to_string();
        let time = time.trim_end_matches('Z');
        Bytes::from(format!("{time}.{nano:09}Z {text}"))
    }

    /// What the engine brings since a second, and what is taken of it.
    fn read(position: &mut Position, all: &[(i64, String)], until: usize) -> String {
        let since = position.begin(1_800_000_000);
        let mut text = String::new();
        for (second, line) in &all[..until] {
            if *second >= since
                && let Some(new) = position.take(entry(*second, 7, line))
            {
                text.push_str(std::str::from_utf8(&new).unwrap());
            }
        }
        text
    }

    proptest! {
        #[test]
        fn streams_that_break_anywhere_bring_everything_once(
            steps in prop::collection::vec((0_i64..3, any::<bool>()), 1..60),
            breaks in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut second = 1_800_000_000;
            let all: Vec<(i64, String)> = steps
                .iter()
                .enumerate()
                .map(|(number, (later, early))| {
                    second += later;
                    // An entry may be written a little after one of a later time.
                    let time = if *early && number > 0 { (second - 1).max(1_800_000_000) } else { second };
                    (time, format!("{number}\n"))
                })
                .collect();
            let mut breaks: Vec<usize> = breaks.iter().map(|at| at.index(all.len() + 1)).collect();
            breaks.sort_unstable();
            breaks.push(all.len());
            let mut position = Position::default();
            let text: String = breaks.iter().map(|until| read(&mut position, &all, *until)).collect();
            let expected: String = all.iter().map(|(_, line)| line.as_str()).collect();
            prop_assert_eq!(text, expected);
        }
    }

    #[test]
    fn the_time_is_taken_away_and_nothing_else() {
        let mut position = Position::default();
        assert_eq!(position.begin(5), 5);
        let taken = position.take(entry(1_800_000_000, 0, " a b\n")).unwrap();
        assert_eq!(taken, " a b\n");
        assert_eq!(position.take(Bytes::from("no time")).unwrap(), "no time");
        assert_eq!(position.begin(5), 1_799_999_999);
    }
}
