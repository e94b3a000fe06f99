//! The drivers' programs, and the orders that they are given: which images there are, and how everything is called.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testbed::{Assets, DRIVERS, Driver, HOST_ADDRESS, Library, Registry, Release};

use crate::world::Target;

/// All of them, in the order of [`DRIVERS`].
pub(crate) struct Drivers {
    programs: Vec<PathBuf>,
    builder: String,
    runtime: String,
    /// For each driver, the images that it pulls by what they are.
    pulls: Vec<BTreeMap<&'static str, String>>,
}

/// What a driver is to do.
pub(crate) struct Order<'a> {
    pub(crate) target: Target,
    pub(crate) endpoint: &'a str,
    pub(crate) scenario: &'a str,
    /// Part of the names of all that it makes.
    pub(crate) name: &'a str,
    /// The directory of its certificate, where it speaks TLS.
    pub(crate) tls: Option<PathBuf>,
    /// The newest version of TLS that it speaks, where it is not to be its own.
    pub(crate) tls_version: Option<&'a str>,
}

impl Drivers {
    /// Builds the programs, and gives the registries what they ask for.
    pub(crate) fn make(assets: &Assets, registry: &Registry, private: &Registry) -> Result<Self> {
        let images = assets.images()?;
        let [_, runtime] = images.fabric(Release::V2_1);
        let mut this = Self {
            programs: Vec::new(),
            builder: registry.reference(&images.copybuilder),
            runtime: registry.reference(runtime),
            pulls: Vec::new(),
        };
        for driver in DRIVERS {
            this.programs.push(driver.program(assets)?);
            let name = driver.name.to_lowercase();
            let image = images.copybuilder.called(&format!("pulled/{name}:1"));
            let pinned = registry.push(&image)?;
            let (tagged, digest) = pinned.split_once('@').context("no digest")?;
            let repository = tagged.strip_suffix(":1").context("no tag")?;
            private.push(&image)?;
            this.pulls.push(BTreeMap::from([
                ("tag", tagged.to_owned()),
                ("digest", format!("{repository}@{digest}")),
                ("missing tag", format!("{repository}:2")),
                ("private registry", private.reference(&image)),
            ]));
        }
        Ok(this)
    }

    /// What the driver at this place observes.
    pub(crate) fn play(&self, index: usize, order: &Order<'_>) -> Result<Value> {
        let driver = &DRIVERS[index];
        let own = format!("{}-{}", driver.name.replace('.', "-"), order.name);
        driver.play(
            &self.programs[index],
            &json!({
                "endpoint": order.endpoint,
                "tls": order.tls,
                "tlsVersion": order.tls_version,
                "apiVersion": pinned_version(driver, order.target),
                "scenario": order.scenario,
                "family": driver.family,
                "name": format!("dev-{own}-{}", order.scenario.replace('_', "-")),
                "chaincode": format!("dev-{own}-chaincode"),
                "builder": self.builder,
                "runtime": self.runtime,
                "host": HOST_ADDRESS,
                "pulls": self.pulls[index],
            }),
        )
    }
}

/// moby 0.2.1 speaks 1.44 and newer only, and Debian's dockerd 1.41: there its version is fixed by its own option.
fn pinned_version(driver: &Driver, target: Target) -> Option<&'static str> {
    let is_pinned = driver.library == Library::Moby && driver.family != "F7";
    (is_pinned && target == Target::Dockerd).then_some("1.41")
}
