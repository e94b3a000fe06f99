//! The cluster of these tests, the one thing here that is not real.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use peitho::names::{CompileKey, ContainerId, ContainerKey, ImageName, SpareId, Tenant};
use peitho::runtime::{
    self, ChaincodeSpec, CompileSpec, Exit, Found, Launch, Life, LineQuery, LineStream, LogStream,
    Outcome, Runtime, SpareSpec, Spares, Started, State, Traits, UploadedFile,
};
use tokio::sync::{mpsc, oneshot};

/// What the cluster says of a container that is gone.
type Lost = Result<Exit, runtime::Error>;

/// A cluster in which nothing runs: containers are what the test says, compiles never end by themselves.
pub(crate) struct Cluster {
    /// The container of the next compile ends by this, and so.
    losing: Mutex<Option<(oneshot::Receiver<()>, Lost)>>,
    pub(crate) containers: Mutex<HashMap<ContainerKey, ChaincodeSpec>>,
    /// Bytes of disk that a compile may take.
    pub(crate) disk: Mutex<Option<u64>>,
    started: mpsc::UnboundedSender<CompileKey>,
    /// Where compiles meet containers made ahead of need.
    pub(crate) spares: Spares,
    /// Who wants to hear of the next one, and that its agent asks.
    making: Mutex<Option<(oneshot::Sender<SpareId>, oneshot::Sender<()>)>>,
}

impl Cluster {
    /// It tells `started` of each compile.
    pub(crate) fn new(started: mpsc::UnboundedSender<CompileKey>) -> Self {
        Self {
            containers: Mutex::default(),
            disk: Mutex::default(),
            losing: Mutex::default(),
            started,
            spares: Spares::new(1),
            making: Mutex::default(),
        }
    }

    /// The next container that is made ahead of need, and its agent's first question. Until this is asked for, none is made.
    pub(crate) fn made(&self) -> (oneshot::Receiver<SpareId>, oneshot::Receiver<()>) {
        let ((making, made), (asking, asked)) = (oneshot::channel(), oneshot::channel());
        *self.making.lock().unwrap() = Some((making, asking));
        (made, asked)
    }

    /// What ends the container of the next compile.
    pub(crate) fn lost(&self) -> oneshot::Sender<()> {
        self.losing_by(Ok(Exit { code: 137 }))
    }

    /// The same, for want of room on its node.
    pub(crate) fn evicted(&self) -> oneshot::Sender<()> {
        self.losing_by(Err(runtime::Error::OutOfRoom("no room".to_owned())))
    }

    fn losing_by(&self, verdict: Lost) -> oneshot::Sender<()> {
        let (sender, lost) = oneshot::channel();
        *self.losing.lock().unwrap() = Some((lost, verdict));
        sender
    }
}

#[async_trait]
impl Runtime for Cluster {
    async fn create(&self, spec: &ChaincodeSpec) -> Result<(), runtime::Error> {
        Err(runtime::Error::Exists(spec.key.clone()))
    }

    async fn find(&self, key: &ContainerKey) -> Result<Option<Found>, runtime::Error> {
        let spec = self.containers.lock().unwrap().get(key).cloned();
        Ok(spec.map(|spec| Found {
            spec,
            state: State::Running,
            life: Life::default(),
        }))
    }

    async fn list(&self, _: &Tenant) -> Result<Vec<Found>, runtime::Error> {
        Ok(Vec::new())
    }

    async fn lines(&self, key: &ContainerKey, _: &LineQuery) -> Result<LineStream, runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn find_id(
        &self,
        _: &Tenant,
        _: &ContainerId,
    ) -> Result<Option<ContainerKey>, runtime::Error> {
        Ok(None)
    }

    async fn put_files(
        &self,
        key: &ContainerKey,
        _: Vec<UploadedFile>,
    ) -> Result<(), runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn start(self: Arc<Self>, key: &ContainerKey) -> Result<Started, runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn wait_running(&self, key: &ContainerKey) -> Result<State, runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn wait_exit(&self, key: &ContainerKey) -> Result<Exit, runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn follow(self: Arc<Self>, key: &ContainerKey) -> Result<Option<Launch>, runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn stop(&self, key: &ContainerKey) -> Result<Outcome, runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn remove(&self, key: &ContainerKey) -> Result<Option<Found>, runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn logs(&self, key: &ContainerKey) -> Result<LogStream, runtime::Error> {
        Err(runtime::Error::NotFound(key.clone()))
    }

    async fn compile(&self, spec: &CompileSpec) -> Result<Exit, runtime::Error> {
        // Nobody listens any more in a test that is over.
        let losing = self.losing.lock().unwrap().take();
        let _ = self.started.send(spec.key);
        match losing {
            Some((lost, verdict)) => {
                lost.await.unwrap();
                verdict
            }
            None => std::future::pending().await,
        }
    }

    fn disk_limit(&self, _: &Tenant, _: &ImageName) -> Option<u64> {
        *self.disk.lock().unwrap()
    }

    async fn spare(&self, spec: &SpareSpec) -> Result<(), runtime::Error> {
        let Some((making, asking)) = self.making.lock().unwrap().take() else {
            return Ok(());
        };
        let traits = Traits {
            tenant: spec.tenant.clone(),
            room: String::new(),
            class: spec.builder,
        };
        let admitted = self.spares.admit(spec.id, traits);
        let mut admitted = admitted.unwrap();
        making.send(spec.id).unwrap();
        admitted.asked().await;
        asking.send(()).unwrap();
        admitted.ended().await;
        Ok(())
    }

    fn spares(&self) -> Option<&Spares> {
        Some(&self.spares)
    }

    async fn unheld(&self, _: Duration) -> Result<Vec<CompileKey>, runtime::Error> {
        Ok(Vec::new())
    }

    async fn discard(&self, _: Option<&Tenant>, _: &CompileKey) -> Result<(), runtime::Error> {
        Ok(())
    }

    async fn ready(&self) -> Result<(), runtime::Error> {
        Ok(())
    }
}
