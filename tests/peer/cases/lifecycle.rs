//! The way of a chaincode with a stock peer: first on dockerd, then on Peitho.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::scenario::{self, First};
use testbed::{Chaincode, Definition, Steps};

use crate::faults::{Chapter, Row, words};
use crate::proxy::Exchange;
use crate::world::{Counterparts, PEER, REFERENCE};

/// The chaincode that Peitho's cases share after the main job deployed it.
pub(super) const BASIC: &str = "basic";
const REFERENCE_BASIC: &str = "refbasic";
fn main_job(c: &Counterparts, peer: usize, name: &str, first: First) -> Result<Steps> {
    let seen = c.with_fabric(|fabric| scenario::main_job(&c.assets, fabric, peer, name, first))?;
    seen.expect(name)?;
    Ok(seen.steps)
}

fn crash(c: &Counterparts, peer: usize, name: &str) -> Result<scenario::Crash> {
    let seen = c.with_fabric(|fabric| scenario::crash_and_invoke(fabric, peer, name))?;
    seen.expect()?;
    Ok(seen)
}

fn compile_error(c: &Counterparts, peer: usize, label: &str) -> Result<Steps> {
    let seen = c.with_fabric(|fabric| scenario::compile_error(&c.assets, fabric, peer, label))?;
    let row = Row {
        chapter: Chapter::Install,
        fault: "chaincode that does not compile",
        said: words(&seen.told.output.stderr),
        after: seen.steps.get("install that fails"),
        left: "nothing".to_owned(),
        next: "the corrected package installs",
    };
    seen.expect()?;
    if peer == PEER {
        c.table.add(row);
    }
    Ok(seen.steps)
}

pub(super) fn dockerd_main_job_and_upgrade(c: &Counterparts) -> Result<Option<Steps>> {
    main_job(c, REFERENCE, REFERENCE_BASIC, First::Uncached).map(Some)
}

pub(super) fn dockerd_crash_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    crash(c, REFERENCE, REFERENCE_BASIC).map(|seen| Some(seen.steps))
}

pub(super) fn dockerd_compile_error_reaches_the_user(c: &Counterparts) -> Result<Option<Steps>> {
    compile_error(c, REFERENCE, "refbroken").map(Some)
}

/// The chaincode that the cases share is there: also when only some cases run.
pub(super) fn deployed(c: &Counterparts) -> Result<()> {
    if c.container_names("basic_v2").is_empty() {
        main_job(c, PEER, BASIC, First::Cached)?;
    }
    Ok(())
}

pub(super) fn main_job_and_upgrade(c: &Counterparts) -> Result<Option<Steps>> {
    let steps = main_job(c, PEER, BASIC, First::Uncached)?;
    for kind in ["pods", "secrets"] {
        let objects = c.objects(kind, "chaincode")?;
        ensure!(
            objects.len() == 1,
            "after the upgrade there are {kind} {objects:?}"
        );
    }
    let package = c.cluster.kubectl(&[
        "get",
        "pods",
        "--namespace",
        "chaincode",
        "--selector",
        "app.kubernetes.io/component=chaincode",
        "-o",
        "jsonpath={.items[0].metadata.annotations.peitho\\.dev/package-id}",
    ])?;
    ensure!(
        package.starts_with("basic_v2:"),
        "the pod that serves runs {package:?}"
    );
    c.wait_for_none("pods", "compile")?;
    c.wait_for_none("secrets", "compile")?;
    Ok(Some(steps))
}

/// Waits until the last of the peer's first `before` waits for the shared chaincode was answered, and gives the answer.
pub(super) fn answer_of_wait(c: &Counterparts, before: usize) -> Result<String> {
    testbed::wait::until("the answer of wait", Duration::from_secs(40), None, || {
        let waits = waits(c);
        let last = waits.get(before.saturating_sub(1));
        Ok(last.filter(|wait| wait.answered).map(Exchange::answer))
    })
}

/// The peer's waits for the shared chaincode.
pub(super) fn waits(c: &Counterparts) -> Vec<Exchange> {
    let mut waits = c.proxy.exchanges("/wait");
    waits.retain(|wait| wait.request_line().contains("basic_v2"));
    waits
}

fn expect_code(c: &Counterparts, waits_before: usize, code: i64) -> Result<()> {
    let answer = answer_of_wait(c, waits_before)?;
    ensure!(
        answer.contains(&format!("\"StatusCode\":{code}")),
        "wait was answered with {answer}"
    );
    Ok(())
}

pub(super) fn crash_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    let before = waits(c).len();
    let seen = crash(c, PEER, BASIC)?;
    expect_code(c, before, 3)?;
    c.table.add(Row {
        chapter: Chapter::Life,
        fault: "process exits in the middle of an invoke",
        said: format!("{}; `wait`: 3", words(&seen.told.output.stderr)),
        after: seen.steps.get("invoke that exits"),
        left: LEFT.to_owned(),
        next: "the next invoke launches it",
    });
    Ok(Some(seen.steps))
}

pub(super) fn process_killed_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    let before = waits(c).len();
    let begun = Instant::now();
    testbed::kill_process_with("CORE_CHAINCODE_ID_NAME=basic_v2:")?;
    expect_code(c, before, 137)?;
    c.table
        .add(killed("process killed by a signal", begun.elapsed()));
    invoke_and_query(c, "killed")
}

pub(super) fn pod_deleted_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    let before = waits(c).len();
    let pods = c.objects("pods", "chaincode")?;
    let pod = pods.first().context("no pod runs")?;
    let begun = Instant::now();
    c.cluster
        .kubectl(&["delete", "--namespace", "chaincode", pod, "--wait=false"])?;
    expect_code(c, before, 137)?;
    c.table.add(killed("pod deleted by hand", begun.elapsed()));
    invoke_and_query(c, "deleted")
}

/// What stays of a process that ended until its peer launches it anew.
pub(super) const LEFT: &str = "no process; pod and record, until the next launch";

fn killed(fault: &'static str, after: Duration) -> Row {
    Row {
        chapter: Chapter::Life,
        fault,
        said: "`wait`: 137".to_owned(),
        after: Some(after),
        left: LEFT.to_owned(),
        next: "the next invoke launches it",
    }
}

fn invoke_and_query(c: &Counterparts, key: &str) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let value = c.with_fabric(|fabric| {
        steps.time("next invoke", || {
            fabric.invoke(PEER, BASIC, &["Put", key, "again"])
        })?;
        Ok(steps.time("query", || fabric.query(PEER, BASIC, &["Get", key]))?)
    })?;
    ensure!(value == "again", "Get answered {value:?}");
    Ok(Some(steps))
}

pub(super) fn compile_error_reaches_the_user(c: &Counterparts) -> Result<Option<Steps>> {
    let images = c.run.data().join("peitho-store/refs/v1/image/default");
    // None before the first image.
    let before = fs::read_dir(&images).map_or(0, Iterator::count);
    let steps = compile_error(c, PEER, "broken")?;
    c.wait_for_none("pods", "compile")?;
    c.wait_for_none("secrets", "compile")?;
    let stored = fs::read_dir(&images)?.count() - before;
    ensure!(
        stored == 1,
        "{stored} images were stored by one install that failed and one that did not"
    );
    Ok(Some(steps))
}

pub(super) fn chaincode_slow_to_connect_launches(c: &Counterparts) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let package = Chaincode::slow().label("slow_1").package(&c.assets)?;
    let definition = Definition::new("slow", "1", 1);
    let answer = c.with_fabric(|fabric| {
        let id = steps.time("install", || fabric.install(PEER, &package))?;
        fabric.approve(PEER, &definition, &id)?;
        fabric.commit(PEER, &definition)?;
        steps.time("first invoke", || {
            fabric.invoke(PEER, "slow", &["Put", "slow", "but there"])
        })?;
        Ok(fabric.query(PEER, "slow", &["Get", "slow"])?)
    })?;
    ensure!(answer == "but there", "Get answered {answer:?}");
    let launch = steps.get("first invoke").context("not timed")?;
    ensure!(
        launch > Duration::from_secs(20),
        "the chaincode was not slow: {launch:?}"
    );
    Ok(Some(steps))
}

pub(super) fn server_killed_while_chaincode_runs(c: &Counterparts) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    invoke_and_query(c, "before")?;
    let names = c.container_names("basic_v2");
    let name = names.last().context("the peer created no container")?;
    c.with_peitho(|peitho| peitho.process().kill_hard().map(drop))?;
    invoke_and_query(c, "without the server")?;
    c.with_peitho(|peitho| steps.time("restart", || peitho.restart(&c.run)))?;
    invoke_and_query(c, "with the server again")?;
    c.table.add(Row {
        chapter: Chapter::Outage,
        fault: "Peitho killed while chaincode runs",
        said: "nothing: the chaincode answers; Peitho is ready again".to_owned(),
        after: steps.get("restart"),
        left: "nothing twice".to_owned(),
        next: "stop, kill and removal of what ran before work",
    });
    let stopped = steps.time("stop", || {
        c.engine
            .order("POST", &format!("/containers/{name}/stop?t=0"), &[204])
    })?;
    ensure!(stopped == 204, "stop of an adopted container: {stopped}");
    c.engine
        .order("POST", &format!("/containers/{name}/kill?"), &[409])?;
    steps.time("remove", || {
        c.engine
            .order("DELETE", &format!("/containers/{name}?force=1"), &[204])
    })?;
    c.engine
        .order("POST", &format!("/containers/{name}/kill?"), &[404])?;
    let left = c.objects("pods", "chaincode")?;
    let running = c
        .cluster
        .kubectl(&["get", "pods", "--namespace", "chaincode", "-o", "yaml"])?;
    ensure!(
        !running.contains("basic_v2:"),
        "after the removal there are {left:?}"
    );
    invoke_and_query(c, "after the removal")?;
    Ok(Some(steps))
}
