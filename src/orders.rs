//! Orders for one thing, one after the other: `create`, files, `start`, `stop`, `remove` of a container in `runtime`, the last step
//! of builds of one name in `image`. Those of this process do not overtake each other; between processes this says nothing.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// A lock per key; keys that nobody holds or waits for cost nothing.
#[derive(Debug)]
pub struct Orders<K> {
    locks: Mutex<HashMap<K, Weak<AsyncMutex<()>>>>,
}

impl<K> Default for Orders<K> {
    fn default() -> Self {
        Self {
            locks: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq + Clone> Orders<K> {
    /// Waits for one's turn; it lasts until the guard is dropped. Not to be held for the life of a process.
    pub async fn turn(&self, key: &K) -> OwnedMutexGuard<()> {
        let lock = self.lock(key);
        lock.lock_owned().await
    }

    fn lock(&self, key: &K) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_key_waits_and_another_does_not() {
        let orders = Orders::default();
        let first = orders.turn(&"a").await;
        assert!(orders.turn(&"a").now_or_never().is_none());
        assert!(orders.turn(&"b").now_or_never().is_some());
        drop(first);
        assert!(orders.turn(&"a").now_or_never().is_some());
    }

    #[tokio::test]
    async fn keys_without_orders_are_forgotten() {
        let orders = Orders::default();
        for key in 0..100 {
            drop(orders.turn(&key).await);
        }
        assert!(orders.locks.lock().unwrap().len() <= 1);
    }
}
