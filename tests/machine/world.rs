//! What the cases share: a registry, the server without a cluster, and a network whose first peer has it for an engine.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use testbed::engine::Engine;
use testbed::peitho::{self, Log, Machine};
use testbed::{Assets, Fabric, Greetings, Network, PeerConfig, Registry, Release, Run, say};

/// The peer whose engine is Peitho.
pub(crate) const PEER: usize = 0;

/// Everything real. Fields end in this order.
pub(crate) struct Counterparts {
    fabric: Mutex<Option<Fabric>>,
    machine: Mutex<Machine>,
    pub(crate) registry: Registry,
    pub(crate) run: Run,
    pub(crate) assets: Assets,
    pub(crate) greetings: Greetings,
    pub(crate) engine: Engine,
}

impl Counterparts {
    pub(crate) fn start() -> Result<Self> {
        let assets = Assets::open()?;
        let program = peitho::program()?;
        assets.prepare()?;
        let run = Run::start()?;
        say("starting the registry and Peitho");
        let registry = Registry::start(&assets, &run)?;
        let images = assets.images()?;
        for release in Release::ALL {
            for image in images.fabric(release) {
                registry.push(image)?;
            }
        }
        registry.push(&images.copybuilder)?;
        let machine = Machine::start(&run, program, Log::Trace, &[&registry])?;
        Ok(Self {
            fabric: Mutex::new(None),
            engine: Engine::new(machine.engine()),
            machine: Mutex::new(machine),
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
            let endpoint = lock(&self.machine).endpoint();
            let peer = |index| {
                let release = network.release();
                PeerConfig::new(release, index, &endpoint, &self.assets, &self.registry)
            };
            let peers = [peer(0)?, peer(1)?];
            *fabric = Some(Fabric::start(&self.assets, &self.run, network, peers)?);
        }
        work(fabric.as_ref().context("it was started just now")?)
    }

    /// Ends the network that runs.
    pub(crate) fn end_network(&self) {
        drop(lock(&self.fabric).take());
    }

    /// The directory of the server's store.
    pub(crate) fn store(&self) -> Result<PathBuf> {
        let config = self.with_machine(|machine| machine.config())?;
        let directory = config["store"]["directory"].as_str();
        Ok(directory.context("no store.directory")?.into())
    }

    /// Does something with the server.
    pub(crate) fn with_machine<T>(
        &self,
        work: impl FnOnce(&mut Machine) -> Result<T>,
    ) -> Result<T> {
        work(&mut lock(&self.machine))
    }

    /// Undoes what a case that failed in the middle did not undo itself.
    pub(crate) fn mend(&self) {
        let restarted = self.with_machine(|machine| {
            machine.process().kill_hard()?;
            machine.restart(&self.run)
        });
        if let Err(error) = restarted {
            say(format!("what the case spoiled stays so: {error:#}"));
        }
    }

    /// Ends everything.
    pub(crate) fn end(self) -> Result<()> {
        let Self {
            fabric,
            machine,
            registry,
            run,
            ..
        } = self;
        drop((fabric, machine, registry));
        run.finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A case that panicked has failed and said so; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
