//! Launches of chaincode, each followed by one task from its start to its end, whoever else waits for it: the log says once how
//! it ended, and so do the events. `container` begins it with each start, and after a restart of Peitho with what runs still.
//! The tasks that tell the ends of builders are kept here too; of these and of the wire it knows nothing else.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::followed::{Followed, Start, Teller, tell_end};
use super::{Containers, Error, Shown};
use crate::events::Events;
use crate::names::{ContainerKey, Tenant};
use crate::runtime::{self, Found, Launch, Outcome, Runtime, Started, State};

/// The launches that are followed. They are not any more when this is dropped.
pub(super) struct Launches {
    known: Arc<Known>,
    ending: CancellationToken,
    _guard: DropGuard,
}

struct Known {
    all: Mutex<All>,
    events: Events,
}

#[derive(Default)]
struct All {
    /// By container, its last launch; one that is over stays known, so that nobody follows it anew.
    followed: HashMap<ContainerKey, Followed>,
    /// Those whose launch is being looked for.
    sought: HashSet<ContainerKey>,
}

/// So many containers are known at most whose launch is over.
const OVER_KEPT: usize = 1024;

/// So many launches of an earlier process are looked for at once: as many as a runtime reads for a list.
const AT_ONCE: usize = 8;

/// How long an order is held to look at its container for those alone who look on.
const LOOK: Duration = Duration::from_secs(2);

impl Launches {
    pub(super) fn new(events: Events) -> Self {
        let ending = CancellationToken::new();
        Self {
            known: Arc::new(Known {
                all: Mutex::default(),
                events,
            }),
            _guard: ending.clone().drop_guard(),
            ending,
        }
    }

    /// The launch of `key` that is followed and not over, as far as was told.
    pub(super) fn get(&self, key: &ContainerKey) -> Option<Followed> {
        self.known.lock().going_on(key).cloned()
    }

    /// Forgets a container that is no more; not where its end is still to be told.
    pub(super) fn forget(&self, key: &ContainerKey) {
        let mut all = self.known.lock();
        if all.going_on(key).is_none() {
            all.followed.remove(key);
        }
    }

    /// Follows the launch that an order to start `key` gave.
    fn follow(&self, key: &ContainerKey, launch: Launch, start: Start) {
        if let Some(teller) = self.known.take(key, launch, start) {
            self.attend(teller.tell_all());
        }
    }

    /// Follows the launch of `key` that `runtime` has now, unless one is followed and not over. It is looked for beside the
    /// caller: who waits for chaincode does not wait for those who look on.
    fn see_followed(&self, runtime: &Arc<dyn Runtime>, key: &ContainerKey) {
        {
            let mut all = self.known.lock();
            if all.going_on(key).is_some() || !all.sought.insert(key.clone()) {
                return;
            }
        }
        let (known, runtime, key) = (Arc::clone(&self.known), Arc::clone(runtime), key.clone());
        self.attend(async move {
            let launch = sought(&runtime, &key).await;
            known.lock().sought.remove(&key);
            if let Some(teller) = launch.and_then(|it| known.take_found(&key, it, Start::Known)) {
                teller.tell_all().await;
            }
        });
    }

    /// Sees `task` through, as long as this lives.
    pub(super) fn attend(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        tokio::spawn(async move { ending.run_until_cancelled(task).await });
    }
}

impl Known {
    /// Takes `launch` to be followed; `None` where it is already, or was to its end.
    fn take(&self, key: &ContainerKey, launch: Launch, start: Start) -> Option<Teller> {
        let mut all = self.lock();
        if let Some(there) = all.followed.get(key)
            && there.is(&launch.mark)
            && !there.is_lost()
        {
            if start == Start::News {
                there.is_news(key, &self.events);
            }
            return None;
        }
        Some(all.insert(key, &self.events, launch, start))
    }

    /// The same with one that was found: by now it may be over, and the next one be followed.
    fn take_found(&self, key: &ContainerKey, launch: Launch, start: Start) -> Option<Teller> {
        let is_late = self.lock().going_on(key).is_some();
        if is_late {
            return None;
        }
        self.take(key, launch, start)
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn going_on(&self, key: &ContainerKey) -> Option<&Followed> {
        self.followed.get(key).filter(|it| it.goes_on())
    }

    fn insert(
        &mut self,
        key: &ContainerKey,
        events: &Events,
        launch: Launch,
        start: Start,
    ) -> Teller {
        // Containers may go without an order to this process.
        if self.followed.len() > OVER_KEPT {
            self.followed.retain(|_, it| it.goes_on());
        }
        let before = self.followed.remove(key);
        let (followed, teller) = Followed::begin(key, events, launch, start, before);
        self.followed.insert(key.clone(), followed);
        teller
    }
}

/// The launch of `key` that `runtime` has now; `None` where there is none any more, or none can be found.
async fn sought(runtime: &Arc<dyn Runtime>, key: &ContainerKey) -> Option<Launch> {
    match Arc::clone(runtime).follow(key).await {
        Ok(launch) => launch,
        // Removed already.
        Err(runtime::Error::NotFound(_)) => None,
        Err(error) => {
            tracing::warn!(container = %key, %error, "container: a launch is not followed: its end is told to who waits for it alone");
            None
        }
    }
}

impl Containers {
    /// Follows all that runs already and belongs to `tenants`: what an earlier process started. Returns when all of it is
    /// followed.
    pub async fn adopt(&self, tenants: impl IntoIterator<Item = Tenant>) {
        let of_each = tenants.into_iter().map(async |tenant| {
            if let Err(error) = self.adopt_of(&tenant).await {
                tracing::warn!(%tenant, %error, "container: what runs already is not followed: its end is told to who waits for it alone");
            }
        });
        // At once: one whose namespace is away may take for ever.
        join_all(of_each).await;
    }

    async fn adopt_of(&self, tenant: &Tenant) -> Result<(), runtime::Error> {
        let found = loop {
            match self.0.runtime.list(tenant).await {
                // The runtime has tried for long before it said so.
                Err(runtime::Error::Unavailable(cause)) => {
                    tracing::warn!(%tenant, cause, "container: what runs already is not known yet");
                }
                found => break found?,
            }
        };
        let going_on = found.into_iter().filter_map(|Found { spec, state, .. }| {
            let start = match state {
                State::Starting => Start::News,
                State::Running => Start::Known,
                _ => return None,
            };
            Some((spec.key, start))
        });
        let launches = &self.0.launches;
        stream::iter(going_on)
            .for_each_concurrent(AT_ONCE, async |(key, start)| {
                if launches.get(&key).is_some() {
                    return;
                }
                let launch = sought(&self.0.runtime, &key).await;
                let taken = launch.and_then(|it| launches.known.take_found(&key, it, start));
                if let Some(teller) = taken {
                    launches.attend(teller.tell_all());
                }
            })
            .await;
        Ok(())
    }

    /// Starts a chaincode container and follows its launch.
    pub(super) async fn launch(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        match Arc::clone(&self.0.runtime).start(key).await {
            Ok(Started { outcome, launch }) => {
                let start = match outcome {
                    Outcome::Done => Start::News,
                    Outcome::Already => Start::Known,
                };
                self.0.launches.follow(key, launch, start);
                Ok(outcome)
            }
            Err(error) => {
                // Some runtimes know at once that it will not run; there is no launch to follow then.
                if matches!(
                    error,
                    runtime::Error::NeverStarted(_) | runtime::Error::Refused(_)
                ) {
                    self.tell_refusal(key).await;
                }
                Err(Error::from_runtime(error))
            }
        }
    }

    async fn tell_refusal(&self, key: &ContainerKey) {
        if let Some(shown) = self.seen(key).await
            && matches!(shown.state, State::NeverStarted(_))
        {
            tell_end(&self.0.launches.known.events, key, &shown);
        }
    }

    /// What there is to see of a container, for those who look on: the peer is not to wait for them.
    pub(super) async fn seen(&self, key: &ContainerKey) -> Option<Shown> {
        let found = timeout(LOOK, self.0.runtime.find(key)).await;
        found.ok()?.ok()?.map(Shown::from)
    }

    /// Has the launch of `key`, which goes on, followed where it is not yet: another process may have started it, or an order
    /// whose client went.
    pub(super) fn see_followed(&self, key: &ContainerKey) {
        self.0.launches.see_followed(&self.0.runtime, key);
    }
}
