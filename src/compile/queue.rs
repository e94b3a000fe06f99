//! The queue in front of the compiles: so many at once, and between tenants the one that runs fewest goes
//! first, so that nobody starves (design D20). Who waits reads its place in the compile's log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::names::Tenant;
use crate::store::spool::Spool;

#[derive(Clone)]
pub(super) struct Queue(Arc<Mutex<State>>);

struct State {
    free: usize,
    running: HashMap<Tenant, usize>,
    /// In order of arrival.
    waiting: Vec<(Tenant, oneshot::Sender<Place>)>,
}

/// The right to run; given on when dropped.
pub(super) struct Place {
    queue: Queue,
    tenant: Tenant,
}

impl Queue {
    pub(super) fn new(parallel: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: parallel.max(1),
            running: HashMap::new(),
            waiting: Vec::new(),
        })))
    }

    /// Waits for a place.
    pub(super) async fn enter(&self, tenant: &Tenant, log: &Spool) -> Place {
        let (turn, ahead) = {
            let mut state = self.state();
            let (sender, turn) = oneshot::channel();
            let ahead = state.waiting.len();
            state.waiting.push((tenant.clone(), sender));
            (turn, ahead)
        };
        self.call_next();
        let mut turn = std::pin::pin!(turn);
        if let Ok(place) = turn.as_mut().get_mut().try_recv() {
            return place;
        }
        let notice = format!(
            "peitho: waiting for a compile to end, {ahead} others are ahead (compile.parallel)\n"
        );
        if let Err(error) = log.append(notice.as_bytes()).await {
            tracing::warn!(error = %error, "compile: notice not written");
        }
        turn.await.expect("a place is given before its sender goes")
    }

    /// Gives free places to those who wait.
    fn call_next(&self) {
        loop {
            let (sender, place) = {
                let mut state = self.state();
                if state.free == 0 {
                    return;
                }
                let next = (0..state.waiting.len()).min_by_key(|&at| {
                    let tenant = &state.waiting[at].0;
                    (state.running.get(tenant).copied().unwrap_or(0), at)
                });
                let Some(at) = next else { return };
                let (tenant, sender) = state.waiting.remove(at);
                state.free -= 1;
                *state.running.entry(tenant.clone()).or_default() += 1;
                (
                    sender,
                    Place {
                        queue: self.clone(),
                        tenant,
                    },
                )
            };
            // Outside of the lock: when the waiter is gone the place comes back and drops here.
            drop(sender.send(place));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("nothing panics while it holds the queue")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.queue.state();
            state.free += 1;
            if let Some(running) = state.running.get_mut(&self.tenant) {
                *running -= 1;
                if *running == 0 {
                    state.running.remove(&self.tenant);
                }
            }
        }
        self.queue.call_next();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    async fn log() -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(directory.path()).await.unwrap();
        (directory, Spool::create(&store).await.unwrap())
    }

    #[tokio::test]
    async fn a_tenant_with_many_compiles_does_not_hold_up_another() {
        let (_directory, log) = log().await;
        let queue = Queue::new(2);
        let (a, b) = (tenant("a"), tenant("b"));
        let first = queue.enter(&a, &log).await;
        let _second = queue.enter(&a, &log).await;
        let mut third = Box::pin(queue.enter(&a, &log));
        assert!((&mut third).now_or_never().is_none());
        let mut other = Box::pin(queue.enter(&b, &log));
        assert!((&mut other).now_or_never().is_none());
        drop(first);
        let _place = other.await;
        assert!((&mut third).now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_does_not_keep_a_place() {
        let (_directory, log) = log().await;
        let queue = Queue::new(1);
        let a = tenant("a");
        let first = queue.enter(&a, &log).await;
        let mut second = Box::pin(queue.enter(&a, &log));
        assert!((&mut second).now_or_never().is_none());
        drop(second);
        drop(first);
        drop(queue.enter(&a, &log).await);
    }
}
