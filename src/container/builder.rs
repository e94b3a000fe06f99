//! Builder containers: what a peer creates without a name to compile its chaincode in. Input by archive
//! PUT, one compile, output by archive GET.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::output::{Attached, BuilderLog, Log};
use super::{CreateSpec, Error, Output, Policy, Shown};
use crate::archive::{self, Limits};
use crate::compile::{Compiles, End, Input, Request, Run};
use crate::events::{Action, Events};
use crate::image::Images;
use crate::names::{ContainerId, ImageName, Tenant};
use crate::runtime::{self, Exit, Extent, Life, LogStream, Outcome};
use crate::store::{Blob, Ingest};

/// Where peers put the source and fetch the result (protocol §4.3); a compile has volumes there and only there.
const INPUT: &str = "/chaincode/input";
const OUTPUT: &str = "/chaincode/output";

/// How long `wait` holds its answer for attached clients: fsouza discards what comes after the answer, moby
/// does not read before it (protocol rule 12).
const FLUSH: Duration = Duration::from_secs(2);

/// How long the answer "it failed" keeps behind the last byte for them. fsouza's client reads beside its `wait` and
/// drops what it has not read when that is answered, and nothing tells the server that it has read: on a busy
/// machine every fiftieth error lost its last lines. Peers make nothing of the output of a success.
const READ: Duration = Duration::from_millis(100);

/// A builder whose peer went away is forgotten after this: longer than any peer waits for an install.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// The code of what was stopped by order.
const KILLED: i64 = 137;

pub(super) struct Builder {
    request: Request,
    expires: Instant,
    created: Timestamp,
    started: Mutex<Option<Timestamp>>,
    state: Mutex<State>,
    log: watch::Sender<Log>,
    attached: watch::Sender<usize>,
    waits: Mutex<Waits>,
    /// Changes with every step; `wait` may come before `start`.
    steps: watch::Sender<()>,
    /// Whether those who look on were told that it is over.
    told: Mutex<bool>,
}

/// The `wait`s of a builder.
#[derive(Clone, Copy, Default)]
struct Waits {
    /// Those whose client is there.
    open: usize,
    /// Whether one got its answer: its client comes for the output, and removes the builder.
    answered: bool,
}

/// Counts one `wait` for as long as its client is there.
struct Wait<'a>(&'a Builder);

enum State {
    Created { input: Option<Input> },
    Starting,
    Started(Run),
    Stopped,
}

/// Looks the image up and makes the order; nothing runs yet. `policy` tells what of the order has no effect.
pub(super) async fn order(
    images: &Images,
    policy: &Policy,
    tenant: &Tenant,
    image: ImageName,
    spec: CreateSpec,
) -> Result<Builder, Error> {
    let inspected = match images.inspect(tenant, &image).await {
        Ok(inspected) => inspected,
        Err(crate::image::Error::NotFound(name)) => return Err(Error::ImageMissing(name)),
        Err(error) => return Err(error.into()),
    };
    if spec.cmd.is_empty() && spec.entrypoint.is_none() && inspected.config.is_none() {
        return Err(Error::Invalid(
            "no command: a builder without Cmd needs an image whose registry can be reached".into(),
        ));
    }
    let config = inspected.config.clone().unwrap_or_default();
    let user = match spec.user.as_deref() {
        Some(user) => Some(super::chaincode::numeric_user(user)?),
        None => config.numeric_user(),
    };
    policy.tell_ignored(tenant, &image, &spec);
    let mut command = spec.entrypoint.unwrap_or(config.entrypoint);
    command.extend(if spec.cmd.is_empty() {
        config.cmd
    } else {
        spec.cmd
    });
    let request = Request {
        tenant: tenant.clone(),
        image,
        builder: inspected.config.is_some().then_some(inspected.id),
        facts: inspected.facts,
        manifest: inspected.manifest,
        command,
        env: spec.env,
        working_dir: spec.working_dir,
        user,
        resolution: spec.host.resolution(),
        input: None,
    };
    Ok(Builder {
        request,
        expires: Instant::now() + FORGOTTEN,
        created: Timestamp::now(),
        started: Mutex::default(),
        state: Mutex::new(State::Created { input: None }),
        log: watch::Sender::new(Log::Awaited),
        attached: watch::Sender::new(0),
        waits: Mutex::default(),
        steps: watch::Sender::new(()),
        told: Mutex::new(false),
    })
}

impl Builder {
    pub(super) async fn put_input(&self, path: &str, body: Ingest) -> Result<(), Error> {
        if path.trim_end_matches('/') != INPUT {
            return Err(Error::Invalid(format!(
                "a builder takes its input at {INPUT}, not at {path}"
            )));
        }
        let reader = body.reader()?;
        // Checked here, so that the upload fails instead of the compile.
        let checked =
            tokio::task::spawn_blocking(move || archive::digest(reader, Limits::default()));
        let content = checked.await.expect("reading an archive does not panic")?;
        match &mut *self.state() {
            State::Created {
                input: input @ None,
            } => {
                *input = Some(Input {
                    archive: Arc::new(body),
                    content,
                });
                Ok(())
            }
            State::Created { input: Some(_) } => Err(Error::Invalid(format!(
                "{INPUT} was uploaded already; a builder takes one archive"
            ))),
            _ => Err(Error::Invalid(
                "the builder was started already; its input comes before".into(),
            )),
        }
    }

    pub(super) async fn start(&self, compiles: &Compiles) -> Result<Outcome, Error> {
        let input = match std::mem::replace(&mut *self.state(), State::Starting) {
            State::Created { input } => input,
            other => {
                *self.state() = other;
                return Ok(Outcome::Already);
            }
        };
        *locked(&self.started) = Some(Timestamp::now());
        let run = compiles
            .run(Request {
                input,
                ..self.request.clone()
            })
            .await;
        let (state, log, outcome) = match run {
            Ok(run) => (
                State::Started(run.clone()),
                Log::Open(run.log),
                Ok(Outcome::Done),
            ),
            // The attached clients must not wait for ever (protocol rule 10).
            Err(error) => (State::Stopped, Log::Never, Err(error.into())),
        };
        {
            let mut now = self.state();
            if matches!(*now, State::Stopped) {
                // Stopped meanwhile: letting go of the run ends it when nobody else waits.
                return outcome;
            }
            *now = state;
            // Whoever stops it from here on finds the log that is to be cut.
            self.log.send_replace(log);
        }
        self.steps.send_replace(());
        outcome
    }

    pub(super) fn attach(&self) -> Output {
        Output::Builder(BuilderLog::new(
            self.log.subscribe(),
            Attached::new(&self.attached),
        ))
    }

    /// Waits for the end of the compile, and then for the attached clients. The compile counts on it: it goes on
    /// while somebody waits for it (ADR 0006).
    ///
    /// # Errors
    /// [`Error::ClientGone`] as soon as `gone` is over.
    pub(super) async fn wait(&self, gone: impl Future<Output = ()>) -> Result<Exit, Error> {
        let wait = Wait::new(self);
        tokio::select! {
            biased;
            exit = self.end_for_client() => {
                wait.answered();
                exit
            }
            () = gone => Err(Error::ClientGone),
        }
    }

    /// Whether clients waited for it and have all gone without an answer.
    pub(super) fn is_forsaken(&self) -> bool {
        let waits = *locked(&self.waits);
        waits.open == 0 && !waits.answered
    }

    /// Waits for the end of the compile, as somebody on whom it does not count. Returns at once where none was
    /// started.
    pub(super) async fn over(&self) {
        let run = match &*self.state() {
            State::Started(run) => Some(run.clone()),
            _ => None,
        };
        if let Some(mut run) = run {
            let _ = run.end.wait_for(Option::is_some).await;
        }
    }

    /// Waits until it is over, by its compile or by an order, as somebody on whom the compile does not count.
    pub(super) async fn ended(&self) {
        let mut steps = self.steps.subscribe();
        loop {
            steps.mark_unchanged();
            let run = match &*self.state() {
                State::Started(run) => Some(run.clone()),
                State::Stopped => return,
                State::Created { .. } | State::Starting => None,
            };
            let step = steps.changed();
            match run {
                None => {
                    let _ = step.await;
                }
                Some(mut run) => tokio::select! {
                    _ = step => {}
                    // Without a compile nobody ends it any more.
                    _ = run.end.wait_for(Option::is_some) => return,
                },
            }
        }
    }

    /// Has `tell` tell something of it, while nobody else does; it is given whether the end was told.
    pub(super) fn in_order<T>(&self, tell: impl FnOnce(&mut bool) -> T) -> T {
        tell(&mut locked(&self.told))
    }

    /// Tells those who look on that it is over, once; nothing where it was not started, or goes on.
    pub(super) fn tell_end(&self, events: &Events, tenant: &Tenant, id: ContainerId) {
        self.in_order(|told| self.tell_end_once(told, events, tenant, id));
    }

    /// The same, where [`in_order`](Self::in_order) holds back what others tell.
    pub(super) fn tell_end_once(
        &self,
        told: &mut bool,
        events: &Events,
        tenant: &Tenant,
        id: ContainerId,
    ) {
        let shown = Shown::of_builder(tenant, id, self);
        let is_over = matches!(
            shown.state,
            runtime::State::Exited(_) | runtime::State::NeverStarted(_)
        );
        if is_over && shown.life.started.is_some() && !std::mem::replace(told, true) {
            events.tell(tenant, super::happened::event(&shown, Action::Die));
        }
    }

    async fn end_for_client(&self) -> Result<Exit, Error> {
        let mut steps = self.steps.subscribe();
        let (end, asker) = loop {
            steps.mark_unchanged();
            let run = match &*self.state() {
                State::Started(run) => Some(run.clone()),
                State::Stopped => return Ok(Exit { code: KILLED }),
                State::Created { .. } | State::Starting => None,
            };
            let step = steps.changed();
            match run {
                None => {
                    let _ = step.await;
                }
                Some(mut run) => {
                    let asker = run.ask();
                    tokio::select! {
                        _ = step => {}
                        end = run.end.wait_for(Option::is_some) => break (end.ok().and_then(|end| end.clone()), asker),
                    }
                }
            }
        };
        let mut attached = self.attached.subscribe();
        let _ = timeout(FLUSH, attached.wait_for(|attached| *attached == 0)).await;
        if matches!(end, Some(End::Exited { code, .. }) if code != 0) {
            sleep(READ).await;
        }
        if let Some(asker) = asker {
            asker.answered();
        }
        match end {
            Some(End::Exited { code, .. }) => Ok(Exit { code }),
            Some(End::Failed(reason)) => Err(Error::NeverStarted(heard(&reason))),
            None => Err(Error::NeverStarted(
                "the compile was dropped: the server is shutting down".into(),
            )),
        }
    }

    pub(super) fn output(&self, path: &str) -> Option<Blob> {
        if path.trim_end_matches('.').trim_end_matches('/') != OUTPUT {
            return None;
        }
        match &*self.state() {
            State::Started(run) => match &*run.end.borrow() {
                Some(End::Exited { output, .. }) => *output,
                _ => None,
            },
            _ => None,
        }
    }

    /// Lets go of the compile: it ends when nobody else waits for it. The attached clients have their end now, with
    /// what was written until here (protocol rule 10).
    pub(super) fn stop(&self) -> Outcome {
        let was = {
            let mut state = self.state();
            match &*state {
                State::Started(run) if run.end.borrow().is_some() => return Outcome::Already,
                State::Stopped => return Outcome::Already,
                _ => std::mem::replace(&mut *state, State::Stopped),
            }
        };
        self.log.send_modify(|log| {
            *log = match log {
                Log::Open(spool) => Log::Cut(spool.clone(), spool.len()),
                _ => Log::Never,
            };
        });
        self.steps.send_replace(());
        match was {
            State::Started(_) | State::Starting => Outcome::Done,
            State::Created { .. } | State::Stopped => Outcome::Already,
        }
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    /// What it is doing, for people.
    pub(super) fn shown_state(&self) -> runtime::State {
        match &*self.state() {
            State::Created { .. } => runtime::State::Created,
            State::Starting => runtime::State::Starting,
            State::Started(run) => match &*run.end.borrow() {
                None => runtime::State::Running,
                Some(End::Exited { code, .. }) => runtime::State::Exited(Exit { code: *code }),
                Some(End::Failed(reason)) => runtime::State::NeverStarted(reason.to_string()),
            },
            State::Stopped => runtime::State::Exited(Exit { code: KILLED }),
        }
    }

    /// When it lived; its end is known to those alone who wait for it.
    pub(super) fn life(&self) -> Life {
        Life {
            created: Some(self.created),
            started: *locked(&self.started),
            ..Life::default()
        }
    }

    /// The log for one who reads it beside the peer: nobody's `wait` looks for that.
    pub(super) fn read_log(&self, extent: Extent) -> LogStream {
        let (spool, cut) = match &*self.log.borrow() {
            Log::Awaited | Log::Never => return futures::stream::empty().boxed(),
            Log::Open(spool) => (spool.clone(), None),
            Log::Cut(spool, end) => (spool.clone(), Some(*end)),
        };
        let end = match extent {
            Extent::Present => Some(cut.unwrap_or_else(|| spool.len())),
            Extent::Follow => cut,
        };
        futures::stream::unfold(spool.reader(), move |mut reader| async move {
            if end.is_some_and(|end| reader.position() >= end) {
                return None;
            }
            let bytes = reader.next().await.transpose()?;
            Some((bytes.map_err(std::io::Error::other), reader))
        })
        .boxed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

impl<'a> Wait<'a> {
    fn new(builder: &'a Builder) -> Self {
        locked(&builder.waits).open += 1;
        Self(builder)
    }

    fn answered(&self) {
        locked(&self.0.waits).answered = true;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        locked(&self.0.waits).open -= 1;
    }
}

/// `reason` as a peer can pass it on: it breaks off its open `/build` with what `wait` was answered, and fsouza's client says "cannot
/// connect to Docker endpoint" of any error with these two words in it (`client.go`, `stream` and `do`).
fn heard(reason: &str) -> String {
    reason.replace("connection refused", "connection was refused")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds a builder's parts")
}

/// All builders, by tenant and id.
#[derive(Default)]
pub(super) struct Builders(Mutex<HashMap<(Tenant, ContainerId), Arc<Builder>>>);

impl Builders {
    /// Adds one; gives those that are forgotten since nobody came for them.
    pub(super) fn insert(
        &self,
        tenant: &Tenant,
        id: ContainerId,
        builder: Builder,
    ) -> Vec<(Tenant, ContainerId, Arc<Builder>)> {
        let now = Instant::now();
        let mut builders = self.lock();
        let forgotten = builders.extract_if(|_, builder| builder.expires <= now);
        let forgotten = forgotten.map(|((tenant, id), builder)| (tenant, id, builder));
        let forgotten = forgotten.collect();
        builders.insert((tenant.clone(), id), Arc::new(builder));
        forgotten
    }

    pub(super) fn get(&self, tenant: &Tenant, id: &ContainerId) -> Option<Arc<Builder>> {
        self.lock().get(&(tenant.clone(), *id)).cloned()
    }

    /// Those of `tenant`.
    pub(super) fn of(&self, tenant: &Tenant) -> Vec<(ContainerId, Arc<Builder>)> {
        let builders = self.lock();
        let own = builders.iter().filter(|((whose, _), _)| whose == tenant);
        own.map(|((_, id), builder)| (*id, Arc::clone(builder)))
            .collect()
    }

    /// Removes one; whether it was there.
    pub(super) fn remove(&self, tenant: &Tenant, id: &ContainerId) -> bool {
        self.lock().remove(&(tenant.clone(), *id)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Tenant, ContainerId), Arc<Builder>>> {
        self.0
            .lock()
            .expect("nothing panics while it holds the builders")
    }
}
