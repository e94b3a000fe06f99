//! Compiles that fail again and again with what their compiler kept. Whether they fail without it too nobody knows before they ran once so: a tool may
//! have kept that something is not there, and not look for it any more. So from time to time such a one begins with nothing, and when that succeeds,
//! the cache was to blame. Only `breaker` uses it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::names::CompileKey;

/// After so many failures with what was kept, one run after the other, the next one begins without.
pub(super) const OFTEN: u32 = 2;

/// So many compiles that failed are remembered; all of them are forgotten beyond.
const REMEMBERED: usize = 1000;

/// How often compiles failed with what was kept since they last ran otherwise, for as long as the process lives. The key of a compile is
/// also that of its source: who mends that has another one.
#[derive(Default)]
pub(super) struct Failing(Mutex<HashMap<CompileKey, u32>>);

impl Failing {
    /// Whether the next run is to begin with nothing.
    pub(super) fn is_doubted(&self, key: &CompileKey) -> bool {
        self.all().get(key).is_some_and(|count| *count >= OFTEN)
    }

    /// It failed with what was kept.
    pub(super) fn failed(&self, key: &CompileKey) {
        let mut all = self.all();
        if all.len() >= REMEMBERED && !all.contains_key(key) {
            all.clear();
        }
        *all.entry(*key).or_default() += 1;
    }

    /// It succeeded, or failed without: counted is from here on.
    pub(super) fn forget(&self, key: &CompileKey) {
        self.all().remove(key);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<CompileKey, u32>> {
        self.0
            .lock()
            .expect("nothing panics while it holds what is remembered of compiles")
    }
}
