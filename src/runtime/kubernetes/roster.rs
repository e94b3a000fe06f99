//! What a watch knows to exist, by UID, together with what was made here and the watch has not shown yet.
//! Pure; `watch` keeps one of pods. It answers the one hard question of a watch: what
//! vanished while it was cut off?

use std::collections::{HashMap, HashSet, VecDeque};

/// How many UIDs of vanished objects are remembered, against replies that come after the end.
const BURIED_KEPT: usize = 512;

/// Objects by UID, each with what is kept of it.
#[derive(Debug)]
pub(super) struct Roster<V> {
    known: HashMap<String, Entry<V>>,
    /// Counts the lists that were begun.
    round: u64,
    /// UIDs seen in the list that is going on.
    listed: HashSet<String>,
    buried: VecDeque<String>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// The list that was going on, or was the last one, when the object came.
    round: u64,
}

impl<V> Default for Roster<V> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            round: 0,
            listed: HashSet::new(),
            buried: VecDeque::new(),
        }
    }
}

impl<V> Roster<V> {
    /// What is kept of `uid`.
    pub(super) fn get(&self, uid: &str) -> Option<&V> {
        self.known.get(uid).map(|entry| &entry.value)
    }

    /// All that is kept.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.known.values().map(|entry| &entry.value)
    }

    /// Whether `uid` existed and is gone.
    pub(super) fn is_buried(&self, uid: &str) -> bool {
        self.buried.iter().any(|buried| buried == uid)
    }

    /// Adds an object: one of a watch, or one just made whose watch event is still to come.
    pub(super) fn insert(&mut self, uid: &str, value: V) {
        let round = self.round;
        self.known.insert(uid.to_owned(), Entry { value, round });
    }

    /// The list that is going on shows `uid`.
    pub(super) fn note_listed(&mut self, uid: &str) {
        self.listed.insert(uid.to_owned());
    }

    /// Takes out `uid`: it is gone.
    pub(super) fn bury(&mut self, uid: &str) -> Option<V> {
        if self.buried.len() >= BURIED_KEPT {
            self.buried.pop_front();
        }
        self.buried.push_back(uid.to_owned());
        self.known.remove(uid).map(|entry| entry.value)
    }

    /// A list begins: the watch starts, or starts again after a gap.
    pub(super) fn begin_list(&mut self) {
        self.round += 1;
        self.listed.clear();
    }

    /// The list ended: gives those that were known before it began and are not in it. What came during the
    /// list may be newer than the list.
    pub(super) fn end_list(&mut self) -> Vec<V> {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<String> = self
            .known
            .iter()
            .filter(|(uid, entry)| entry.round < self.round && !listed.contains(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        gone.iter().filter_map(|uid| self.bury(uid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_after_a_gap_shows_what_vanished_but_not_what_was_just_made() {
        let mut roster = Roster::default();
        roster.begin_list();
        for uid in ["stays", "vanishes"] {
            roster.insert(uid, uid);
            roster.note_listed(uid);
        }
        assert!(roster.end_list().is_empty());

        roster.begin_list();
        roster.note_listed("stays");
        roster.insert("made meanwhile", "made meanwhile");
        assert_eq!(roster.end_list(), ["vanishes"]);
        assert!(roster.is_buried("vanishes") && roster.get("vanishes").is_none());
        assert!(roster.get("stays").is_some() && roster.get("made meanwhile").is_some());

        roster.begin_list();
        roster.note_listed("stays");
        assert_eq!(roster.end_list(), ["made meanwhile"]);
    }

    #[test]
    fn the_memory_of_the_dead_is_bounded() {
        let mut roster: Roster<()> = Roster::default();
        for n in 0..2 * BURIED_KEPT {
            roster.bury(&n.to_string());
        }
        assert_eq!(roster.buried.len(), BURIED_KEPT);
    }
}
