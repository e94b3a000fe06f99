//! What the cases share: a registry, a server for each runtime that needs no cluster, and a network with a peer for each.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::engine::Engine;
use testbed::peitho::{self, Containers, Log, Machine};
use testbed::{
    Assets, Dockerd, Fabric, Greetings, Network, PeerConfig, Registry, Release, Run, say,
};

/// What runs the containers of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Peitho itself, by runc.
    Oci,
    /// A Docker Engine, by its API.
    Docker,
}

impl Runtime {
    /// The number of its peer.
    pub(crate) fn peer(self) -> usize {
        match self {
            Self::Oci => 0,
            Self::Docker => 1,
        }
    }

    /// A name for chaincode of its peer: channels know each once.
    pub(crate) fn name(self, chaincode: &str) -> String {
        match self {
            Self::Oci => chaincode.to_owned(),
            Self::Docker => format!("d{chaincode}"),
        }
    }
}

/// Everything real. Fields end in this order.
pub(crate) struct Counterparts {
    fabric: Mutex<Option<Fabric>>,
    machines: [Mutex<Machine>; 2],
    /// What they are configured with when nothing is special.
    configs: [Value; 2],
    dockerd: Dockerd,
    registry: Registry,
    pub(crate) run: Run,
    pub(crate) assets: Assets,
    pub(crate) greetings: Greetings,
}

impl Counterparts {
    pub(crate) fn start() -> Result<Self> {
        let assets = Assets::open()?;
        let program = peitho::program()?;
        assets.prepare()?;
        let run = Run::start()?;
        say("starting the registry, dockerd and Peitho, once for each");
        let registry = Registry::start(&assets, &run)?;
        let images = assets.images()?;
        let dockerd = Dockerd::without_images(&run)?;
        for release in Release::ALL {
            let [_, runtime] = images.fabric(release);
            let builder = assets.warm_builder(release)?;
            registry.push(&builder)?;
            for image in [&builder, runtime] {
                dockerd.pull(&registry, image)?;
            }
        }
        registry.push(&assets.nodeenv()?)?;
        let start = |containers| {
            let program = program.clone();
            Machine::start(&run, program, Log::Trace, containers, &[&registry]).map(Mutex::new)
        };
        let machines = [
            start(Containers::Oci)?,
            start(Containers::Docker(&dockerd))?,
        ];
        let configs = [lock(&machines[0]).config()?, lock(&machines[1]).config()?];
        Ok(Self {
            fabric: Mutex::new(None),
            configs,
            machines,
            dockerd,
            greetings: Greetings::listen(&run)?,
            registry,
            run,
            assets,
        })
    }

    /// Does something with a network of this kind, the one that runs or a new one.
    pub(crate) fn with_network<T>(
        &self,
        network: Network,
        work: impl FnOnce(&Fabric) -> Result<T>,
    ) -> Result<T> {
        let mut fabric = lock(&self.fabric);
        if fabric.as_ref().map(Fabric::network) != Some(network) {
            drop(fabric.take());
            let peer = |runtime: Runtime| {
                let endpoint = self.with_machine(runtime, |machine| Ok(machine.endpoint()))?;
                let (release, index) = (network.release(), runtime.peer());
                let config =
                    PeerConfig::new(release, index, &endpoint, &self.assets, &self.registry)?;
                let builder = self.registry.reference(&self.assets.warm_builder(release)?);
                anyhow::Ok(PeerConfig { builder, ..config })
            };
            let peers = [peer(Runtime::Oci)?, peer(Runtime::Docker)?];
            *fabric = Some(Fabric::start(&self.assets, &self.run, network, peers)?);
        }
        work(fabric.as_ref().context("it was started just now")?)
    }

    /// Ends the network that runs.
    pub(crate) fn end_network(&self) {
        drop(lock(&self.fabric).take());
    }

    /// Does something with the server of a runtime.
    pub(crate) fn with_machine<T>(
        &self,
        runtime: Runtime,
        work: impl FnOnce(&mut Machine) -> Result<T>,
    ) -> Result<T> {
        work(&mut lock(&self.machines[runtime.peer()]))
    }

    /// The server of a runtime, killed and started with another configuration while `work` goes on.
    pub(crate) fn with_configuration<T>(
        &self,
        runtime: Runtime,
        change: impl FnOnce(&mut Value),
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let before = &self.configs[runtime.peer()];
        let mut config = before.clone();
        change(&mut config);
        self.with_machine(runtime, |machine| machine.reconfigure(&self.run, &config))?;
        let done = work();
        self.with_machine(runtime, |machine| machine.reconfigure(&self.run, before))?;
        done
    }

    /// The Engine API of the server of a runtime.
    pub(crate) fn engine(&self, runtime: Runtime) -> Result<Engine> {
        self.with_machine(runtime, |machine| Ok(Engine::new(machine.engine())))
    }

    /// What a peer would have for an endpoint if it used the Docker Engine itself.
    pub(crate) fn docker_endpoint(&self) -> String {
        self.dockerd.endpoint()
    }

    /// Where the images of builders are.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The directory of the store of the `oci` server.
    pub(crate) fn store(&self) -> Result<PathBuf> {
        self.with_machine(Runtime::Oci, |machine| Ok(machine.store().to_owned()))
    }

    /// A further server, of an ordinary user.
    pub(crate) fn machine_of_user(&self) -> Result<Machine> {
        let (program, containers) = (peitho::program()?, Containers::OciOfUser);
        Machine::start(&self.run, program, Log::Info, containers, &[&self.registry])
    }

    /// Undoes what a case that failed in the middle did not undo itself.
    pub(crate) fn mend(&self) {
        for runtime in [Runtime::Oci, Runtime::Docker] {
            let config = &self.configs[runtime.peer()];
            let restarted =
                self.with_machine(runtime, |machine| machine.reconfigure(&self.run, config));
            if let Err(error) = restarted {
                say(format!("what the case spoiled stays so: {error:#}"));
            }
        }
    }

    /// Ends everything.
    pub(crate) fn end(self) -> Result<()> {
        let Self {
            fabric,
            machines,
            dockerd,
            registry,
            run,
            ..
        } = self;
        drop((fabric, machines, dockerd, registry));
        run.finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A case that panicked has failed and said so; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
