//! Launches of chaincode, each followed by one task from its start to its end, whoever else waits for it: the log says once how
//! it ended, and so do the events. `container` begins it with each start, and after a restart of Peitho with what runs still.
//! It knows neither builders nor the wire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Containers, Error, Shown, happened};
use crate::events::{Action, Events};
use crate::names::{ContainerKey, Tenant};
use crate::runtime::{self, Found, Launch, LaunchMark, Outcome, Place, State};

/// The launches that are followed. They are not any more when this is dropped.
pub(super) struct Launches {
    /// By container, its last launch; one that is over stays known, so that nobody follows it anew.
    followed: Mutex<HashMap<ContainerKey, Followed>>,
    events: Events,
    tasks: TaskTracker,
    ending: CancellationToken,
    _guard: DropGuard,
}

/// So many containers are known at most whose launch is over.
const OVER_KEPT: usize = 1024;

/// One launch that is followed, or was.
#[derive(Clone)]
pub(super) struct Followed {
    mark: LaunchMark,
    told: watch::Receiver<Told>,
}

/// What was told of a launch.
#[derive(Clone, Debug)]
enum Told {
    /// Nothing.
    Nothing,
    /// That it runs; what it showed then.
    Start(Box<Shown>),
    /// That it is over.
    End,
}

/// Whether the start of a launch is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// It is.
    News,
    /// It ran before this process was there.
    Known,
}

impl Launches {
    pub(super) fn new(events: Events) -> Self {
        let ending = CancellationToken::new();
        Self {
            followed: Mutex::default(),
            events,
            tasks: TaskTracker::new(),
            _guard: ending.clone().drop_guard(),
            ending,
        }
    }

    /// The launch of `key` that is followed and not over, as far as was told.
    pub(super) fn get(&self, key: &ContainerKey) -> Option<Followed> {
        let all = self.lock();
        all.get(key).filter(|it| it.is_followed()).cloned()
    }

    /// Forgets a container that is no more.
    pub(super) fn forget(&self, key: &ContainerKey) {
        self.lock().remove(key);
    }

    /// Follows `launch`, unless it is followed already.
    fn follow(&self, key: &ContainerKey, launch: Launch, start: Start) {
        let (telling, told) = watch::channel(Told::Nothing);
        let followed = Followed {
            mark: launch.mark.clone(),
            told,
        };
        let before = {
            let mut all = self.lock();
            let is_known = |it: &Followed| it.is_followed() || it.is_over();
            if all
                .get(key)
                .is_some_and(|it| it.mark == launch.mark && is_known(it))
            {
                return;
            }
            // Containers may go without an order to this process.
            if all.len() > OVER_KEPT {
                all.retain(|_, it| it.is_followed());
            }
            all.insert(key.clone(), followed)
        };
        let teller = Teller {
            key: key.clone(),
            events: self.events.clone(),
            told: telling,
        };
        self.attend(async move {
            // A launch begins when the one before is over: that is told first.
            end_told(before).await;
            teller.follow(launch, start).await;
        });
    }

    /// Sees `task` through, as long as this lives.
    pub(super) fn attend(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        self.tasks
            .spawn(async move { ending.run_until_cancelled(task).await });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerKey, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    fn is_over(&self) -> bool {
        matches!(*self.told.borrow(), Told::End)
    }

    /// Whether its end is still to be told, and somebody is there to tell it.
    fn is_followed(&self) -> bool {
        !self.is_over() && self.told.has_changed().is_ok()
    }

    /// What it showed when it began to run; `None` where that was not seen.
    fn shown(&self) -> Option<Shown> {
        match &*self.told.borrow() {
            Told::Start(shown) => Some((**shown).clone()),
            Told::Nothing | Told::End => None,
        }
    }
}

/// Waits until the end of a launch was told. Only for one that is over, or about to be: it may take as long as a process lives.
pub(super) async fn end_told(followed: Option<Followed>) {
    if let Some(mut followed) = followed {
        // Without its task nothing more is told.
        let end = |told: &Told| matches!(told, Told::End);
        let _ = followed.told.wait_for(end).await;
    }
}

/// Tells of one launch.
struct Teller {
    key: ContainerKey,
    events: Events,
    told: watch::Sender<Told>,
}

impl Teller {
    async fn follow(self, mut launch: Launch, mut start: Start) {
        while let Some(found) = launch.course.next().await {
            let is_over = matches!(found.state, State::Exited(_) | State::NeverStarted(_));
            let ran = !matches!(found.state, State::NeverStarted(_));
            let shown = Shown::from(found);
            if ran && start == Start::News {
                start = Start::Known;
                self.tell(&shown, Action::Start);
            }
            if is_over {
                tell_end(&self.events, &self.key, &shown);
                self.told.send_replace(Told::End);
            } else {
                self.told.send_replace(Told::Start(Box::new(shown)));
            }
        }
    }

    fn tell(&self, shown: &Shown, action: Action) {
        let event = happened::event(shown, action);
        self.events.tell(&self.key.tenant, event);
    }
}

/// Tells that a launch is over, or will not be: in the log and in the events.
fn tell_end(events: &Events, key: &ContainerKey, shown: &Shown) {
    let pod = match &shown.life.place {
        Place::Pod { name, .. } => Some(name),
        _ => None,
    };
    let why = shown.reason();
    match &shown.state {
        State::Exited(exit) => {
            tracing::info!(container = %key, pod, code = exit.code, why, "chaincode ended");
        }
        _ => tracing::info!(container = %key, pod, reason = why, "chaincode did not start"),
    }
    events.tell(&key.tenant, happened::event(shown, Action::Die));
}

impl Containers {
    /// Follows all that runs already and belongs to `tenants`: what an earlier process started. Returns when all of it is
    /// followed.
    pub async fn adopt(&self, tenants: impl IntoIterator<Item = Tenant>) {
        for tenant in tenants {
            if let Err(error) = self.adopt_of(&tenant).await {
                tracing::warn!(%tenant, %error, "container: what runs already is not followed: its end is told to who waits for it alone");
            }
        }
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
        for Found { spec, state, .. } in found {
            let start = match state {
                State::Starting => Start::News,
                State::Running => Start::Known,
                _ => continue,
            };
            self.follow(&spec.key, start).await;
        }
        Ok(())
    }

    /// Starts a chaincode container and follows its launch.
    pub(super) async fn launch(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        match self.0.runtime.start(key).await {
            Ok(outcome) => {
                self.follow(key, Start::News).await;
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
        if let Ok(Some(found)) = self.0.runtime.find(key).await
            && matches!(found.state, State::NeverStarted(_))
        {
            tell_end(&self.0.launches.events, key, &Shown::from(found));
        }
    }

    /// Has the launch of `key`, which runs, followed: its start may have been cut off before it was.
    pub(super) async fn see_followed(&self, key: &ContainerKey) {
        if self.0.launches.get(key).is_none() {
            self.follow(key, Start::News).await;
        }
    }

    /// Follows the launch that there is now.
    async fn follow(&self, key: &ContainerKey, start: Start) {
        match Arc::clone(&self.0.runtime).follow(key).await {
            Ok(Some(launch)) => self.0.launches.follow(key, launch, start),
            // Removed already, or over with nothing left of it.
            Ok(None) | Err(runtime::Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(container = %key, %error, "container: a launch is not followed: its end is told to who waits for it alone");
            }
        }
    }

    /// What is known of a container that is about to be ended, for those who are told of it.
    pub(super) async fn shown(&self, key: &ContainerKey) -> Option<Shown> {
        if let Some(shown) = self.0.launches.get(key).and_then(|it| it.shown()) {
            return Some(shown);
        }
        let found = self.0.runtime.find(key).await;
        found.ok().flatten().map(Shown::from)
    }
}
