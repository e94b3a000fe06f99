//! All launches of a host: what its tasks share. They are kept by their ids, the one watch brings them what happens, and what
//! this host cannot do is said once. [`super`] owns it.

use std::collections::{HashMap, HashSet};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;

use super::error::{Error, StartError, file};
use super::launch::Launch;
use super::order::{Limitation, Order};
use super::place::{self, Id, Place};
use super::tree;
use super::watch::{Event, Sight, Watch};

/// The launches of one directory.
pub(super) struct Launches {
    directory: PathBuf,
    program: PathBuf,
    watch: Watch,
    all: Mutex<HashMap<Id, Arc<Launch>>>,
    /// Which limitations were told.
    told: Mutex<HashSet<&'static str>>,
    tasks: TaskTracker,
    /// The watch has failed for good.
    blind: AtomicBool,
}

impl Launches {
    /// None yet, and what is to be followed.
    pub(super) fn new(directory: PathBuf, program: PathBuf) -> Result<(Self, Sight), Error> {
        let (watch, sight) = Watch::new().map_err(Error::Watch)?;
        let launches = Self {
            directory,
            program,
            watch,
            all: Mutex::default(),
            told: Mutex::default(),
            tasks: TaskTracker::new(),
            blind: AtomicBool::new(false),
        };
        Ok((launches, sight))
    }

    /// The directory of the runtime.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// This program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Where tasks go that nobody waits for.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(super) fn ids(&self) -> Vec<Id> {
        self.all().keys().cloned().collect()
    }

    pub(super) fn get(&self, id: &Id) -> Option<Arc<Launch>> {
        self.all().get(id).cloned()
    }

    /// Whether endings are still seen.
    pub(super) fn sees(&self) -> bool {
        !self.blind.load(Ordering::Relaxed)
    }

    /// Forgets a launch whose directory is gone.
    pub(super) fn forget(&self, id: &Id) {
        self.all().remove(id);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Id, Arc<Launch>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches `launch`, whose directory is there.
    fn register(&self, launch: Launch) -> Result<Arc<Launch>, Error> {
        let launch = Arc::new(launch);
        let id = launch.id();
        // Known before there can be events for it.
        self.all().insert(id.clone(), Arc::clone(&launch));
        self.watch.add(id, launch.place()).map_err(Error::Watch)?;
        Ok(launch)
    }

    /// Takes over the launch that an earlier process left at `id`, and cleans it if its shim is dead.
    pub(super) async fn adopt(&self, id: &Id) -> Result<(), Error> {
        let launch = self.register(Launch::adopted(id, Place::of(&self.directory, id)))?;
        self.look_after(&launch).await;
        Ok(())
    }

    /// Starts a shim for `order`; returns when its process runs.
    pub(super) async fn start(&self, order: Order) -> Result<(), StartError> {
        let id = order.id.clone();
        let place = Place::of(&self.directory, &id);
        let owner = place::container(&self.directory, &id);
        let made = spawn_blocking(move || make(&owner, &place, &order));
        if !made.await.expect("making files does not panic")? {
            return Err(StartError::Started(id));
        }
        let launch = Launch::beginning(&id, Place::of(&self.directory, &id));
        let started = match self.register(launch) {
            Ok(launch) => match launch.start(&self.program, &self.tasks).await {
                Err(StartError::Host(error)) => Err(error),
                Err(error) => {
                    self.look_after(&launch).await;
                    return Err(error);
                }
                Ok(limitations) => Ok(limitations),
            },
            Err(error) => Err(error),
        };
        match started {
            Ok(limitations) => {
                limitations
                    .iter()
                    .for_each(|limitation| self.tell(limitation));
                Ok(())
            }
            // There was no shim: the launch can be tried again.
            Err(error) => {
                self.forget(&id);
                let place = Place::of(&self.directory, &id);
                let removed = spawn_blocking(move || tree::remove(place.path())).await;
                if let Err(error) = removed.expect("removal does not panic") {
                    tracing::error!(launch = %id, %error, "cannot remove a launch that did not begin");
                }
                Err(error.into())
            }
        }
    }

    /// Cleans up after a launch, if its shim is dead.
    async fn look_after(&self, launch: &Launch) {
        if let Err(reason) = launch.settle(&self.program).await {
            tracing::error!(launch = %launch.id(), reason, "cannot clean up after a container");
        }
    }

    /// Brings what the watch sees to the launches, for as long as the host lives.
    pub(super) async fn follow(self: Arc<Self>, mut sight: Sight) {
        loop {
            let event = match self.watch.next(&mut sight).await {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(%error, "cannot watch containers any more");
                    self.blind.store(true, Ordering::Relaxed);
                    return;
                }
            };
            match event {
                Event::Output(id) => {
                    if let Some(launch) = self.get(&id) {
                        launch.grew();
                    }
                }
                Event::Ended(id) => {
                    if let Some(launch) = self.get(&id) {
                        launch.note_ending().await;
                    }
                }
                Event::Free(id) => {
                    if let Some(launch) = self.get(&id) {
                        self.settle(launch);
                    }
                }
                Event::Overflow => {
                    let all: Vec<_> = self.all().values().cloned().collect();
                    for launch in all {
                        launch.grew();
                        self.settle(launch);
                    }
                }
            }
        }
    }

    /// As [`Launches::look_after`], in a task of its own.
    fn settle(self: &Arc<Self>, launch: Arc<Launch>) {
        let launches = Arc::clone(self);
        self.tasks
            .spawn(async move { launches.look_after(&launch).await });
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
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(kind) {
            tracing::warn!(reason, "{meaning}");
        }
    }
}

/// Makes the directory of a launch, with its order. `false` when there is one.
fn make(owner: &Path, place: &Place, order: &Order) -> Result<bool, Error> {
    private(owner)?;
    match DirBuilder::new().mode(0o700).create(place.path()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(file(place.path(), error)),
    }
    if let Err(error) = order.write(place) {
        // What is to be told is why it could not be made.
        let _ = tree::remove(place.path());
        return Err(file(&place.order(), error));
    }
    Ok(true)
}

/// Makes a directory for this user alone, with those above it.
pub(super) fn private(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| file(path, error))
}
