//! What the cases share: registries, a dockerd and a Peitho on this machine, a second of each that speak TLS, a cluster with a Peitho
//! when a case asks for it, and the drivers' programs.

use std::fs;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use testbed::peitho::{self, Containers, Log, Machine};
use testbed::{Assets, DRIVERS, Dockerd, Registry, Release, Run, say};

use crate::certificates::{Certificates, Shows};
use crate::drivers::{Drivers, Order};
use crate::pods::Pods;
use crate::table::Table;
use crate::ways::Way;

const USER: &str = "peer";
const PASSWORD: &str = "not-so-secret";

/// What a driver talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The reference.
    Dockerd,
    /// What is judged.
    Peitho,
}

impl Target {
    pub(crate) const ALL: [Target; 2] = [Target::Dockerd, Target::Peitho];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dockerd => "dockerd",
            Self::Peitho => "Peitho",
        }
    }
}

/// Everything real. Fields end in this order.
pub(crate) struct Counterparts {
    pods: OnceLock<Result<Pods, String>>,
    machine: Machine,
    /// Peitho with TLS; started anew where a case counts on what its log may say.
    secured: Mutex<Machine>,
    dockerd: Dockerd,
    /// With `--tlsverify`.
    secured_dockerd: Dockerd,
    registry: Registry,
    /// Asks for a password, which Peitho is configured with and peers never send.
    private: Registry,
    run: Run,
    certificates: Certificates,
    assets: Assets,
    drivers: Drivers,
    pub(crate) table: Table,
}

impl Counterparts {
    pub(crate) fn start() -> Result<Self> {
        let assets = Assets::open()?;
        let program = peitho::program()?;
        let images = assets.images()?;
        let run = Run::start()?;
        say("starting two registries, two of dockerd and two of Peitho");
        let registry = Registry::start(&assets, &run)?;
        let private = Registry::start_with_auth(&run, USER, PASSWORD)?;
        let certificates = Certificates::make(&run.dir().join("certificates"))?;
        let dockerd = Dockerd::without_images(&run)?;
        let secured_dockerd = Dockerd::speaking(&run, certificates.speech())?;
        let [_, runtime] = images.fabric(Release::V2_1);
        for dockerd in [&dockerd, &secured_dockerd] {
            for image in [&images.copybuilder, runtime] {
                dockerd.pull(&registry, image)?;
            }
        }
        let drivers = Drivers::make(&assets, &registry, &private)?;
        let password = run.dir().join("password");
        fs::write(&password, PASSWORD)?;
        let start = |containers, change: &dyn Fn(&mut Value)| {
            let log = Log::Trace;
            let mut machine = Machine::start(&run, program.clone(), log, containers, &[&registry])?;
            let mut config = machine.config()?;
            change(&mut config);
            machine.reconfigure(&run, &config)?;
            anyhow::Ok(machine)
        };
        let machine = start(Containers::Oci, &|config| {
            config["listen"]["socket"] = json!(run.dir().join("peitho.sock"));
            config["images"]["registries"] = json!([
                {"host": registry.address().to_string(), "scheme": "http"},
                {
                    "host": private.address().to_string(), "scheme": "http",
                    "username": USER, "passwordFile": password,
                },
            ]);
        })?;
        let secured = start(Containers::OciBeside, &|config| {
            certificates.configure(config)
        })?;
        Ok(Self {
            pods: OnceLock::new(),
            machine,
            secured: Mutex::new(secured),
            dockerd,
            secured_dockerd,
            registry,
            private,
            run,
            certificates,
            assets,
            drivers,
            table: Table::default(),
        })
    }

    fn endpoint(&self, way: Way, target: Target) -> Result<String> {
        Ok(match (target, way) {
            (Target::Dockerd, Way::Tcp | Way::Kubernetes) => self.dockerd.endpoint(),
            (Target::Dockerd, Way::Socket) => self.dockerd.socket_endpoint(),
            (Target::Dockerd, Way::Tls | Way::OldTls) => self.secured_dockerd.endpoint(),
            (Target::Peitho, Way::Tcp) => self.machine.endpoint(),
            (Target::Peitho, Way::Socket) => {
                format!("unix://{}", self.run.dir().join("peitho.sock").display())
            }
            (Target::Peitho, Way::Tls | Way::OldTls) => self.secured().endpoint(),
            (Target::Peitho, Way::Kubernetes) => self.pods()?.endpoint(),
        })
    }

    /// What a driver observes in a scenario.
    pub(crate) fn play(
        &self,
        index: usize,
        way: Way,
        target: Target,
        scenario: &str,
    ) -> Result<Value> {
        let certificate = || self.certificates.of(DRIVERS[index].name, Shows::Own);
        let order = Order {
            target,
            endpoint: &self.endpoint(way, target)?,
            scenario,
            name: way.name(),
            tls: way.tls().map(|_| certificate()),
            tls_version: (way == Way::OldTls).then_some("1.2"),
        };
        self.drivers.play(index, &order)
    }

    /// What a driver says of an endpoint that need not let it in, to which it shows that.
    pub(crate) fn knock(
        &self,
        index: usize,
        endpoint: &str,
        target: Target,
        shows: Option<Shows>,
    ) -> Result<String> {
        let order = Order {
            target,
            endpoint,
            scenario: "refused",
            name: "knock",
            tls: shows.map(|shows| self.certificates.of(DRIVERS[index].name, shows)),
            tls_version: None,
        };
        let seen = self.drivers.play(index, &order)?;
        Ok(seen["says"].as_str().context("no words")?.to_owned())
    }

    /// Peitho without TLS.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// dockerd without TLS.
    pub(crate) fn dockerd(&self) -> &Dockerd {
        &self.dockerd
    }

    /// dockerd with `--tlsverify`.
    pub(crate) fn secured_dockerd(&self) -> &Dockerd {
        &self.secured_dockerd
    }

    /// Peitho with TLS.
    pub(crate) fn secured(&self) -> MutexGuard<'_, Machine> {
        self.secured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, killed and started again: what it says of strangers is bounded, so that a case may need all of that.
    pub(crate) fn fresh_secured(&self) -> Result<MutexGuard<'_, Machine>> {
        let mut machine = self.secured();
        machine.process().kill_hard()?;
        machine.restart(&self.run)?;
        Ok(machine)
    }

    fn pods(&self) -> Result<&Pods> {
        let start = || Pods::start(&self.assets, &self.run, &self.registry);
        let pods = self
            .pods
            .get_or_init(|| start().map_err(|error| format!("{error:#}")));
        pods.as_ref()
            .map_err(|error| anyhow!("the cluster did not start: {error}"))
    }

    /// Ends everything.
    pub(crate) fn end(self) -> Result<()> {
        let Self {
            pods,
            machine,
            secured,
            dockerd,
            secured_dockerd,
            registry,
            private,
            run,
            ..
        } = self;
        drop((pods, machine, secured, dockerd, secured_dockerd));
        drop((registry, private));
        run.finish()
    }
}
