//! Launches of chaincode, each followed by one task from its start to its end, whoever else waits for it: the log says once how
//! it ended, and so do the events. `container` begins it with each start, and after a restart of Peitho with what runs still;
//! whoever tells an end to a client waits until those who look on were told.
//! It knows neither builders nor the wire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Containers, Error, Shown, happened};
use crate::events::{Action, Events};
use crate::names::{ContainerKey, Tenant};
use crate::runtime::{self, Found, Launch, LaunchMark, Outcome, Place, Runtime, State};

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
    /// Which one it is, once it was found.
    mark: Arc<OnceLock<LaunchMark>>,
    told: watch::Receiver<Told>,
}

/// What was told of a launch.
#[derive(Clone, Debug)]
enum Told {
    /// Nothing: it is being looked for.
    Sought,
    /// Nothing, and it is followed.
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

    /// Follows the launch of `key` that `runtime` has now. It is looked for beside the caller: who starts chaincode does not
    /// wait for those who look on.
    fn follow(&self, runtime: &Arc<dyn Runtime>, key: &ContainerKey, start: Start) -> Followed {
        let (telling, told) = watch::channel(Told::Sought);
        let followed = Followed {
            mark: Arc::default(),
            told,
        };
        let before = {
            let mut all = self.lock();
            // Containers may go without an order to this process.
            if all.len() > OVER_KEPT {
                all.retain(|_, it| it.is_followed());
            }
            all.insert(key.clone(), followed.clone())
        };
        let teller = Teller {
            key: key.clone(),
            events: self.events.clone(),
            mark: Arc::clone(&followed.mark),
            told: telling,
        };
        let runtime = Arc::clone(runtime);
        self.attend(async move {
            if let Some(launch) = teller.seek(&runtime).await {
                teller.follow(launch, before, start).await;
            }
        });
        followed
    }

    /// As [`follow`](Self::follow), unless one is followed and not over.
    fn see_followed(
        &self,
        runtime: &Arc<dyn Runtime>,
        key: &ContainerKey,
        start: Start,
    ) -> Followed {
        self.get(key)
            .unwrap_or_else(|| self.follow(runtime, key, start))
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
            Told::Sought | Told::Nothing | Told::End => None,
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
    mark: Arc<OnceLock<LaunchMark>>,
    told: watch::Sender<Told>,
}

impl Teller {
    /// Finds the launch; `None` where there is none any more, or none can be found.
    async fn seek(&self, runtime: &Arc<dyn Runtime>) -> Option<Launch> {
        let key = &self.key;
        let launch = loop {
            match Arc::clone(runtime).follow(key).await {
                // The runtime has tried for long before it said so.
                Err(runtime::Error::Unavailable(cause)) => {
                    tracing::warn!(container = %key, cause, "container: a launch cannot be followed yet");
                }
                // Removed already.
                Err(runtime::Error::NotFound(_)) => return None,
                Err(error) => {
                    tracing::warn!(container = %key, %error, "container: a launch is not followed: its end is told to who waits for it alone");
                    return None;
                }
                Ok(launch) => break launch?,
            }
        };
        let _ = self.mark.set(launch.mark.clone());
        self.told.send_replace(Told::Nothing);
        Some(launch)
    }

    /// Tells what becomes of `launch`, after the end of what was followed `before`, which may be the same one.
    async fn follow(self, mut launch: Launch, before: Option<Followed>, mut start: Start) {
        if let Some(before) = before {
            end_told(Some(before.clone())).await;
            if before.is_over() && before.mark.get() == Some(&launch.mark) {
                self.told.send_replace(Told::End);
                return;
            }
        }
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
        let all: Vec<Followed> = found
            .into_iter()
            .filter_map(|Found { spec, state, .. }| {
                let start = match state {
                    State::Starting => Start::News,
                    State::Running => Start::Known,
                    _ => return None,
                };
                Some(self.see_launch(&spec.key, start))
            })
            .collect();
        for mut followed in all {
            let found = |told: &Told| !matches!(told, Told::Sought);
            // Whether it was, or is not there any more.
            let _ = followed.told.wait_for(found).await;
        }
        Ok(())
    }

    /// Starts a chaincode container and follows its launch.
    pub(super) async fn launch(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        match self.0.runtime.start(key).await {
            Ok(Outcome::Done) => {
                let launches = &self.0.launches;
                launches.follow(&self.0.runtime, key, Start::News);
                Ok(Outcome::Done)
            }
            Ok(Outcome::Already) => {
                self.see_launch(key, Start::Known);
                Ok(Outcome::Already)
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

    /// Has the launch of `key`, which goes on, followed where it is not yet.
    pub(super) fn see_followed(&self, key: &ContainerKey) {
        self.see_launch(key, Start::Known);
    }

    fn see_launch(&self, key: &ContainerKey, start: Start) -> Followed {
        let launches = &self.0.launches;
        launches.see_followed(&self.0.runtime, key, start)
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
