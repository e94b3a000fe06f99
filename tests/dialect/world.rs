//! What the cases share: a registry, a dockerd, Peitho on this machine, and the drivers' programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testbed::peitho::{self, Containers, Log, Machine};
use testbed::{Assets, DRIVERS, Dockerd, Driver, Library, Registry, Release, Run, say};

use crate::table::Table;

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
    machine: Machine,
    dockerd: Dockerd,
    registry: Registry,
    /// Asks for a password, which Peitho is configured with and peers never send.
    private: Registry,
    run: Run,
    /// In the order of [`DRIVERS`].
    programs: Vec<PathBuf>,
    builder: String,
    runtime: String,
    /// For each driver, the images that it pulls by what they are.
    pulls: Vec<BTreeMap<&'static str, String>>,
    pub(crate) table: Table,
}

impl Counterparts {
    pub(crate) fn start() -> Result<Self> {
        let assets = Assets::open()?;
        let program = peitho::program()?;
        let programs = DRIVERS
            .iter()
            .map(|driver| driver.program(&assets))
            .collect::<Result<_>>()?;
        let images = assets.images()?;
        let run = Run::start()?;
        say("starting two registries, dockerd and Peitho");
        let registry = Registry::start(&assets, &run)?;
        let private = Registry::start_with_auth(&run, USER, PASSWORD)?;
        let dockerd = Dockerd::without_images(&run)?;
        let [_, runtime] = images.fabric(Release::V2_1);
        for image in [&images.copybuilder, runtime] {
            dockerd.pull(&registry, image)?;
        }
        let mut pulls = Vec::new();
        for driver in DRIVERS {
            let image = images
                .copybuilder
                .called(&format!("pulled/{}:1", driver.name));
            let pinned = registry.push(&image)?;
            let (tagged, digest) = pinned.split_once('@').context("no digest")?;
            let repository = tagged.strip_suffix(":1").context("no tag")?;
            private.push(&image)?;
            pulls.push(BTreeMap::from([
                ("tag", tagged.to_owned()),
                ("digest", format!("{repository}@{digest}")),
                ("missing tag", format!("{repository}:2")),
                ("private registry", private.reference(&image)),
            ]));
        }
        let containers = Containers::Oci;
        let mut machine = Machine::start(&run, program, Log::Trace, containers, &[&registry])?;
        let password = run.dir().join("password");
        fs::write(&password, PASSWORD)?;
        let mut config = machine.config()?;
        config["images"]["registries"]
            .as_array_mut()
            .context("it was started with a registry")?
            .push(json!({
                "host": private.address().to_string(), "scheme": "http",
                "username": USER, "passwordFile": password,
            }));
        machine.reconfigure(&run, &config)?;
        Ok(Self {
            builder: registry.reference(&images.copybuilder),
            runtime: registry.reference(runtime),
            machine,
            dockerd,
            registry,
            private,
            run,
            programs,
            pulls,
            table: Table::default(),
        })
    }

    fn endpoint(&self, target: Target) -> String {
        match target {
            Target::Dockerd => self.dockerd.endpoint(),
            Target::Peitho => self.machine.endpoint(),
        }
    }

    /// What a driver observes in a scenario.
    pub(crate) fn play(&self, index: usize, target: Target, scenario: &str) -> Result<Value> {
        let driver = &DRIVERS[index];
        let own = driver.name.replace('.', "-");
        driver.play(
            &self.programs[index],
            &json!({
                "endpoint": self.endpoint(target),
                "apiVersion": pinned_version(driver, target),
                "scenario": scenario,
                "family": driver.family,
                "name": format!("dev-{own}-{}", scenario.replace('_', "-")),
                "chaincode": format!("dev-{own}-chaincode"),
                "builder": self.builder,
                "runtime": self.runtime,
                "host": "127.0.0.1",
                "pulls": self.pulls[index],
            }),
        )
    }

    /// Ends everything.
    pub(crate) fn end(self) -> Result<()> {
        let Self {
            machine,
            dockerd,
            registry,
            private,
            run,
            ..
        } = self;
        drop((machine, dockerd, registry, private));
        run.finish()
    }
}

/// moby 0.2.1 speaks 1.44 and newer only, and Debian's dockerd 1.41: there its version is fixed by its own option.
fn pinned_version(driver: &Driver, target: Target) -> Option<&'static str> {
    let is_pinned = driver.library == Library::Moby && driver.family != "F7";
    (is_pinned && target == Target::Dockerd).then_some("1.41")
}
