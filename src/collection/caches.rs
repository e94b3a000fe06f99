//! Compilers' caches, by use: which of them go. What belongs together goes together: the rest would be of little use, and would be
//! compiled again and kept again.

use std::collections::HashMap;

use futures::TryStreamExt as _;

use super::Old;
use crate::archive::Extent;
use crate::compile::{StoredIncrement, stored_increments};
use crate::names::{Digest, Tenant};
use crate::store::{self, Store};

/// Those that stay, the longest unused first.
pub(super) struct Caches {
    staying: Vec<Cache>,
    now: i64,
}

/// The increments of one tenant and builder.
pub(super) struct Cache {
    pub(super) increments: Vec<StoredIncrement>,
}

impl Cache {
    pub(super) fn size(&self) -> u64 {
        self.increments.iter().map(|it| it.blob.size).sum()
    }

    /// Bytes once the last whole part has taken the place of those before it, as the run does that brought it, or the next one.
    fn lasting(&self) -> u64 {
        let wholes = self.increments.iter();
        let wholes = wholes.filter(|it| it.extent == Extent::Whole);
        let last = wholes.map(|it| it.made).max();
        let lasting = self.increments.iter().filter(|it| Some(it.made) >= last);
        lasting.map(|it| it.blob.size).sum()
    }

    /// When any of it was used last: all of it is used at once.
    fn used(&self) -> i64 {
        let used = self.increments.iter().map(|it| it.place.written).max();
        used.unwrap_or_default()
    }

    fn fits(&self, wiped: &Old, now: i64) -> bool {
        let newest = self.increments.iter().max_by_key(|it| it.place.written);
        newest.is_some_and(|it| wiped.fits(&it.place, now))
    }
}

impl Caches {
    pub(super) async fn read(store: &Store) -> Result<Self, store::Error> {
        let mut caches = HashMap::<(Option<Tenant>, String), Cache>::new();
        let mut stored = std::pin::pin!(stored_increments(store));
        while let Some(increment) = stored.try_next().await? {
            let whose = (increment.place.tenant.clone(), increment.row.clone());
            let cache = caches.entry(whose).or_insert_with(|| Cache {
                increments: Vec::new(),
            });
            cache.increments.push(increment);
        }
        let mut staying: Vec<_> = caches.into_values().collect();
        staying.sort_by_key(Cache::used);
        let now = super::now();
        Ok(Self { staying, now })
    }

    /// By how many bytes they are more than `limit`.
    pub(super) fn excess(&self, limit: u64) -> u64 {
        let all: u64 = self.staying.iter().map(Cache::lasting).sum();
        all.saturating_sub(limit)
    }

    /// Takes out what is more than `limit` bytes.
    pub(super) fn beyond(&mut self, limit: u64) -> Vec<Cache> {
        self.for_room(self.excess(limit))
    }

    /// Takes out what is to be wiped.
    pub(super) fn wiped(&mut self, wiped: &Old) -> Vec<Cache> {
        let now = self.now;
        let is_it = |cache: &mut Cache| cache.fits(wiped, now);
        self.staying.extract_if(.., is_it).collect()
    }

    /// Takes out the longest unused until they have `bytes`. Also what is in use just now: who reads it has it open, or does
    /// without.
    pub(super) fn for_room(&mut self, bytes: u64) -> Vec<Cache> {
        let mut taken = 0;
        let goes = |cache: &&Cache| {
            let goes = taken < bytes;
            taken += cache.size();
            goes
        };
        let count = self.staying.iter().take_while(goes).count();
        self.staying.drain(..count).collect()
    }

    /// What those that stay name.
    pub(super) fn named(&self) -> impl Iterator<Item = Digest> {
        let increments = self.staying.iter().flat_map(|cache| &cache.increments);
        increments.map(|it| it.blob.digest)
    }
}

/// All that `caches` consist of.
pub(super) fn increments(caches: Vec<Cache>) -> Vec<StoredIncrement> {
    let increments = caches.into_iter().flat_map(|cache| cache.increments);
    increments.collect()
}
