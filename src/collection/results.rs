//! Results of compiles, by use: which of them go.

use std::time::Duration;

use futures::TryStreamExt as _;

use super::Old;
use crate::compile::{self, StoredResult, USE_IS_NOTED};
use crate::names::Digest;
use crate::store::{self, Store};

/// Those that stay, the longest unused first.
pub(super) struct Results {
    staying: Vec<StoredResult>,
    now: i64,
}

impl Results {
    pub(super) async fn read(store: &Store) -> Result<Self, store::Error> {
        let mut staying: Vec<_> = compile::stored(store).try_collect().await?;
        staying.sort_by_key(|result| result.place.written);
        let now = super::now();
        Ok(Self { staying, now })
    }

    /// Takes out what is more than `limit` bytes. Blobs that two results share are counted for each.
    pub(super) fn beyond(&mut self, limit: u64) -> Vec<StoredResult> {
        let all: u64 = self.staying.iter().map(StoredResult::size).sum();
        self.oldest(all.saturating_sub(limit), Duration::ZERO)
    }

    /// Takes out those whose record is damaged.
    pub(super) fn damaged(&mut self) -> Vec<StoredResult> {
        let damaged = self.staying.extract_if(.., |it| it.is_damaged());
        damaged.collect()
    }

    /// Takes out what has not been used for some time.
    pub(super) fn unused(&mut self, unused: &Old) -> Vec<StoredResult> {
        let now = self.now;
        let is_it = |result: &mut StoredResult| unused.fits(&result.place, now);
        self.staying.extract_if(.., is_it).collect()
    }

    /// Takes out enough for `bytes`, sparing those that somebody may have been served a moment ago.
    pub(super) fn for_room(&mut self, bytes: u64) -> Vec<StoredResult> {
        // A use is noted so late at the most; the second time is for who was served then.
        self.oldest(bytes, 2 * USE_IS_NOTED)
    }

    /// Takes out the longest unused until they have `bytes`, of those that are `at_least` so old.
    fn oldest(&mut self, bytes: u64, at_least: Duration) -> Vec<StoredResult> {
        let mut taken = 0;
        let count = (self.staying.iter())
            .take_while(|result| {
                let goes = taken < bytes && age(self.now, result) >= at_least;
                taken += result.size();
                goes
            })
            .count();
        self.staying.drain(..count).collect()
    }

    /// What those that stay name.
    pub(super) fn named(&self) -> impl Iterator<Item = Digest> {
        let blobs = self.staying.iter().flat_map(|result| &result.blobs);
        blobs.map(|blob| blob.digest)
    }
}

/// How long ago it was used. None at all for what another clock dated into the future.
fn age(now: i64, result: &StoredResult) -> Duration {
    let seconds = now.saturating_sub(result.place.written);
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
