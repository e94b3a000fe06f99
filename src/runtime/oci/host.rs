//! The containers of this host as Peitho sees them. Each launch is supervised by a process of its own, the *shim*: this program
//! as `peitho shim`, which outlives Peitho. A launch is known by its directory and nothing else: a [`Host`] that is opened finds
//! those of an earlier process, and what died with its shim is cleaned at once. The orders of `runtime::oci` call it; nothing
//! here knows peers, images or compiles: it takes directories and a command.

mod bundle;
mod cgroups;
mod copy;
mod ending;
mod error;
mod etc;
mod hardening;
mod launch;
mod lock;
mod logs;
mod namespaces;
mod order;
mod output;
mod place;
mod plan;
mod program;
mod remains;
mod root;
mod seccomp;
mod shim;
mod tree;
mod user;
mod watch;

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio_util::task::TaskTracker;

use self::cgroups::Cgroups;
use self::error::{file, stuck};
use self::launch::Launch;
use self::order::{Limitation, Order};
use self::place::{Mark, Place};
use self::watch::{Event, Sight, Watch};
use crate::runtime::LogStream;

pub use ending::Ending;
pub use error::{Error, StartError};
pub use place::Id;
pub use plan::{Access, Bind, Plan, Root};
pub use program::{NoRuntime, RuntimeProgram};
pub use shim::{Job, run as run_shim};

/// How long a shim may take to end its container before it is itself killed and cleaned up after.
const ORDERLY: Duration = Duration::from_secs(10);
/// How long the cleaning may take.
const CLEANING: Duration = Duration::from_secs(30);
/// How many launches are looked at at once when a host is opened.
const AT_ONCE: usize = 8;

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its shim is at work; the process does not run yet.
    Starting,
    /// Its process runs.
    Running,
    /// It is over.
    Ended(Ending),
}

/// The containers of one directory.
pub struct Host {
    shared: Arc<Shared>,
    following: AbortHandle,
    /// Locked while this lives.
    _lock: File,
}

/// What the tasks need too.
struct Shared {
    directory: PathBuf,
    runtime: RuntimeProgram,
    program: PathBuf,
    cgroup_parent: PathBuf,
    watch: Watch,
    launches: Mutex<HashMap<Id, Arc<Launch>>>,
    told: Mutex<HashSet<&'static str>>,
    tasks: TaskTracker,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Host {
    /// Opens `directory`, which is made when it is not there. Containers of it go on; those whose shim was killed are cleaned
    /// and have the exit code 137. `program` is this program, for the shims; `cgroup_parent` is where containers get their
    /// cgroups, absolute.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::File`], [`Error::Watch`].
    pub async fn open(
        directory: &Path,
        runtime: &RuntimeProgram,
        program: &Path,
        cgroup_parent: &Path,
    ) -> Result<Self, Error> {
        let owned = directory.to_owned();
        let (directory, lock, found) = spawn_blocking(move || prepare(&owned))
            .await
            .expect("no panic")?;
        let (watch, sight) = Watch::new().map_err(Error::Watch)?;
        let shared = Arc::new(Shared {
            directory,
            runtime: runtime.clone(),
            program: program.to_owned(),
            cgroup_parent: cgroup_parent.to_owned(),
            watch,
            launches: Mutex::default(),
            told: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        let following = tokio::spawn(follow(Arc::clone(&shared), sight)).abort_handle();
        let host = Self {
            shared,
            following,
            _lock: lock,
        };
        let shared = &host.shared;
        let looks = found.into_iter().map(|id| async move {
            let launch = shared.register(&id)?;
            if let Err(reason) = launch.settle(&shared.program).await {
                tracing::error!(container = %id, reason, "cannot clean up after a container");
            }
            launch.adopt();
            Ok(())
        });
        let looks: Vec<_> = stream::iter(looks)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        looks.into_iter().collect::<Result<(), Error>>()?;
        Ok(host)
    }

    /// The containers that were started and not removed.
    pub fn ids(&self) -> Vec<Id> {
        self.shared.launches().keys().cloned().collect()
    }

    /// The directory of container `id`, for what its owner keeps beside the launch; made by whoever needs it first.
    pub fn directory(&self, id: &Id) -> PathBuf {
        place::container(&self.shared.directory, id)
    }

    /// Starts container `id`; returns when its process runs. Goes on when the future is dropped.
    ///
    /// # Errors
    /// [`StartError::NeverStarted`] with the runtime's words: nothing is left then but output and ending.
    /// [`StartError::Started`], [`StartError::Host`].
    pub async fn start(&self, id: &Id, plan: &Plan) -> Result<(), StartError> {
        let shared = Arc::clone(&self.shared);
        let mark = Mark::of(&self.shared.directory, id);
        let order = Order {
            id: id.clone(),
            runtime: self.shared.runtime.clone(),
            state: place::state(&self.shared.directory),
            cgroup: Cgroups::path(&self.shared.cgroup_parent, &mark),
            mark,
            plan: plan.clone(),
        };
        let starting = self
            .shared
            .tasks
            .spawn(async move { shared.start(order).await });
        starting.await.expect("a start does not panic")
    }

    /// What container `id` is doing; `None` when it was not started.
    pub fn state(&self, id: &Id) -> Option<State> {
        Some(self.shared.launch(id)?.state())
    }

    /// Waits for the end of container `id`, for its whole life if need be. `None` when there is none such, or it was removed
    /// before anybody knew how it ended.
    pub async fn ended(&self, id: &Id) -> Option<Ending> {
        let mut seen = self.shared.launch(id)?.seen();
        let ended = seen.wait_for(|seen| seen.ending.is_some()).await.ok()?;
        ended.ending.clone()
    }

    /// The output of container `id`, from the first byte kept to its end. Empty when there is no such container.
    pub fn logs(&self, id: &Id) -> LogStream {
        match self.shared.launch(id) {
            Some(launch) => logs::follow(launch.place().clone(), launch.seen()),
            None => Box::pin(stream::empty()),
        }
    }

    /// Sends `signal` to the first process of container `id`, if it runs.
    ///
    /// # Errors
    /// [`Error::File`] when its shim cannot be told.
    pub async fn signal(&self, id: &Id, signal: Signal) -> Result<(), Error> {
        match self.shared.launch(id) {
            Some(launch) => launch.signal(signal).await,
            None => Ok(()),
        }
    }

    /// Kills all processes of container `id`; returns when they are gone and its ending is known.
    ///
    /// # Errors
    /// [`Error::Stuck`].
    pub async fn kill(&self, id: &Id) -> Result<(), Error> {
        let Some(launch) = self.shared.launch(id) else {
            return Ok(());
        };
        let told = launch.signal(Signal::KILL).await;
        if launch.wait_for(ORDERLY, |seen| seen.ending.is_some()).await {
            return Ok(());
        }
        tracing::warn!(container = %id, error = ?told.err(), "a shim does not end its container: it is killed");
        launch.kill_shim().await;
        match launch.settle(&self.shared.program).await {
            Ok(())
                if launch
                    .wait_for(CLEANING, |seen| seen.ending.is_some())
                    .await =>
            {
                Ok(())
            }
            Ok(()) => Err(stuck(id, "its shim lives")),
            Err(reason) => Err(stuck(id, &reason)),
        }
    }

    /// Ends the launch of container `id`, if there is one, and removes all that belongs to it, so that it can be started
    /// again: no process, mount, cgroup or state is left when this returns. What its owner keeps beside the launch stays.
    ///
    /// # Errors
    /// [`Error::Stuck`], [`Error::File`]: to be called again.
    pub async fn clear(&self, id: &Id) -> Result<(), Error> {
        if let Some(launch) = self.shared.launch(id) {
            self.kill(id).await?;
            if !launch.wait_for(CLEANING, |seen| seen.clean).await
                && let Err(reason) = launch.settle(&self.shared.program).await
            {
                return Err(stuck(id, &reason));
            }
            if !launch.is_clean() {
                return Err(stuck(id, "its shim does not come to an end"));
            }
        }
        delete(Place::of(&self.shared.directory, id).path().to_owned()).await?;
        self.shared.launches().remove(id);
        Ok(())
    }

    /// As [`Host::clear`], and what its owner keeps beside the launch goes too.
    ///
    /// # Errors
    /// As [`Host::clear`].
    pub async fn remove(&self, id: &Id) -> Result<(), Error> {
        self.clear(id).await?;
        delete(self.directory(id)).await
    }
}

impl Shared {
    fn launches(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Arc<Launch>>> {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, id: &Id) -> Option<Arc<Launch>> {
        self.launches().get(id).cloned()
    }

    /// Watches the launch of `id`, whose directory is there.
    fn register(&self, id: &Id) -> Result<Arc<Launch>, Error> {
        let launch = Arc::new(Launch::new(id, Place::of(&self.directory, id)));
        // Known before there can be events for it.
        self.launches().insert(id.clone(), Arc::clone(&launch));
        self.watch.add(id, launch.place()).map_err(Error::Watch)?;
        Ok(launch)
    }

    async fn start(&self, order: Order) -> Result<(), StartError> {
        let id = order.id.clone();
        let place = Place::of(&self.directory, &id);
        let owner = place::container(&self.directory, &id);
        let prepared = spawn_blocking(move || {
            private(&owner)?;
            DirBuilder::new()
                .mode(0o700)
                .create(place.path())
                .map_err(|error| file(place.path(), error))?;
            order
                .write(&place)
                .map_err(|error| file(&place.order(), error))
        });
        match prepared.await.expect("no panic") {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StartError::Started(id));
            }
            prepared => prepared?,
        }
        let launch = self.register(&id)?;
        let started = launch.start(&self.program, &self.tasks).await;
        match started {
            Ok(limitations) => {
                for limitation in limitations {
                    self.tell(&limitation);
                }
                Ok(())
            }
            Err(error) => {
                if let Err(reason) = launch.settle(&self.program).await {
                    tracing::error!(container = %id, reason, "cannot clean up after a start that failed");
                }
                Err(error)
            }
        }
    }

    /// Says once what containers have to do without on this host.
    fn tell(&self, limitation: &Limitation) {
        let (kind, reason, meaning) = match limitation {
            Limitation::Cgroup { reason } => (
                "cgroup",
                reason,
                "containers run without limits of memory and CPU",
            ),
            Limitation::Overlay { reason } => (
                "overlay",
                reason,
                "layers are copied for each container: slower, and larger on the disk",
            ),
            Limitation::User { reason } => (
                "user",
                reason,
                "containers run as the user of this process, whatever their images say",
            ),
        };
        let first = self
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(kind);
        if first {
            tracing::warn!(reason, "{meaning}");
        }
    }
}

/// Brings what the watch sees to the launches, for as long as the host lives.
async fn follow(shared: Arc<Shared>, mut sight: Sight) {
    loop {
        let event = match shared.watch.next(&mut sight).await {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(%error, "cannot watch containers any more");
                return;
            }
        };
        match event {
            Event::Output(id) => {
                if let Some(launch) = shared.launch(&id) {
                    launch.grew();
                }
            }
            Event::Ended(id) => {
                if let Some(launch) = shared.launch(&id) {
                    launch.note_ending().await;
                }
            }
            Event::Free(id) => {
                if let Some(launch) = shared.launch(&id) {
                    shared.settle(launch);
                }
            }
            Event::Overflow => {
                let all: Vec<_> = shared.launches().values().cloned().collect();
                for launch in all {
                    launch.grew();
                    shared.settle(launch);
                }
            }
        }
    }
}

impl Shared {
    /// Looks after a launch whose shim may be gone, in a task of its own.
    fn settle(&self, launch: Arc<Launch>) {
        let program = self.program.clone();
        self.tasks.spawn(async move {
            if let Err(reason) = launch.settle(&program).await {
                tracing::error!(container = %launch.id(), reason, "cannot clean up after a container");
            }
        });
    }
}

/// The directory by its true name, its lock, and the launches in it.
fn prepare(directory: &Path) -> Result<(PathBuf, File, Vec<Id>), Error> {
    private(directory)?;
    let directory = directory
        .canonicalize()
        .map_err(|error| file(directory, error))?;
    let path = directory.join("lock");
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| file(&path, error))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(Error::InUse(directory.display().to_string()));
        }
        Err(error) => return Err(file(&path, error.into())),
    }
    let containers = place::containers(&directory);
    private(&containers)?;
    private(&place::state(&directory))?;
    let mut found = Vec::new();
    for entry in fs::read_dir(&containers).map_err(|error| file(&containers, error))? {
        let name = entry.map_err(|error| file(&containers, error))?.file_name();
        let id = name.to_str().and_then(|name| name.parse::<Id>().ok());
        found.extend(id.filter(|id| Place::of(&directory, id).path().is_dir()));
    }
    Ok((directory, lock, found))
}

/// Makes a directory for this user alone, with those above it.
fn private(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| file(path, error))
}

async fn delete(path: PathBuf) -> Result<(), Error> {
    let deleted = spawn_blocking(move || tree::remove(&path).map_err(|error| file(&path, error)));
    deleted.await.expect("removal does not panic")
}
