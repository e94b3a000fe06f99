//! One launch as [`super`] knows it: what was seen of it, and how its shim is started, told and cleaned up after. The
//! shim may be a child of this process or of one that is gone; nothing here depends on which.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::State;
use super::ending::Ending;
use super::error::{Error, StartError, file};
use super::lock;
use super::logs::Progress;
use super::order::{Limitation, Verdict};
use super::place::{Id, Place};

/// How long the runtime may take to start a container, also where layers have to be copied.
const START: Duration = Duration::from_secs(300);
/// How long cleaning up after a shim may take.
const CLEANING: Duration = Duration::from_secs(30);

/// More than any verdict has.
const VERDICT_BYTES: u64 = 64 * 1024;

/// Of the next launch.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What was seen of a launch.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Changes with the output.
    output: u64,
    /// The process runs, or did.
    pub(super) started: bool,
    pub(super) ending: Option<Ending>,
    /// Nothing is left but the files that tell of it.
    pub(super) clean: bool,
    /// Somebody looks after it.
    settling: bool,
    /// It is being started: its shim may not even have its lock yet.
    pub(super) beginning: bool,
}

impl Progress for Seen {
    fn is_over(&self) -> bool {
        self.ending.is_some()
    }
}

/// One launch.
pub(super) struct Launch {
    number: u64,
    id: Id,
    place: Place,
    seen: watch::Sender<Seen>,
}

/// What the files say.
struct Found {
    ending: Option<Ending>,
    alive: bool,
    cleaned: bool,
}

impl Found {
    /// Whether nothing is left but the files that tell of it.
    fn is_clean(&self) -> bool {
        !self.alive && self.cleaned && self.ending.is_some()
    }
}

/// The right to look after a launch, which one has at a time.
struct Turn<'a>(&'a watch::Sender<Seen>);

impl<'a> Turn<'a> {
    fn take(seen: &'a watch::Sender<Seen>) -> Option<Self> {
        let taken = seen.send_if_modified(|seen| !std::mem::replace(&mut seen.settling, true));
        // Not made unless taken: dropping it gives the right back.
        taken.then(|| Self(seen))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.settling = false);
    }
}

impl Launch {
    /// One that is about to be started.
    pub(super) fn beginning(id: &Id, place: Place) -> Self {
        Self::of(id, place, |seen| seen.beginning = true)
    }

    /// One of an earlier process, whose start is long over.
    pub(super) fn adopted(id: &Id, place: Place) -> Self {
        Self::of(id, place, |seen| seen.started = true)
    }

    fn of(id: &Id, place: Place, known: impl FnOnce(&mut Seen)) -> Self {
        let mut seen = Seen::default();
        known(&mut seen);
        Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            id: id.clone(),
            place,
            seen: watch::Sender::new(seen),
        }
    }

    /// No other launch of this process has it.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn id(&self) -> &Id {
        &self.id
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    pub(super) fn state(&self) -> State {
        let seen = self.seen.borrow();
        match &seen.ending {
            Some(ending) => State::Ended(ending.clone()),
            None if seen.started => State::Running,
            None => State::Starting,
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.seen.borrow().clean
    }

    /// There is more output.
    pub(super) fn grew(&self) {
        self.seen
            .send_modify(|seen| seen.output = seen.output.wrapping_add(1));
    }

    /// Whether `condition` holds within `limit`.
    pub(super) async fn wait_for(&self, limit: Duration, condition: fn(&Seen) -> bool) -> bool {
        let mut seen = self.seen();
        let waiting = seen.wait_for(condition);
        matches!(timeout(limit, waiting).await, Ok(Ok(_)))
    }

    /// Starts a shim and hears what becomes of the start. Nobody else looks after the launch meanwhile.
    pub(super) async fn start(
        &self,
        program: &Path,
        tasks: &TaskTracker,
    ) -> Result<Vec<Limitation>, StartError> {
        let started = self.begin(program, tasks).await;
        self.seen.send_modify(|seen| seen.beginning = false);
        started
    }

    async fn begin(
        &self,
        program: &Path,
        tasks: &TaskTracker,
    ) -> Result<Vec<Limitation>, StartError> {
        let mut child = self.shim(program, "run")?;
        let mut line = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            // What could not be read was not said.
            let mut verdict = stdout.take(VERDICT_BYTES);
            let said = timeout(START, verdict.read_to_end(&mut line)).await;
            if said.is_err() {
                self.kill_shim().await;
                let _ = child.kill().await;
                return Err(StartError::NeverStarted(format!(
                    "the container runtime did not start it within {} s",
                    START.as_secs()
                )));
            }
        }
        match serde_json::from_slice(&line) {
            Ok(Verdict::Running { limitations }) => {
                self.seen.send_modify(|seen| seen.started = true);
                // It is a child of this process for as long as both live.
                tasks.spawn(async move { child.wait().await });
                Ok(limitations)
            }
            Ok(Verdict::NeverStarted { reason }) => {
                let _ = child.wait().await;
                Err(StartError::NeverStarted(reason))
            }
            Err(_) => {
                let status = child.wait().await;
                let status =
                    status.map_or_else(|error| error.to_string(), |status| status.to_string());
                let said = self.last_word().await;
                Err(StartError::NeverStarted(format!(
                    "its shim ended with {status}: {said}"
                )))
            }
        }
    }

    /// Looks whether the shim is gone, and if so cleans up after it and learns how it ended. Of several callers one does it
    /// and the others wait for that.
    ///
    /// # Errors
    /// What is left, and why.
    pub(super) async fn settle(&self, program: &Path) -> Result<(), String> {
        let mut seen = self.seen();
        let turn = loop {
            if let Some(turn) = Turn::take(&self.seen) {
                break turn;
            }
            // The sender is in `self`, so this cannot fail.
            let _ = seen.wait_for(|seen| !seen.settling).await;
        };
        let found = self.look().await;
        if found.alive || self.is_clean() || self.seen.borrow().beginning {
            return Ok(());
        }
        let mut cleaned = Ok(());
        if !found.is_clean() {
            let mut cleaner = self
                .shim(program, "clean")
                .map_err(|error| error.to_string())?;
            let Ok(status) = timeout(CLEANING, cleaner.wait()).await else {
                let _ = cleaner.kill().await;
                return Err(format!(
                    "its cleaning took more than {} s",
                    CLEANING.as_secs()
                ));
            };
            let status = status.map_err(|error| error.to_string())?;
            if !self.look().await.is_clean() {
                let said = self.last_word().await;
                cleaned = Err(format!("its cleaning ended with {status}: {said}"));
            }
        }
        if cleaned.is_ok() {
            self.seen.send_modify(|seen| seen.clean = true);
        }
        drop(turn);
        cleaned
    }

    /// Notes an ending that is there.
    pub(super) async fn note_ending(&self) {
        self.look().await;
    }

    /// What the files say; an ending among it is noted.
    async fn look(&self) -> Found {
        let place = self.place.clone();
        let found = spawn_blocking(move || Found::of(&place))
            .await
            .expect("a look does not panic");
        if let Some(ending) = &found.ending {
            self.seen.send_if_modified(|seen| {
                let news = seen.ending.is_none();
                seen.ending.get_or_insert_with(|| ending.clone());
                news
            });
        }
        found
    }

    /// Sends `signal` to the container's first process by way of the shim, which alone knows for certain which that is.
    pub(super) async fn signal(&self, signal: Signal) -> Result<(), Error> {
        let path = self.place.signals();
        let number = u8::try_from(signal.as_raw()).unwrap_or_default();
        let sent = spawn_blocking(move || {
            // Does not wait for a reader: without one the shim is dead, and a look at the lock has told or will tell.
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            let fifo = OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(&path);
            match fifo.and_then(|mut fifo| fifo.write_all(&[number])) {
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(()),
                sent => sent.map_err(|error| file(&path, error)),
            }
        });
        sent.await.expect("a write does not panic")
    }

    /// Kills the shim, if it lives.
    pub(super) async fn kill_shim(&self) {
        let place = self.place.clone();
        let killed = spawn_blocking(move || {
            let pid = lock::shim(&place)?;
            let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // That it is so still means that it was so when the handle was made: the number is its own.
            let same = lock::shim(&place) == Some(pid);
            same.then(|| pidfd_send_signal(&handle, Signal::KILL))
        });
        // Whether it worked is seen by what comes.
        let _ = killed.await;
    }

    /// Starts this program to look after the launch. It gets neither environment nor directory of Peitho.
    fn shim(&self, program: &Path, job: &str) -> Result<Child, Error> {
        let log = self.place.shim_log();
        let stderr = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&log)
            .map_err(|error| file(&log, error))?;
        Command::new(program)
            .args(["shim", job])
            .arg(self.place.path())
            .env_clear()
            // The runtime is known by its path; what it starts, if anything, is looked for as ever.
            .env(
                "PATH",
                std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()),
            )
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| file(program, error))
    }

    /// The last line of the shim's log.
    async fn last_word(&self) -> String {
        let path = self.place.shim_log();
        let text = spawn_blocking(move || fs::read_to_string(path)).await;
        let text = text
            .expect("reading a file does not panic")
            .unwrap_or_default();
        text.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Found {
    fn of(place: &Place) -> Self {
        // The lock first: what a shim wrote before it died is there when it is known to be dead.
        let alive = lock::shim(place).is_some();
        Self {
            alive,
            ending: Ending::read(place).ok().flatten(),
            cleaned: !place.bundle().exists(),
        }
    }
}
