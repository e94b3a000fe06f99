//! What an install costs: stock peers install the same chaincode on a plain dockerd and on Peitho in turn, under the conditions that
//! people meet. Nothing known: a store without anything, the builder image is there. Builder seen before: its standard library is
//! compiled. Code changed: one line of a chaincode that was installed. A second peer, and four at once: the same package.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use testbed::{
    Assets, Chaincode, Fabric, Network, PeerConfig, Registry, Release, Run, at_once, say,
};

use super::floor;
use super::parts::Parts;
use super::report::Report;

/// The peers: one on dockerd, some on Peitho, and one whose daemon answers at once.
pub(super) const DOCKERD: usize = 0;
pub(super) const PEITHO: usize = 1;
const ALL_OF_PEITHO: [usize; 4] = [PEITHO, 2, 3, 4];
const SECOND: usize = 2;
const FLOOR: usize = 5;

/// The network of all measures here.
pub(super) fn network(
    assets: &Assets,
    run: &Run,
    registry: &Registry,
    dockerd: &str,
    peitho: &str,
) -> Result<Fabric> {
    let floor = floor::start(super::builds::program(assets)?)?;
    let peers = (0..=FLOOR).map(|index| {
        let endpoint = match index {
            DOCKERD => dockerd,
            FLOOR => &floor,
            _ => peitho,
        };
        PeerConfig::new(Release::V2_1, index, endpoint, assets, registry)
    });
    let peers = peers.collect::<Result<Vec<_>>>()?;
    Fabric::start(assets, run, Network::V2_1, peers)
}

/// Where installs are measured.
pub(super) struct Place<'a> {
    pub(super) assets: &'a Assets,
    pub(super) fabric: &'a Fabric,
    /// What stands behind the names of figures, before their unit: nothing for Kubernetes.
    pub(super) suffix: &'a str,
    /// The budget of a cold install.
    pub(super) cold: &'a str,
    /// Where Peitho tells what it counts.
    pub(super) admin: SocketAddr,
}

/// `rounds` of each; `renew` gives Peitho an empty store.
pub(super) fn measure(
    place: &Place<'_>,
    rounds: usize,
    mut renew: impl FnMut() -> Result<()>,
    report: &mut Report,
) -> Result<()> {
    let mut taken: [Vec<f64>; 7] = Default::default();
    let [docker, cold, second, changed, floor, prewarmed, four] = &mut taken;
    let (mut parts_cold, mut parts_changed) = (Parts::default(), Parts::default());
    for round in 1..=rounds {
        let package = |name: &str| place.package(&format!("{name}{round}"));
        docker.push(place.install("dockerd", DOCKERD, &package("docker")?)?);

        renew()?;
        let code = package("cold")?;
        let install = || place.install("nothing known", PEITHO, &code);
        cold.push(parts_cold.of(place.admin, install)?);
        second.push(place.install("second peer", SECOND, &code)?);
        let code_changed = package("changed")?;
        let install = || place.install("code changed", PEITHO, &code_changed);
        changed.push(parts_changed.of(place.admin, install)?);
        floor.push(place.install("a daemon that answers at once", FLOOR, &code)?);

        renew()?;
        let standard = (Chaincode::standard().label(&format!("bench_standard{round}")))
            .package(place.assets)?;
        place.fabric.install(PEITHO, &standard)?;
        let code = package("prewarmed")?;
        prewarmed.push(place.install("builder seen before", PEITHO, &code)?);

        renew()?;
        four.push(place.install_on_all(&package("four")?)?);
    }
    let [docker, cold, second, changed, floor, prewarmed, four] = taken;
    let name = |figure: &str, unit: &str| format!("install_{figure}{}{unit}", place.suffix);
    for (figure, ours, theirs, budget) in [
        ("cold", &cold, &docker, place.cold),
        ("prewarmed", &prewarmed, &docker, "<= 0.7"),
        ("changed", &changed, &docker, "<= 0.15"),
        ("second_peer", &second, &docker, "<= 0.03"),
        ("four_peers", &four, &cold, "<= 1.1"),
    ] {
        report.series(&name(figure, "_s"), ours.clone(), " s", "-");
        report.ratio(&name(figure, "_ratio"), ours, theirs, budget);
    }
    for (figure, parts) in [("cold", parts_cold), ("changed", parts_changed)] {
        parts.report(&format!("install_{figure}"), place.suffix, report);
    }
    report.series(&name("dockerd", "_s"), docker, " s", "-");
    report.series(&name("floor", "_s"), floor, " s", "-");
    Ok(())
}

impl Place<'_> {
    /// Code that nobody has seen before; two of these differ in one line.
    pub(super) fn package(&self, name: &str) -> Result<PathBuf> {
        let version = format!("{name}{}", self.suffix);
        let code = Chaincode::asset().label(&format!("bench_{version}"));
        code.version(&version).package(self.assets)
    }

    /// The seconds of one install.
    pub(super) fn install(&self, what: &str, peer: usize, package: &Path) -> Result<f64> {
        let begun = Instant::now();
        self.fabric.install(peer, package)?;
        let time = begun.elapsed().as_secs_f64();
        say(format!("install, {what}: {time:.2} s"));
        Ok(time)
    }

    /// The seconds until the last of Peitho's peers has it.
    fn install_on_all(&self, package: &Path) -> Result<f64> {
        let begun = Instant::now();
        for installed in at_once(&ALL_OF_PEITHO, |peer| self.fabric.install(*peer, package)) {
            installed?;
        }
        let time = begun.elapsed().as_secs_f64();
        say(format!("install, four peers at once: {time:.2} s"));
        Ok(time)
    }
}
