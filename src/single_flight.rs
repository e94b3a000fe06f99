//! Work that is done once for all who want it at the same time: a pull, an unpacking. `registry` and `runtime`
//! use it; it knows nothing of what is done. It remembers nothing: who asks after the end starts anew.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};

type Flight<V> = Shared<BoxFuture<'static, V>>;

/// Work in progress, by key.
pub struct SingleFlight<K, V: Clone>(Mutex<HashMap<K, WeakShared<BoxFuture<'static, V>>>>);

impl<K, V: Clone> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone + Send + Sync + 'static> SingleFlight<K, V> {
    /// The result of `work`, or of the same work for `key` that somebody began already.
    ///
    /// The work belongs to all who wait for it: it goes on while one is left, and is dropped with the last.
    pub async fn run<F>(&self, key: K, work: impl FnOnce() -> F) -> V
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.join(key, work).await
    }

    fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.upgrade().is_some());
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade) {
            return flight;
        }
        let flight = work().boxed().shared();
        // There always is one before the first poll.
        flights.extend(flight.downgrade().map(|weak| (key, weak)));
        flight
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_is_wanted_at_once_is_done_once_and_later_anew() {
        let (flights, count) = (SingleFlight::default(), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let count = Arc::clone(&count);
            || async move {
                tokio::task::yield_now().await;
                count.fetch_add(1, Ordering::Relaxed)
            }
        };
        let three = futures::join!(
            flights.run("a", work()),
            flights.run("a", work()),
            flights.run("b", work()),
        );
        assert_eq!(three, (0, 0, 1));
        assert_eq!(flights.run("a", work()).await, 2);
    }

    #[tokio::test]
    async fn the_work_goes_on_when_who_began_it_left() {
        let (flights, go) = (Arc::new(SingleFlight::default()), Arc::new(Notify::new()));
        let waits = |value| {
            let go = Arc::clone(&go);
            move || async move {
                go.notified().await;
                value
            }
        };
        let mut first = Box::pin(flights.run("a", waits(1)));
        assert!((&mut first).now_or_never().is_none());
        let second = tokio::spawn({
            let (flights, work) = (Arc::clone(&flights), waits(2));
            async move { flights.run("a", work).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        go.notify_one();
        assert_eq!(second.await.unwrap(), 1);
        // Nobody waits any more: the next one begins anew.
        let mut left = Box::pin(flights.run("a", waits(3)));
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        go.notify_one();
        assert_eq!(flights.run("a", waits(4)).await, 4);
    }
}
