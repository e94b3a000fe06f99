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
mod follow;
mod hardening;
mod launch;
mod launches;
mod lines;
mod lock;
mod logs;
mod moments;
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
mod span;
mod tree;
mod user;
mod watch;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::task::{AbortHandle, spawn_blocking};

use self::cgroups::Cgroups;
use self::error::{file, stuck};
use self::launches::{Launches, private};
use self::order::Order;
use self::place::{Mark, Place};
use crate::runtime::{LineQuery, LineStream, LogStream};

pub use ending::Ending;
pub use error::{Error, StartError};
pub use follow::Followed;
pub use place::Id;
pub use plan::{Access, Bind, Plan, Root};
pub use program::{NoRuntime, RuntimeProgram};
pub use shim::{Job, run as run_shim};
pub use span::Span;

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
    launches: Arc<Launches>,
    runtime: RuntimeProgram,
    cgroup_parent: PathBuf,
    following: AbortHandle,
    /// Locked while this lives.
    _lock: File,
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
            .expect("looking at files does not panic")?;
        let (launches, sight) = Launches::new(directory, program.to_owned())?;
        let launches = Arc::new(launches);
        let following = tokio::spawn(Arc::clone(&launches).follow(sight)).abort_handle();
        let host = Self {
            launches,
            runtime: runtime.clone(),
            cgroup_parent: cgroup_parent.to_owned(),
            following,
            _lock: lock,
        };
        let adopted: Vec<_> = stream::iter(found)
            .map(|id| {
                let launches = Arc::clone(&host.launches);
                async move { launches.adopt(&id).await }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        adopted.into_iter().collect::<Result<(), Error>>()?;
        Ok(host)
    }

    /// Whether the ends of containers are seen.
    pub fn is_watching(&self) -> bool {
        self.launches.sees()
    }

    /// The containers that were started and not removed.
    pub fn ids(&self) -> Vec<Id> {
        self.launches.ids()
    }

    /// The directory of container `id`, for what its owner keeps beside the launch; made by whoever needs it first.
    pub fn directory(&self, id: &Id) -> PathBuf {
        place::container(self.launches.directory(), id)
    }

    /// Starts container `id`; returns when its process runs. Goes on when the future is dropped.
    ///
    /// # Errors
    /// [`StartError::NeverStarted`] with the runtime's words: nothing is left then but output and ending.
    /// [`StartError::Started`], [`StartError::Host`].
    pub async fn start(&self, id: &Id, plan: &Plan) -> Result<(), StartError> {
        let launches = Arc::clone(&self.launches);
        let mark = Mark::of(self.launches.directory(), id);
        let order = Order {
            id: id.clone(),
            runtime: self.runtime.clone(),
            state: place::state(self.launches.directory()),
            cgroup: Cgroups::path(&self.cgroup_parent, &mark),
            mark,
            plan: plan.clone(),
        };
        let tasks = self.launches.tasks();
        let starting = tasks.spawn(async move { launches.start(order).await });
        starting.await.expect("a start does not panic")
    }

    /// What container `id` is doing; `None` when it was not started.
    pub fn state(&self, id: &Id) -> Option<State> {
        Some(self.launches.get(id)?.state())
    }

    /// The same once a start that is under way is over, if there is one.
    pub async fn settled(&self, id: &Id) -> Option<State> {
        let mut seen = self.launches.get(id)?.seen();
        // It fails with the launch, which is forgotten then.
        let _ = seen.wait_for(|seen| !seen.beginning).await;
        self.state(id)
    }

    /// Waits for the end of container `id`, for its whole life if need be. `None` when there is none such, or it was removed
    /// before anybody knew how it ended.
    pub async fn ended(&self, id: &Id) -> Option<Ending> {
        let mut seen = self.launches.get(id)?.seen();
        let ended = seen.wait_for(|seen| seen.ending.is_some()).await.ok()?;
        ended.ending.clone()
    }

    /// Follows the launch of container `id`; `None` when there is none.
    pub fn follow(&self, id: &Id) -> Option<Followed> {
        Some(Followed::of(&*self.launches.get(id)?))
    }

    /// The output of container `id`, from the first byte kept to its end. Empty when there is no such container.
    pub fn logs(&self, id: &Id) -> LogStream {
        match self.launches.get(id) {
            Some(launch) => logs::follow(launch.place().clone(), launch.seen()),
            None => Box::pin(stream::empty()),
        }
    }

    /// The lines that container `id` printed, as far as they are kept. None when there is no such container.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn lines(&self, id: &Id, query: &LineQuery) -> Result<LineStream, Error> {
        match self.launches.get(id) {
            Some(launch) => lines::read(launch.place().clone(), launch.seen(), query).await,
            None => Ok(Box::pin(stream::empty())),
        }
    }

    /// When the launch of container `id` began and ended, and its first process; nothing where there is none.
    pub async fn span(&self, id: &Id) -> Span {
        let place = Place::of(self.launches.directory(), id);
        let found = spawn_blocking(move || Span::of(&place)).await;
        found.expect("looking at files does not panic")
    }

    /// Sends `signal` to the first process of container `id`, if it runs.
    ///
    /// # Errors
    /// [`Error::File`] when its shim cannot be told.
    pub async fn signal(&self, id: &Id, signal: Signal) -> Result<(), Error> {
        match self.launches.get(id) {
            Some(launch) => launch.signal(signal).await,
            None => Ok(()),
        }
    }

    /// Kills all processes of container `id`; returns when they are gone and its ending is known.
    ///
    /// # Errors
    /// [`Error::Stuck`].
    pub async fn kill(&self, id: &Id) -> Result<(), Error> {
        let Some(launch) = self.launches.get(id) else {
            return Ok(());
        };
        let told = launch.signal(Signal::KILL).await;
        if launch.wait_for(ORDERLY, |seen| seen.ending.is_some()).await {
            return Ok(());
        }
        tracing::warn!(launch = %id, error = ?told.err(), "a shim does not end its container: it is killed");
        launch.kill_shim().await;
        match launch.settle(self.launches.program()).await {
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
        if let Some(launch) = self.launches.get(id) {
            self.kill(id).await?;
            if !launch.wait_for(CLEANING, |seen| seen.clean).await
                && let Err(reason) = launch.settle(self.launches.program()).await
            {
                return Err(stuck(id, &reason));
            }
            if !launch.is_clean() {
                return Err(stuck(id, "its shim does not come to an end"));
            }
        }
        delete(Place::of(self.launches.directory(), id).path().to_owned()).await?;
        self.launches.forget(id);
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
        Err(Errno::WOULDBLOCK) => {
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

async fn delete(path: PathBuf) -> Result<(), Error> {
    let deleted = spawn_blocking(move || tree::remove(&path).map_err(|error| file(&path, error)));
    deleted.await.expect("removal does not panic")
}
