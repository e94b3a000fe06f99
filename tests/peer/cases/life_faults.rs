//! What befalls chaincode while it runs: `wait` tells the true end within seconds, the next invoke finds a new process, and there are
//! never two.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::{Steps, scenario};

use super::lifecycle::{BASIC, LEFT, answer_of_wait, deployed, waits};
use super::protocol::ensure_apart;
use crate::faults::{Chapter, Row, SHARED, left};
use crate::world::{Counterparts, PEER};

/// A node that says nothing is given up ten seconds after its pod should have gone (design D11).
const SILENCE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(10);

/// What Kubernetes says of an eviction.
const EVICTED: &str = "EvictionByEvictionAPI";

/// Runs `happens` while the chaincode runs, and judges the answer of the peer's `wait`.
fn judge(
    c: &Counterparts,
    fault: &'static str,
    why: &str,
    known_after: Duration,
    happens: impl FnOnce() -> Result<String>,
    passes: impl FnOnce() -> Result<()>,
) -> Result<()> {
    // A launch whose `wait` is open: that of an earlier one may have gone with its server.
    SHARED.end(c)?;
    SHARED.invoke(c, fault).context("before the fault")?;
    // The chaincode answers up to a second before the kubelet tells that it runs.
    let ready = [
        "wait",
        "pods",
        "--selector=app.kubernetes.io/component=chaincode",
        "--for=condition=Ready",
        "--timeout=30s",
        "--namespace",
        CHAINCODE_NAMESPACE,
    ];
    c.cluster.kubectl(&ready)?;
    let there = left(c)?;
    let before = waits(c).len();
    let log = c.with_peitho(|peitho| Ok(peitho.process().log().len()))?;
    let begun = Instant::now();
    let said = happens()?;
    let answer = answer_of_wait(c, before)?;
    let after = begun.elapsed();
    ensure!(
        answer.contains("\"StatusCode\":137"),
        "wait was answered with {answer}"
    );
    ensure!(
        after <= known_after + SOON,
        "wait was answered after {after:?}"
    );
    let log = c.with_peitho(|peitho| Ok(peitho.process().log().split_off(log)))?;
    // That of other cases may be evicted with it.
    let told = log
        .lines()
        .filter(|line| line.contains("chaincode ended") && line.contains("-basic_v2-"));
    ensure!(
        told.clone().filter(|line| line.contains(why)).count() == 1 && told.clone().count() == 1,
        "the log does not say {why:?}, and once: {:?}",
        told.collect::<Vec<_>>()
    );
    let left = left(c)?;
    ensure!(
        left.pods.len() <= there.pods.len() && left.secrets.len() <= there.secrets.len(),
        "before {there:?}, after {left:?}"
    );
    passes()?;
    SHARED.invoke(c, fault).context("the next invoke")?;
    SHARED.one_pod(c)?;
    ensure_apart(&c.greetings.of_label("basic_v2"))?;
    let said = match said.as_str() {
        "" => format!("`wait`: 137; Peitho's log: {why}"),
        said => format!("{said}; `wait`: 137; Peitho's log: {why}"),
    };
    c.table.add(Row {
        chapter: Chapter::Life,
        fault,
        said,
        after: Some(after),
        left: LEFT.to_owned(),
        next: "the next invoke launches it",
    });
    Ok(())
}

fn with_memory(config: &mut Value, command: Option<&str>) {
    let mut container = json!({
        "name": "chaincode",
        "resources": {"limits": {"memory": "48Mi"}, "requests": {"memory": "16Mi"}},
    });
    if let Some(command) = command {
        container["command"] = json!(["/bin/sh", "-c", command, "sh"]);
    }
    config["chaincode"]["podTemplate"] = json!({"spec": {"containers": [container]}});
}

/// An invoke whose process takes all memory; what its caller is told.
fn eat(c: &Counterparts) -> Result<String> {
    let told = c.with_fabric(|fabric| Ok(fabric.invoke(PEER, BASIC, &["eat"])))?;
    let told = told.err().context("the invoke went well")?;
    Ok(crate::faults::words(&told.output.stderr))
}

/// Evicts the chaincode's pod, as an operator who empties a node does.
fn evict(c: &Counterparts) -> Result<()> {
    let selector = "--pod-selector=app.kubernetes.io/component=chaincode";
    let node = c.cluster.node();
    let drain = [
        "drain",
        node,
        selector,
        "--force",
        "--delete-emptydir-data",
        "--ignore-daemonsets",
        "--timeout=1s",
    ];
    // It waits for the end longer than we do.
    c.cluster.kubectl(&drain).ok();
    c.cluster.kubectl(&["uncordon", node]).map(drop)
}

pub(super) fn end_of_a_process_is_told_and_the_next_invoke_works(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    deployed(c)?;
    let (at_once, passed) = (Duration::ZERO, || Ok(()));
    let evicted = || evict(c).map(|()| String::new());
    judge(c, "pod evicted", EVICTED, at_once, evicted, passed)?;
    let silent = || {
        c.cluster.kubelet().pause()?;
        evicted()
    };
    let fault = "pod evicted from a node that says nothing";
    let judged = judge(c, fault, EVICTED, SILENCE, silent, || {
        c.cluster.kubelet().resume()
    });
    c.cluster.kubelet().resume()?;
    judged?;
    let judged = [
        ("out of memory", None),
        ("out of memory, the process a child", Some("\"$@\"; exit 5")),
    ]
    .into_iter()
    .try_for_each(|(fault, command)| {
        c.reconfigure(|config| with_memory(config, command))?;
        judge(c, fault, "OOMKilled", at_once, || eat(c), passed)
    });
    c.configure_as_before()?;
    judged.map(|()| None)
}

/// The ancestor managed 8 of 16.
const ROUNDS: usize = 16;

pub(super) fn sixteen_crashes_sixteen_recoveries(c: &Counterparts) -> Result<Option<Steps>> {
    deployed(c)?;
    let mut slowest = Duration::ZERO;
    for round in 1..=ROUNDS {
        let seen = c.with_fabric(|fabric| scenario::crash_and_invoke(fabric, PEER, BASIC));
        let seen = seen.with_context(|| format!("round {round} of {ROUNDS}"))?;
        seen.expect().with_context(|| format!("round {round}"))?;
        slowest = slowest.max(seen.steps.get("next invoke").unwrap_or_default());
        SHARED.one_pod(c)?;
    }
    c.table.add(Row {
        chapter: Chapter::Life,
        fault: "16 crashes in a row",
        said: "16 next invokes work; the slowest one".to_owned(),
        after: Some(slowest),
        left: "one pod, one record".to_owned(),
        next: "it runs",
    });
    Ok(None)
}

pub(super) fn restarted_peer_finds_exactly_one_pod(c: &Counterparts) -> Result<Option<Steps>> {
    deployed(c)?;
    let mut steps = Steps::new();
    for (fault, is_peaceful) in [("peer ended by SIGTERM", true), ("peer killed", false)] {
        SHARED.invoke(c, fault)?;
        let lives = c.greetings.of_label("basic_v2").len();
        c.with_fabric(|fabric| {
            match is_peaceful {
                true => fabric.stop_peer(PEER)?,
                false => fabric.kill_peer(PEER)?,
            }
            fabric.start_peer(PEER)
        })?;
        let begun = Instant::now();
        steps.time(fault, || SHARED.invoke(c, fault))?;
        let after = begun.elapsed();
        SHARED.one_pod(c)?;
        let now = c.greetings.of_label("basic_v2");
        ensure!(
            now.len() == lives + 1,
            "{} processes were started by one restart",
            now.len() - lives
        );
        c.table.add(Row {
            chapter: Chapter::Life,
            fault,
            said: "the next invoke works".to_owned(),
            after: Some(after),
            left: "one pod, one record".to_owned(),
            next: "it runs",
        });
    }
    Ok(Some(steps))
}
