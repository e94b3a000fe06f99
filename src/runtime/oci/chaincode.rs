//! The orders for chaincode containers: record, files, launch, end and removal. Called through the trait in `oci`,
//! which has taken the container's turn where two orders must not overlap.

use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::Oci;
use super::composition;
use super::host::{self, Ending};
use super::records::{Chaincode, Phase, Record, Records};
use crate::names::{ContainerKey, HostName, Tenant};
use crate::runtime::{
    ChaincodeSpec, Error, Exit, Found, Life, LineQuery, LineStream, LogStream, Outcome, Place,
    State, UploadedFile,
};

/// What a container's record may hold of files, in bytes: the same as in Kubernetes.
const FILES_LIMIT: usize = 768 << 10;

/// How long a process that is told to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(1);

impl Oci {
    fn chaincode_name(&self, key: &ContainerKey) -> HostName {
        HostName::chaincode(&self.settings.instance, key)
    }

    pub(super) async fn create_record(&self, spec: &ChaincodeSpec) -> Result<(), Error> {
        let name = self.chaincode_name(&spec.key);
        if !self.records.knows(&name) {
            // What a removal that failed in the middle left.
            self.host.remove(&name).await?;
        }
        let record = Record::Chaincode(Box::new(Chaincode {
            spec: spec.clone(),
            files: Vec::new(),
            started: false,
            created_millis: Some(Timestamp::now().as_millisecond()),
        }));
        match self.records.create(&name, record).await? {
            true => Ok(()),
            false => Err(Error::Exists(spec.key.clone())),
        }
    }

    pub(super) async fn find_container(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        let name = self.chaincode_name(key);
        let (Some(chaincode), Some(phase)) =
            (self.records.chaincode(&name), self.records.phase(&name))
        else {
            return Ok(None);
        };
        let phase = phase.borrow().clone();
        let span = self.host.span(&name).await;
        let state = match phase {
            // The order was given; its layers are being unpacked.
            Phase::Created if chaincode.started => State::Starting,
            Phase::Created => State::Created,
            Phase::Refused(reason) => State::NeverStarted(reason),
            Phase::Removed => return Ok(None),
            Phase::Launched => self.launched_state(&name),
        };
        let life = Life {
            created: chaincode
                .created_millis
                .and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            started: span.started,
            finished: span.finished,
            out_of_memory: matches!(
                self.host.state(&name),
                Some(host::State::Ended(Ending::Exited {
                    out_of_memory: true,
                    ..
                }))
            ),
            why: None,
            place: span
                .pid
                .filter(|_| state == State::Running)
                .map_or(Place::Unknown, |pid| Place::Process { pid }),
        };
        Ok(Some(Found {
            spec: chaincode.spec,
            state,
            life,
        }))
    }

    pub(super) async fn list_containers(&self, tenant: &Tenant) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        for key in self.records.of_tenant(tenant) {
            // One that was removed in the meantime is none.
            found.extend(self.find_container(&key).await?);
        }
        Ok(found)
    }

    fn launched_state(&self, name: &HostName) -> State {
        match self.host.state(name) {
            Some(host::State::Starting) => State::Starting,
            Some(host::State::Running) => State::Running,
            Some(host::State::Ended(Ending::Exited { code, .. })) => State::Exited(Exit { code }),
            Some(host::State::Ended(Ending::NeverStarted { reason })) => {
                State::NeverStarted(reason)
            }
            None => State::NeverStarted(INTERRUPTED.to_owned()),
        }
    }

    fn is_running(&self, name: &HostName) -> bool {
        self.host.state(name) == Some(host::State::Running)
    }

    pub(super) async fn add_files(
        &self,
        key: &ContainerKey,
        files: Vec<UploadedFile>,
    ) -> Result<(), Error> {
        let (name, chaincode) = self.existing(key)?;
        if chaincode.started {
            return Err(Error::Refused(format!(
                "container {key} was started: files can be put before the start only"
            )));
        }
        let bytes = files
            .iter()
            .map(|it| it.content.expose_secret().len())
            .sum();
        if bytes > FILES_LIMIT {
            return Err(Error::FilesTooLarge {
                key: key.clone(),
                bytes,
                limit: FILES_LIMIT,
            });
        }
        self.records.put_files(&name, chaincode, files).await
    }

    /// Starts the container. Whoever waits for the launch, or reads its output, hears of a refusal (protocol rule 10).
    pub(super) async fn launch(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        let (name, chaincode) = self.existing(key)?;
        if self.is_running(&name) {
            return Ok(Outcome::Already);
        }
        // Who waits meanwhile waits for this launch.
        self.records.set_phase(&name, Phase::Created);
        let mut told = Told {
            records: &self.records,
            name: &name,
            phase: Phase::Launched,
        };
        self.records.set_started(&name, chaincode.clone()).await?;
        let launched = self.launch_now(&name, &chaincode).await;
        if let Err(error) = &launched {
            told.phase = Phase::Refused(error.to_string());
        }
        drop(told);
        launched.map(|()| Outcome::Done)
    }

    async fn launch_now(&self, name: &HostName, chaincode: &Chaincode) -> Result<(), Error> {
        // What an earlier launch left.
        self.host.clear(name).await?;
        let spec = &chaincode.spec;
        let (base, layer) = tokio::try_join!(
            async { self.rootfs.base(&spec.base).await.map_err(Error::from) },
            async { self.rootfs.layer(&spec.layer).await.map_err(Error::from) },
        )?;
        let files = chaincode
            .files
            .iter()
            .map(|file| (self.records.file(name, file), file.path.clone()));
        let plan = composition::chaincode(spec, &base, layer, files);
        Ok(self.host.start(name, &plan).await?)
    }

    pub(super) async fn until_started(&self, key: &ContainerKey) -> Result<State, Error> {
        let name = self.chaincode_name(key);
        let phase = self.started(key, &name).await?;
        Ok(match phase {
            Phase::Refused(reason) => State::NeverStarted(reason),
            _ => self.launched_state(&name),
        })
    }

    pub(super) async fn until_exit(&self, key: &ContainerKey) -> Result<Exit, Error> {
        let name = self.chaincode_name(key);
        match self.started(key, &name).await? {
            Phase::Refused(reason) => Err(Error::NeverStarted(reason)),
            _ => match self.host.ended(&name).await {
                Some(Ending::Exited { code, .. }) => Ok(Exit { code }),
                Some(Ending::NeverStarted { reason }) => Err(Error::NeverStarted(reason)),
                None if self.records.knows(&name) => {
                    Err(Error::NeverStarted(INTERRUPTED.to_owned()))
                }
                None => Err(Error::NotFound(key.clone())),
            },
        }
    }

    /// Waits for the start, or for the failure of it.
    async fn started(&self, key: &ContainerKey, name: &HostName) -> Result<Phase, Error> {
        let phase = self.records.phase(name);
        let mut phase = phase.ok_or_else(|| Error::NotFound(key.clone()))?;
        let started = phase.wait_for(|phase| *phase != Phase::Created).await;
        match started.map(|phase| phase.clone()) {
            Ok(Phase::Removed) | Err(_) => Err(Error::NeverStarted(format!(
                "container {key} was removed before it was started"
            ))),
            Ok(phase) => Ok(phase),
        }
    }

    pub(super) async fn end_launch(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        let (name, _) = self.existing(key)?;
        // As Docker: a start that is under way, which may be without anybody who waits for it, has its end first.
        if self.host.settled(&name).await != Some(host::State::Running) {
            return Ok(Outcome::Already);
        }
        // As a pod has it: a second to end by itself.
        self.host.signal(&name, Signal::TERM).await?;
        if timeout(GRACE, self.host.ended(&name)).await.is_err() {
            self.host.kill(&name).await?;
        }
        Ok(Outcome::Done)
    }

    pub(super) async fn remove_container(&self, key: &ContainerKey) -> Result<(), Error> {
        let (name, _) = self.existing(key)?;
        self.host.kill(&name).await?;
        self.records.remove(&name).await?;
        Ok(self.host.remove(&name).await?)
    }

    pub(super) async fn follow_logs(&self, key: &ContainerKey) -> Result<LogStream, Error> {
        let name = self.chaincode_name(key);
        match self.started(key, &name).await? {
            Phase::Refused(reason) => Err(Error::NeverStarted(reason)),
            _ => Ok(self.host.logs(&name)),
        }
    }

    pub(super) async fn read_lines(
        &self,
        key: &ContainerKey,
        query: &LineQuery,
    ) -> Result<LineStream, Error> {
        let (name, _) = self.existing(key)?;
        Ok(self.host.lines(&name, query).await?)
    }

    pub(super) fn existing(&self, key: &ContainerKey) -> Result<(HostName, Chaincode), Error> {
        let name = self.chaincode_name(key);
        match self.records.chaincode(&name) {
            Some(chaincode) => Ok((name, chaincode)),
            None => Err(Error::NotFound(key.clone())),
        }
    }
}

/// Of a container whose start was under way when Peitho was killed, or when its client went.
const INTERRUPTED: &str = "the start of the container did not come to its end; start it again";

/// Tells those who wait for a launch what became of it, also when its order was dropped: the launch goes on then.
struct Told<'a> {
    records: &'a Records,
    name: &'a HostName,
    phase: Phase,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.records.set_phase(self.name, self.phase.clone());
    }
}
