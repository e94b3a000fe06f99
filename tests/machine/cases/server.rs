//! What containers on this machine survive, and what they leave: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{CGROUP_PARENT, Chaincode, Network, Steps, wait};

use super::lifecycle::{BASIC, expect_one_process, invoke_and_query};
use crate::world::{Counterparts, Runtime};

/// For a compile to run, and for what an end brings about.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// The directory of the containers.
fn containers(c: &Counterparts) -> Result<PathBuf> {
    Ok(c.store()?.join("oci/containers"))
}

/// The names under which peers created what is in a directory of containers.
pub(super) fn names_in(containers: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(containers)? {
        let record = entry?.path().join("record.json");
        // One that is being removed has none any more.
        let Ok(text) = fs::read(&record) else {
            continue;
        };
        let record: Value =
            serde_json::from_slice(&text).with_context(|| format!("{}", record.display()))?;
        if let Some(name) = record["chaincode"]["spec"]["key"]["name"].as_str() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Processes with these words next to each other on their command line.
fn processes(words: &[&str]) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line: Vec<_> = line.split(|byte| *byte == 0).collect();
        let fits = |window: &[&[u8]]| window.iter().zip(words).all(|(a, b)| *a == b.as_bytes());
        if line.windows(words.len()).any(fits) {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// The supervisors of the server's containers: other Peithos may have some on this machine.
fn supervisors(c: &Counterparts) -> Result<BTreeSet<i32>> {
    let containers = containers(c)?;
    let mut found = processes(&["shim"])?;
    found.retain(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*containers.to_string_lossy())
    });
    Ok(found)
}

fn kill(pid: i32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).context("process 0")?;
    Ok(rustix::process::kill_process(
        pid,
        rustix::process::Signal::KILL,
    )?)
}

pub(super) fn killed_while_chaincode_runs(
    c: &Counterparts,
    runtime: Runtime,
) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    invoke_and_query(c, runtime, "before")?;
    c.with_machine(runtime, |machine| machine.process().kill_hard().map(drop))?;
    invoke_and_query(c, runtime, "without the server")?;
    c.with_machine(runtime, |machine| {
        steps.time("restart", || machine.restart(&c.run))
    })?;
    invoke_and_query(c, runtime, "with the server again")?;
    let engine = c.engine(runtime)?;
    let container = format!("/containers/{}", container(c, runtime)?);
    steps.time("stop", || {
        engine.order("POST", &format!("{container}/stop?t=0"), &[204])
    })?;
    engine.order("POST", &format!("{container}/kill?"), &[409])?;
    let waited = engine.post(&format!("{container}/wait"))?.json()?;
    // It is told to end before it is killed; Go's processes then end with 2.
    let codes = [2, 137];
    ensure!(
        codes.iter().any(|code| waited["StatusCode"] == *code),
        "an adopted container that was stopped: {waited}"
    );
    steps.time("remove", || {
        engine.order("DELETE", &format!("{container}?force=1"), &[204])
    })?;
    engine.order("POST", &format!("{container}/kill?"), &[404])?;
    let label = format!("{}_v2", runtime.name(BASIC));
    c.greetings.expect_count(&label, 0)?;
    invoke_and_query(c, runtime, "after the removal")?;
    expect_one_process(c, runtime)?;
    Ok(Some(steps))
}

/// The name under which the peer created the container of the shared chaincode.
fn container(c: &Counterparts, runtime: Runtime) -> Result<String> {
    let label = format!("{}_v2:", runtime.name(BASIC));
    let peer = runtime.peer();
    let installed = c.with_network(Network::V2_1, |fabric| Ok(fabric.query_installed(peer)?))?;
    let ids = installed.iter().map(ToString::to_string);
    let id = ids.clone().find(|id| id.starts_with(&label));
    let id = id.with_context(|| format!("installed: {:?}", ids.collect::<Vec<_>>()))?;
    Ok(format!(
        "net-peer{peer}.org1.example.com-{}",
        id.replace(':', "-")
    ))
}

/// The process that watches a container may be killed like any other: nothing of its container stays.
pub(super) fn supervisor_killed_is_an_end_of_the_process(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    invoke_and_query(c, Runtime::Oci, "watched")?;
    for pid in supervisors(c)? {
        kill(pid)?;
    }
    c.greetings.expect_count("basic_v2", 0)?;
    let steps = invoke_and_query(c, Runtime::Oci, "watched again")?;
    expect_one_process(c, Runtime::Oci)?;
    Ok(Some(steps))
}

pub(super) fn killed_during_a_compile_and_the_next_install_joins(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let package = Chaincode::basic()
        .label("joined_1")
        .version("joined")
        .uncached()
        .package(&c.assets)?;
    c.with_network(Network::V2_1, |fabric| {
        let compile = thread::scope(|scope| -> Result<BTreeSet<i32>> {
            let install = scope.spawn(|| fabric.install(Runtime::Oci.peer(), &package));
            let compile = wait::until("a compile runs", SOON, None, || {
                Ok(Some(processes(&["agent", "compile"])?).filter(|found| !found.is_empty()))
            });
            c.with_machine(Runtime::Oci, |machine| {
                machine.process().kill_hard().map(drop)
            })?;
            let told = install.join().ok().context("the install panicked")?;
            ensure!(told.is_err(), "an install without a server succeeded");
            compile
        })?;
        c.with_machine(Runtime::Oci, |machine| machine.restart(&c.run))?;
        ensure!(
            processes(&["agent", "compile"])? == compile,
            "the compile did not go on"
        );
        steps.time("install that joins", || {
            fabric.install(Runtime::Oci.peer(), &package)
        })?;
        Ok(())
    })?;
    let log = c.with_machine(Runtime::Oci, |machine| Ok(machine.process().log()))?;
    ensure!(
        log.contains("joins the container that runs"),
        "the compile was begun anew"
    );
    Ok(Some(steps))
}

pub(super) fn nothing_is_left_when_all_is_removed(c: &Counterparts) -> Result<Option<Steps>> {
    c.end_network();
    let engine = c.engine(Runtime::Oci)?;
    for name in names_in(&containers(c)?)? {
        engine.order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    }
    wait::until("no container is left", SOON, None, || {
        let left = fs::read_dir(containers(c)?)?.count();
        Ok((left == 0).then_some(()))
    })?;
    let shims = supervisors(c)?;
    ensure!(shims.is_empty(), "supervisors are left: {shims:?}");
    let store = c.store()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(
        !mounts.contains(&*store.to_string_lossy()),
        "mounts are left:\n{mounts}"
    );
    let left = cgroups(Path::new("/sys/fs/cgroup"))?;
    ensure!(left.is_empty(), "cgroups are left: {left:?}");
    ensure!(
        fs::read_dir(store.join("oci/state"))?.count() == 0,
        "the OCI runtime knows of containers"
    );
    for label in ["basic_v1", "basic_v2", "node_1", "legacy"] {
        c.greetings.expect_count(label, 0)?;
    }
    Ok(None)
}

/// The cgroups of containers, in each hierarchy.
fn cgroups(root: &Path) -> Result<Vec<PathBuf>> {
    let parent = CGROUP_PARENT.trim_start_matches('/');
    let hierarchies = fs::read_dir(root)?.map(|entry| Ok(entry?.path()));
    let hierarchies: Vec<_> = hierarchies.collect::<std::io::Result<_>>()?;
    let mut found = Vec::new();
    for top in hierarchies
        .iter()
        .map(|it| it.join(parent))
        .chain([root.join(parent)])
    {
        for entry in fs::read_dir(top).into_iter().flatten() {
            let entry = entry?;
            // dockerd has one of its own there.
            if entry.file_name().to_string_lossy().starts_with("peitho-") {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
