//! What is remembered of things that gave trouble, for as long as the process lives. Bounded: beyond that all of it is forgotten, which costs
//! no more than what a restart costs. Only `breaker` uses it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard};

/// So many things are remembered.
const MOST: usize = 1000;

/// A value for each of them.
pub(super) struct Remembered<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, V: Copy + Default> Remembered<K, V> {
    /// What is remembered of `key`, or was not yet, after the `change`.
    pub(super) fn change(&self, key: &K, change: impl FnOnce(&mut V)) -> V {
        let mut all = self.all();
        if all.len() >= MOST && !all.contains_key(key) {
            all.clear();
        }
        let value = all.entry(key.clone()).or_default();
        change(value);
        *value
    }

    /// Changes what is remembered of `key`, where something is; gives what `change` does.
    pub(super) fn change_known<T>(&self, key: &K, change: impl FnOnce(&mut V) -> T) -> Option<T> {
        self.all().get_mut(key).map(change)
    }

    pub(super) fn forget(&self, key: &K) {
        self.all().remove(key);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<K, V>> {
        self.0
            .lock()
            .expect("nothing panics while it holds what is remembered")
    }
}
