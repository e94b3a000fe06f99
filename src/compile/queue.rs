//! The queue in front of the compiles: so many at once, so many of one tenant, and between tenants the one that runs fewest goes
//! first, so that nobody starves (design D20). Who waits reads its place in the compile's log, and again when it changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{oneshot, watch};

use crate::config::ByTenant;
use crate::names::Tenant;
use crate::store::spool::Spool;

#[derive(Clone)]
pub(super) struct Queue(Arc<Mutex<State>>);

struct State {
    free: usize,
    /// The most of one tenant, where it has less than all.
    of_tenant: ByTenant<Option<usize>>,
    running: HashMap<Tenant, usize>,
    /// In order of arrival.
    waiting: Vec<Waiting>,
    /// Whether there are some.
    wanted: watch::Sender<bool>,
}

struct Waiting {
    tenant: Tenant,
    turn: oneshot::Sender<Place>,
    standing: watch::Sender<Standing>,
}

/// Why one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// All places are taken; so many get one before.
    Ahead(usize),
    /// There are places, but the tenant has all that it may have.
    TenantHasAll,
}

/// The right to run; given on when dropped.
pub(super) struct Place {
    queue: Queue,
    tenant: Tenant,
}

/// One that waits, with a place or without one in the end.
struct Leaving<'a>(&'a Queue);

/// Why a wait for a place does not end without one.
const GIVEN: &str = "a place is given before its sender goes";

impl Queue {
    /// At most `parallel` run at once, and of each tenant at most what `of_tenant` says.
    pub(super) fn new(parallel: usize, of_tenant: ByTenant<Option<usize>>) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: parallel.max(1),
            of_tenant,
            running: HashMap::new(),
            waiting: Vec::new(),
            wanted: watch::Sender::new(false),
        })))
    }

    /// Waits for a place.
    pub(super) async fn enter(&self, tenant: &Tenant, log: &Spool) -> Place {
        // The first, so that it goes last: by then this one waits no more, and those behind it are told.
        let _leaving = Leaving(self);
        let (sender, mut turn) = oneshot::channel();
        let (standing, mut told) = watch::channel(Standing::Ahead(0));
        self.state().waiting.push(Waiting {
            tenant: tenant.clone(),
            turn: sender,
            standing,
        });
        self.call_next();
        loop {
            // A place first: who has one need not hear that it waits.
            if let Ok(place) = turn.try_recv() {
                return place;
            }
            let notice = told.borrow_and_update().notice();
            let written = tokio::select! {
                biased;
                place = &mut turn => return place.expect(GIVEN),
                written = log.append(notice.as_bytes()) => written,
            };
            if let Err(error) = written {
                tracing::warn!(error = %error, "compile: notice not written");
            }
            let news = tokio::select! {
                biased;
                place = &mut turn => return place.expect(GIVEN),
                news = told.changed() => news,
            };
            if news.is_err() {
                // Nobody tells more to who leaves the queue: the place is on its way.
                return turn.await.expect(GIVEN);
            }
        }
    }

    /// Whether somebody waits for a place: who holds one after its compile is to make haste.
    pub(super) fn wanted(&self) -> watch::Receiver<bool> {
        self.state().wanted.subscribe()
    }

    /// Gives free places to those who wait, and tells the others where they stand.
    fn call_next(&self) {
        loop {
            let (turn, place) = {
                let mut state = self.state();
                state.waiting.retain(|waiting| !waiting.turn.is_closed());
                let order = state.order();
                let next = order.first().copied().filter(|_| state.free > 0);
                let Some(at) = next else {
                    state.tell(&order);
                    state.wanted.send_replace(!state.waiting.is_empty());
                    return;
                };
                let Waiting { tenant, turn, .. } = state.waiting.remove(at);
                state.free -= 1;
                *state.running.entry(tenant.clone()).or_default() += 1;
                let queue = self.clone();
                (turn, Place { queue, tenant })
            };
            // Outside of the lock: when the waiter is gone the place comes back and drops here.
            drop(turn.send(place));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("nothing panics while it holds the queue")
    }
}

impl State {
    /// Who would get places, one after the other, if none came back; not those whose tenant has all that it may have.
    fn order(&self) -> Vec<usize> {
        let mut running = self.running.clone();
        let mut left: Vec<usize> = (0..self.waiting.len()).collect();
        let mut order = Vec::with_capacity(left.len());
        loop {
            let of = |at: usize| running.get(&self.waiting[at].tenant).copied();
            let next = (left.iter().enumerate())
                .map(|(position, &at)| (of(at).unwrap_or(0), at, position))
                .filter(|(running, at, _)| {
                    let most = self.of_tenant.of(&self.waiting[*at].tenant);
                    most.is_none_or(|most| *running < most.max(1))
                })
                .min();
            let Some((_, at, position)) = next else {
                return order;
            };
            left.remove(position);
            *running.entry(self.waiting[at].tenant.clone()).or_default() += 1;
            order.push(at);
        }
    }

    fn tell(&self, order: &[usize]) {
        for (at, waiting) in self.waiting.iter().enumerate() {
            let ahead = order.iter().position(|it| *it == at);
            let standing = ahead.map_or(Standing::TenantHasAll, Standing::Ahead);
            waiting.standing.send_if_modified(|known| {
                let is_news = *known != standing;
                *known = standing;
                is_news
            });
        }
    }
}

impl Standing {
    /// The line in the log.
    fn notice(self) -> String {
        match self {
            Self::Ahead(ahead) => format!(
                "peitho: waiting for a compile to end, {ahead} others are ahead (compile.parallel)\n"
            ),
            Self::TenantHasAll => "peitho: waiting for another compile of this tenant to end (compile.parallel of the tenant)\n".to_owned(),
        }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.call_next();
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

    /// What the log says in the end.
    async fn told(log: &Spool) -> String {
        log.close();
        let (mut reader, mut text) = (log.reader(), Vec::new());
        while let Some(piece) = reader.next().await.unwrap() {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn a_tenant_with_many_compiles_does_not_hold_up_another() {
        let (_directory, log) = log().await;
        let queue = Queue::new(2, None.into());
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
        let queue = Queue::new(1, None.into());
        let a = tenant("a");
        let first = queue.enter(&a, &log).await;
        let mut second = Box::pin(queue.enter(&a, &log));
        assert!((&mut second).now_or_never().is_none());
        drop(second);
        drop(first);
        drop(queue.enter(&a, &log).await);
    }

    #[tokio::test]
    async fn a_place_that_was_given_and_is_not_taken_goes_on() {
        let (_directory, log) = log().await;
        let queue = Queue::new(1, None.into());
        let a = tenant("a");
        let first = queue.enter(&a, &log).await;
        let wait = || {
            let mut waiting = Box::pin(queue.enter(&a, &log));
            assert!((&mut waiting).now_or_never().is_none());
            waiting
        };
        let (second, third, fourth) = (wait(), wait(), wait());
        drop(first);
        // It has the place, and does not know it.
        drop(second);
        drop(third);
        let place = fourth.now_or_never().expect("the place was passed on");
        let next = wait();
        drop(place);
        assert!(next.now_or_never().is_some());
    }

    /// As where its log waits for room on a full volume.
    #[test]
    fn a_notice_that_is_not_written_yet_holds_up_nobody() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (_directory, log) = log().await;
            let queue = Queue::new(1, None.into());
            let a = tenant("a");
            let first = queue.enter(&a, &log).await;
            let (go, held) = std::sync::mpsc::channel::<()>();
            let disk = tokio::task::spawn_blocking(move || held.recv());
            let mut second = Box::pin(queue.enter(&a, &log));
            assert!((&mut second).now_or_never().is_none());
            drop(first);
            assert!(second.now_or_never().is_some());
            drop(go);
            disk.await.unwrap().unwrap_err();
        });
    }

    #[tokio::test]
    async fn a_tenants_own_limit_leaves_places_to_others() {
        let (_directory, log) = log().await;
        let (a, b) = (tenant("a"), tenant("b"));
        let queue = Queue::new(3, ByTenant::new(None, [(a.clone(), Some(1))]));
        let first = queue.enter(&a, &log).await;
        let mut second = Box::pin(queue.enter(&a, &log));
        assert!((&mut second).now_or_never().is_none());
        let _others = (queue.enter(&b, &log).await, queue.enter(&b, &log).await);
        // Its notice is on its way.
        let mut reader = log.reader();
        reader.next().await.unwrap();
        drop(first);
        drop(second.await);
        let told = told(&log).await;
        assert_eq!(
            told,
            "peitho: waiting for another compile of this tenant to end (compile.parallel of the tenant)\n"
        );
    }

    #[tokio::test]
    async fn who_waits_reads_its_place_and_what_becomes_of_it() {
        let (_directory, log) = log().await;
        let (_elsewhere, quiet) = self::log().await;
        let queue = Queue::new(1, None.into());
        let a = tenant("a");
        let running = queue.enter(&a, &quiet).await;
        let [mut gives_up, mut next] = [(); 2].map(|()| Box::pin(queue.enter(&a, &quiet)));
        for waiting in [&mut gives_up, &mut next] {
            assert!(waiting.now_or_never().is_none());
        }
        let (waits, its_log) = (queue.clone(), log.clone());
        let last = tokio::spawn(async move { waits.enter(&tenant("a"), &its_log).await });
        let mut reader = log.reader();
        let mut told = async || {
            let piece = reader.next().await.unwrap().unwrap();
            String::from_utf8(piece.to_vec()).unwrap()
        };
        assert!(told().await.contains(" 2 others are ahead"));
        drop(gives_up);
        assert!(told().await.contains(" 1 others are ahead"));
        drop(running);
        let running = next.await;
        assert!(told().await.contains(" 0 others are ahead"));
        drop(running);
        drop(last.await.unwrap());
    }
}
