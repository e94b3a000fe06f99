//! Compiles that fail again and again with what their compiler kept. Whether they fail without it too nobody knows before they ran once so: a tool may
//! have kept that something is not there, and not look for it any more. So from time to time such a one begins with nothing, and when that succeeds,
//! the cache was to blame. Only `breaker` uses it.

use super::remembered::Remembered;
use crate::names::CompileKey;

/// After so many failures with what was kept, one run after the other, the next one begins without.
pub(super) const OFTEN: u32 = 2;

/// How often compiles failed with what was kept since they last ran otherwise. The key of a compile is also that of its source: who mends that has
/// another one.
#[derive(Default)]
pub(super) struct Failing(Remembered<CompileKey, u32>);

impl Failing {
    /// Whether the next run is to begin with nothing.
    pub(super) fn is_doubted(&self, key: &CompileKey) -> bool {
        self.0.change_known(key, |count| *count >= OFTEN) == Some(true)
    }

    /// It failed with what was kept.
    pub(super) fn failed(&self, key: &CompileKey) {
        self.0.change(key, |count| *count += 1);
    }

    /// It succeeded, or failed without: counted is from here on.
    pub(super) fn forget(&self, key: &CompileKey) {
        self.0.forget(key);
    }
}
