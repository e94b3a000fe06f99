//! The way of a chaincode with a stock peer of 1.4: first on dockerd, then on Peitho. These peers compile when a chaincode is
//! instantiated, remove nothing after an upgrade and nothing at their end.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::scenario::{self, First, PeerEnd};
use testbed::{Network, Steps};

use crate::faults::{Chapter, Row, words};
use crate::world::{Counterparts, PEER, REFERENCE};
use testbed::engine::Engine;

/// The chaincode that the cases on Peitho share after the main job deployed it.
const LEGACY: &str = "legacy";
const REFERENCE_LEGACY: &str = "reflegacy";

/// What the version that serves after the main job's upgrade is called by its process.
fn serving(name: &str) -> String {
    format!("{name}:2")
}

/// The name of the container in which a peer runs the first version.
fn first_container(peer: usize, name: &str) -> String {
    format!("net-peer{peer}.org1.example.com-{name}-1")
}

/// Package and phase of each pod of the shared chaincode.
fn pods(c: &Counterparts) -> Result<Vec<(String, String)>> {
    let list = c.cluster.kubectl(&[
        "get",
        "pods",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "--selector",
        "app.kubernetes.io/component=chaincode",
        "--output",
        r#"jsonpath={range .items[*]}{.metadata.annotations.peitho\.dev/package-id} {.status.phase}{"\n"}{end}"#,
    ])?;
    let pods = list.lines().filter_map(|line| line.split_once(' '));
    let mut pods: Vec<_> = pods
        .filter(|(package, _)| package.split(':').next() == Some(LEGACY))
        .map(|(package, phase)| (package.to_owned(), phase.to_owned()))
        .collect();
    pods.sort_unstable();
    Ok(pods)
}

/// There must be one pod for each of these packages and no other, now; that each runs is told by the kubelet after its process has
/// answered.
fn expect_pods(c: &Counterparts, expected: &[&str]) -> Result<()> {
    let found = pods(c)?;
    let packages: Vec<_> = found.iter().map(|(package, _)| package.as_str()).collect();
    ensure!(
        packages == expected,
        "pods are {found:?}, not one for each of {expected:?}"
    );
    wait_until_running(c, expected)
}

fn wait_until_running(c: &Counterparts, expected: &[&str]) -> Result<()> {
    let what = format!("the pods that run are {expected:?}");
    testbed::wait::until(&what, Duration::from_secs(20), None, || {
        let mut pods = pods(c)?;
        pods.retain(|(_, phase)| phase == "Running");
        let running = pods.iter().map(|(package, _)| package.as_str());
        Ok(running.eq(expected.iter().copied()).then_some(()))
    })
}

/// After the upgrade both versions run, on either engine, until somebody removes the first.
fn main_job(c: &Counterparts, peer: usize, name: &str) -> Result<Steps> {
    c.ensure_network(Network::V1_4)?;
    let seen = c.with_fabric(|fabric| {
        scenario::lscc::main_job(&c.assets, fabric, peer, name, First::Uncached)
    })?;
    seen.expect(name)?;
    c.greetings
        .expect_living(name, &[&format!("{name}:1"), &serving(name)])?;
    Ok(seen.steps)
}

fn remove_first(c: &Counterparts, engine: &Engine, peer: usize, name: &str) -> Result<()> {
    let path = format!("/containers/{}?force=1", first_container(peer, name));
    engine.order("DELETE", &path, &[204])?;
    c.greetings.expect_living(name, &[&serving(name)])
}

fn crash(c: &Counterparts, peer: usize, name: &str) -> Result<Steps> {
    c.ensure_network(Network::V1_4)?;
    let seen = c.with_fabric(|fabric| scenario::crash_and_invoke(fabric, peer, name))?;
    seen.expect()?;
    c.greetings.expect_living(name, &[&serving(name)])?;
    Ok(seen.steps)
}

fn compile_error(c: &Counterparts, peer: usize, name: &str, corrected: &str) -> Result<Steps> {
    c.ensure_network(Network::V1_4)?;
    let seen = c.with_fabric(|fabric| {
        scenario::lscc::compile_error(&c.assets, fabric, peer, name, corrected)
    })?;
    seen.expect(corrected)?;
    if peer == PEER {
        c.table.add(Row {
            chapter: Chapter::Install,
            fault: "chaincode that does not compile, Fabric 1.4: `peer chaincode instantiate`",
            said: words(&seen.told.output.stderr),
            after: seen.steps.get("instantiate that fails"),
            left: "nothing".to_owned(),
            next: "the corrected version instantiates",
        });
    }
    Ok(seen.steps)
}

fn restart(c: &Counterparts, peer: usize, name: &str, end: PeerEnd) -> Result<Steps> {
    c.ensure_network(Network::V1_4)?;
    let seen = c.with_fabric(|fabric| scenario::peer_restart(fabric, peer, name, end))?;
    ensure!(
        seen.value == "kept",
        "Get after the restart answered {:?}",
        seen.value
    );
    c.greetings.expect_living(name, &[&serving(name)])?;
    Ok(seen.steps)
}

fn dockerd(c: &Counterparts) -> Result<Engine> {
    let address = c.dockerd.endpoint();
    Ok(Engine::new(address.trim_start_matches("tcp://").parse()?))
}

pub(super) fn dockerd_main_job_and_upgrade(c: &Counterparts) -> Result<Option<Steps>> {
    let steps = main_job(c, REFERENCE, REFERENCE_LEGACY)?;
    remove_first(c, &dockerd(c)?, REFERENCE, REFERENCE_LEGACY)?;
    Ok(Some(steps))
}

pub(super) fn dockerd_crash_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    crash(c, REFERENCE, REFERENCE_LEGACY).map(Some)
}

pub(super) fn dockerd_compile_error_reaches_the_user(c: &Counterparts) -> Result<Option<Steps>> {
    compile_error(c, REFERENCE, "reflegacybroken", "corrected").map(Some)
}

pub(super) fn dockerd_peer_terminated_then_next_invoke_works(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    restart(c, REFERENCE, REFERENCE_LEGACY, PeerEnd::Terminated).map(Some)
}

pub(super) fn dockerd_peer_killed_then_next_invoke_works(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    restart(c, REFERENCE, REFERENCE_LEGACY, PeerEnd::Killed).map(Some)
}

pub(super) fn main_job_and_upgrade(c: &Counterparts) -> Result<Option<Steps>> {
    let steps = main_job(c, PEER, LEGACY)?;
    expect_pods(c, &["legacy:1", "legacy:2"])?;
    remove_first(c, &c.engine, PEER, LEGACY)?;
    expect_pods(c, &["legacy:2"])?;
    c.wait_for_none("pods", "compile")?;
    c.wait_for_none("secrets", "compile")?;
    Ok(Some(steps))
}

pub(super) fn crash_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    let steps = crash(c, PEER, LEGACY)?;
    expect_pods(c, &["legacy:2"])?;
    Ok(Some(steps))
}

pub(super) fn compile_error_reaches_the_user(c: &Counterparts) -> Result<Option<Steps>> {
    let images = c.run.data().join("peitho-store/refs/v1/image/default");
    // None before the first image.
    let before = fs::read_dir(&images).map_or(0, Iterator::count);
    // Code that the main job had compiled before: that it installs at once is not the subject.
    let steps = compile_error(c, PEER, "legacybroken", "legacy v2")?;
    c.wait_for_none("pods", "compile")?;
    c.wait_for_none("secrets", "compile")?;
    let stored = fs::read_dir(&images)?.count() - before;
    ensure!(
        stored == 1,
        "{stored} images were stored by one instantiate that failed and one that did not"
    );
    Ok(Some(steps))
}

pub(super) fn peer_terminated_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    let steps = restart(c, PEER, LEGACY, PeerEnd::Terminated)?;
    expect_pods(c, &["legacy:2"])?;
    Ok(Some(steps))
}

pub(super) fn peer_killed_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    let steps = restart(c, PEER, LEGACY, PeerEnd::Killed)?;
    expect_pods(c, &["legacy:2"])?;
    Ok(Some(steps))
}

/// Name and version are those of the main job, so both engines have the image from there.
fn without_tls(c: &Counterparts, peer: usize, name: &str) -> Result<Steps> {
    c.ensure_network(Network::V1_4_WITHOUT_TLS)?;
    let version = format!("{name} v1");
    let (seen, tls) = c.with_fabric(|fabric| {
        let seen = scenario::lscc::one_invoke(&c.assets, fabric, peer, name, &version)?;
        let tls = fabric.query(peer, name, &["env", "CORE_PEER_TLS_ENABLED"])?;
        Ok((seen, tls))
    })?;
    ensure!(tls == "false", "CORE_PEER_TLS_ENABLED is {tls:?}");
    seen.expect()
}

pub(super) fn dockerd_without_tls(c: &Counterparts) -> Result<Option<Steps>> {
    without_tls(c, REFERENCE, REFERENCE_LEGACY).map(Some)
}

pub(super) fn without_tls_nothing_is_uploaded(c: &Counterparts) -> Result<Option<Steps>> {
    let uploads = format!("PUT /containers/{}/", first_container(PEER, LEGACY));
    let before = c.proxy.exchanges(&uploads).len();
    let steps = without_tls(c, PEER, LEGACY)?;
    let uploaded = c.proxy.exchanges(&uploads).len() - before;
    ensure!(uploaded == 0, "the peer uploaded {uploaded} times");
    wait_until_running(c, &["legacy:1"])?;
    Ok(Some(steps))
}
