//! A cluster that does what a test says. It has one container, `cc`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use peitho::image_spec::Layer;
use peitho::names::{CompileKey, ContainerId, ContainerKey, Digest, Tenant};
use peitho::runtime::{
    ChaincodeSpec, CompileSpec, Error, Exit, Found, HostSpec, Launch, LaunchMark, Life, LineQuery,
    LineStream, LogStream, Outcome, Runtime, Started, State, UploadedFile,
};
use peitho::store::Blob;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

pub(crate) struct Cluster {
    pub(crate) state: watch::Sender<State>,
    log: Mutex<Option<mpsc::UnboundedReceiver<Bytes>>>,
    pub(crate) files: Mutex<Vec<UploadedFile>>,
    /// The chaincode containers that were ordered; none is made.
    pub(crate) orders: Mutex<Vec<ChaincodeSpec>>,
    /// The compile that was asked for; it ends as the test reports.
    pub(crate) compile: watch::Sender<Option<CompileKey>>,
    /// The compiles that were ended.
    pub(crate) discarded: watch::Sender<Vec<CompileKey>>,
    /// Whether the API server is away: the first removal of a compile is told so, the next one is under way until
    /// it is back.
    pub(crate) away: watch::Sender<Away>,
    /// The compiles that no process holds.
    pub(crate) left: Mutex<Vec<CompileKey>>,
    /// Why no start is accepted.
    pub(crate) refuses: Mutex<Option<String>>,
    /// How many answers to a start are held back that was carried out: one waits while there are any.
    pub(crate) held: watch::Sender<usize>,
    /// How often a launch was looked for.
    pub(crate) sought: watch::Sender<usize>,
    /// Whether it tells what there is.
    pub(crate) lists: Mutex<bool>,
    /// Whether what happens to launches is heard of.
    pub(crate) hears: watch::Sender<bool>,
}

/// The API server, for removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    No,
    Untold,
    Told,
}

impl Cluster {
    /// The cluster, and what the process of `cc` writes; its output ends when that is dropped.
    pub(crate) fn new() -> (Self, mpsc::UnboundedSender<Bytes>) {
        let (process, log) = mpsc::unbounded_channel();
        let cluster = Self {
            state: watch::Sender::new(State::Created),
            log: Mutex::new(Some(log)),
            files: Mutex::default(),
            orders: Mutex::default(),
            compile: watch::Sender::new(None),
            discarded: watch::Sender::default(),
            away: watch::Sender::new(Away::No),
            left: Mutex::default(),
            refuses: Mutex::default(),
            held: watch::Sender::new(0),
            sought: watch::Sender::new(0),
            lists: Mutex::new(true),
            hears: watch::Sender::new(true),
        };
        (cluster, process)
    }

    /// The launch of `key`; none comes after it here.
    fn launch(self: &Arc<Self>, spec: ChaincodeSpec) -> Launch {
        let found = move |state| Found {
            spec: spec.clone(),
            state,
            life: Life {
                why: Some("the test said so".to_owned()),
                ..Life::default()
            },
        };
        let (running, over) = (Arc::clone(self), Arc::clone(self));
        let begun = async move { running.heard(has_begun).await };
        let ended = async move { over.heard(is_over).await };
        Launch {
            mark: LaunchMark::new("the only one"),
            begun: found(State::Starting),
            course: stream::once(begun)
                .chain(stream::once(ended))
                .map(found)
                .boxed(),
        }
    }

    async fn heard(&self, wanted: fn(&State) -> bool) -> State {
        let mut hears = self.hears.subscribe();
        hears.wait_for(|hears| *hears).await.unwrap();
        self.reaches(wanted).await
    }

    async fn reaches(&self, wanted: fn(&State) -> bool) -> State {
        let mut state = self.state.subscribe();
        state.wait_for(wanted).await.unwrap().clone()
    }
}

fn has_begun(state: &State) -> bool {
    !matches!(state, State::Created | State::Starting)
}

fn is_over(state: &State) -> bool {
    matches!(state, State::Exited(_) | State::NeverStarted(_))
}

fn known(key: &ContainerKey) -> Result<(), Error> {
    if key.name.as_str() == "cc" {
        Ok(())
    } else {
        Err(Error::NotFound(key.clone()))
    }
}

/// The order of a container that is there and was not ordered.
fn unordered(key: &ContainerKey) -> ChaincodeSpec {
    let digest = Digest::of(b"nothing");
    ChaincodeSpec {
        key: key.clone(),
        id: ContainerId::random(),
        image: "image".parse().unwrap(),
        package_id: None,
        language: None,
        base: "base".parse().unwrap(),
        base_facts: Default::default(),
        layer: Layer {
            blob: Blob { digest, size: 0 },
            diff_id: digest,
            entries: Vec::new(),
            destination: String::new(),
        },
        whole: None,
        entrypoint: None,
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        user: None,
        host: HostSpec::default(),
    }
}

#[async_trait]
impl Runtime for Cluster {
    async fn create(&self, spec: &ChaincodeSpec) -> Result<(), Error> {
        self.orders.lock().unwrap().push(spec.clone());
        Err(Error::Exists(spec.key.clone()))
    }

    /// What was ordered by this key, as though it had been made, in the state of `cc`.
    async fn find(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        let orders = self.orders.lock().unwrap();
        let order = orders.iter().rfind(|order| order.key == *key);
        Ok(order.map(|order| Found {
            spec: order.clone(),
            state: self.state.borrow().clone(),
            life: Life::default(),
        }))
    }

    async fn find_id(&self, _: &Tenant, _: &ContainerId) -> Result<Option<ContainerKey>, Error> {
        Ok(None)
    }

    async fn list(&self, tenant: &Tenant) -> Result<Vec<Found>, Error> {
        if !*self.lists.lock().unwrap() {
            return Err(Error::Unavailable("connection refused".to_owned()));
        }
        let orders = self.orders.lock().unwrap();
        let own = orders.iter().filter(|order| order.key.tenant == *tenant);
        let found = own.map(|order| Found {
            spec: order.clone(),
            state: self.state.borrow().clone(),
            life: Life::default(),
        });
        Ok(found.collect())
    }

    async fn lines(&self, key: &ContainerKey, _: &LineQuery) -> Result<LineStream, Error> {
        Err(Error::NotFound(key.clone()))
    }

    async fn put_files(&self, key: &ContainerKey, files: Vec<UploadedFile>) -> Result<(), Error> {
        known(key)?;
        self.files.lock().unwrap().extend(files);
        Ok(())
    }

    async fn start(self: Arc<Self>, key: &ContainerKey) -> Result<Started, Error> {
        known(key)?;
        if let Some(reason) = self.refuses.lock().unwrap().clone() {
            let noted = State::NeverStarted(reason.clone());
            self.state.send_replace(noted);
            return Err(Error::Refused(reason));
        }
        let was = self.state.send_replace(State::Running);
        let mut held = self.held.subscribe();
        held.wait_for(|held| *held == 0).await.unwrap();
        let found = self.find(key).await?;
        Ok(Started {
            outcome: match was {
                State::Created => Outcome::Done,
                _ => Outcome::Already,
            },
            launch: self.launch(found.map_or_else(|| unordered(key), |found| found.spec)),
        })
    }

    async fn wait_running(&self, key: &ContainerKey) -> Result<State, Error> {
        known(key)?;
        Ok(self.reaches(has_begun).await)
    }

    async fn wait_exit(&self, key: &ContainerKey) -> Result<Exit, Error> {
        known(key)?;
        match self.reaches(is_over).await {
            State::Exited(exit) => Ok(exit),
            State::NeverStarted(reason) => Err(Error::NeverStarted(reason)),
            other => unreachable!("{other:?} is not over"),
        }
    }

    async fn follow(self: Arc<Self>, key: &ContainerKey) -> Result<Option<Launch>, Error> {
        known(key)?;
        self.sought.send_modify(|sought| *sought += 1);
        let found = self.find(key).await?;
        Ok(found.map(|found| self.launch(found.spec)))
    }

    async fn stop(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        known(key)?;
        let was = self.state.send_replace(State::Exited(Exit { code: 137 }));
        Ok(match was {
            State::Running => Outcome::Done,
            _ => Outcome::Already,
        })
    }

    async fn remove(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        let found = self.find(key).await;
        self.stop(key).await?;
        found
    }

    async fn logs(&self, key: &ContainerKey) -> Result<LogStream, Error> {
        known(key)?;
        let log = self.log.lock().unwrap().take().expect("asked for once");
        let mut state = self.state.subscribe();
        let never_started = async move {
            let never = |state: &State| matches!(state, State::NeverStarted(_));
            let _ = state.wait_for(never).await;
        };
        let output = UnboundedReceiverStream::new(log).map(Ok);
        Ok(output.take_until(Box::pin(never_started)).boxed())
    }

    async fn compile(&self, spec: &CompileSpec) -> Result<Exit, Error> {
        self.compile.send_replace(Some(spec.key));
        std::future::pending().await
    }

    async fn unheld(&self, _: Duration) -> Result<Vec<CompileKey>, Error> {
        Ok(self.left.lock().unwrap().clone())
    }

    async fn discard(&self, _: Option<&Tenant>, key: &CompileKey) -> Result<(), Error> {
        let is_news = self.away.send_if_modified(|away| {
            let is_news = *away == Away::Untold;
            if is_news {
                *away = Away::Told;
            }
            is_news
        });
        if is_news {
            return Err(Error::Unavailable("connection refused".to_owned()));
        }
        let mut away = self.away.subscribe();
        away.wait_for(|away| *away == Away::No).await.unwrap();
        self.discarded.send_modify(|discarded| discarded.push(*key));
        Ok(())
    }

    async fn ready(&self) -> Result<(), Error> {
        Ok(())
    }
}
