//! What no peer does on demand: slow readers, and launches of one name in a row and at once.

use std::io::{BufReader, Read};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::{Greeting, Greetings, Steps};

use super::launch_faults::{no_quota, quota};
use crate::world::Counterparts;
use testbed::engine::{Engine, chaincode_body, read_body, read_head};

/// As many lines as one measurement of the kubelet's rotation lost of: 41 MB.
const LINES: usize = 40_201;

/// A process that says hello and is deaf to SIGTERM: the hardest to be rid of.
const DEAF: &str = "#!/bin/sh\ntrap '' TERM\n\
    (echo \"hello $CORE_CHAINCODE_ID_NAME $HOSTNAME $$\"; while :; do sleep 1000; done) | nc 10.88.0.1 7999\n";

pub(super) fn dockerd_log_of_41_mb_is_complete_for_a_slow_client(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let endpoint = c.dockerd.endpoint();
    let address: SocketAddr = endpoint.trim_start_matches("tcp://").parse()?;
    slow_client(
        &Engine::new(address),
        &c.registry.reference(&c.assets.images()?.copybuilder),
        "",
        Reading::Along,
    )
    .map(Some)
}

pub(super) fn log_of_41_mb_is_complete_for_a_slow_client(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let image = c.registry.reference(&c.assets.images()?.copybuilder);
    let steps = slow_client(&c.engine, &image, "/v1.44", Reading::AfterWait)?;
    slow_client(&c.engine, &image, "", Reading::AfterWait)?;
    c.wait_for_none("pods", "compile")?;
    Ok(Some(steps))
}

/// When an attached client reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// While the container runs. dockerd holds the process up until it does.
    Along,
    /// Not before `wait` was answered, as moby's client does: no client is slower. A deliberate difference
    /// from dockerd, which never comes to answer (design D6: a reader never slows a compile).
    AfterWait,
}

/// Attaches, starts, waits and reads. `prefix` decides the framing: with a version the bytes come raw, without
/// one in frames (protocol rule 13).
fn slow_client(engine: &Engine, image: &str, prefix: &str, reading: Reading) -> Result<Steps> {
    let mut steps = Steps::new();
    let command =
        format!("awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) printf \"%d %01010d\\n\", i, i }}'");
    let id = engine.create(
        None,
        &json!({
            "Cmd": ["/bin/sh", "-c", command], "Image": image, "Entrypoint": null,
            "AttachStdout": true, "AttachStderr": true, "HostConfig": {"NetworkMode": "host"},
        }),
    )?;
    let mut log = match reading {
        // Subscribed before the answer, so that nothing is missing without the log.
        Reading::Along => engine.attach_from_now(&id, prefix)?,
        Reading::AfterWait => engine.attach(&id, prefix)?,
    };
    engine.order("POST", &format!("/containers/{id}/start"), &[204])?;
    let mut bytes = Vec::new();
    let code = thread::scope(|scope| {
        if reading == Reading::Along {
            scope.spawn(|| log.read_to_end(&mut bytes));
        }
        steps.time("start to the answer of wait", || engine.wait(&id))
    })?;
    ensure!(code == 0, "the command exited with {code}");
    steps.time("reading the rest", || log.read_to_end(&mut bytes))?;
    if prefix.is_empty() {
        bytes = unframe(&bytes)?;
    }
    let text = String::from_utf8(bytes)?;
    let lines: Vec<_> = text.lines().collect();
    ensure!(
        lines.len() == LINES,
        "{} lines of {LINES} came",
        lines.len()
    );
    for (at, line) in lines.iter().enumerate() {
        let expected = format!("{} {:01010}", at + 1, at + 1);
        ensure!(*line == expected, "line {} is {:.40}", at + 1, line);
    }
    engine.order("DELETE", &format!("/containers/{id}"), &[204])?;
    Ok(steps)
}

/// Takes Docker's frames apart: `[stream, 0, 0, 0, length as four bytes]`.
fn unframe(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut content = Vec::with_capacity(bytes.len());
    while !bytes.is_empty() {
        ensure!(
            bytes.len() >= 8 && matches!(bytes[0], 1 | 2),
            "not a frame: {:?}",
            &bytes[..bytes.len().min(8)]
        );
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        ensure!(bytes.len() >= 8 + length, "a frame is cut");
        content.extend_from_slice(&bytes[8..8 + length]);
        bytes = &bytes[8 + length..];
    }
    Ok(content)
}

/// The cluster refuses the pod: `wait` says so at once and in the cluster's words, and attach ends.
pub(super) fn compile_that_the_cluster_refuses_tells_why(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    quota(c)?;
    let mut steps = Steps::new();
    let image = c.registry.reference(&c.assets.images()?.copybuilder);
    let id = c.engine.create(
        None,
        &json!({"Cmd": ["/bin/sh", "-c", "echo unheard"], "Image": image}),
    )?;
    let mut log = c.engine.attach(&id, "/v1.44")?;
    c.engine
        .order("POST", &format!("/containers/{id}/start"), &[204])?;
    let answer = steps.time("start to the answer of wait", || {
        c.engine.post(&format!("/containers/{id}/wait"))
    })?;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    no_quota(c)?;
    ensure!(
        answer.status == 500,
        "wait was answered with {}",
        answer.status
    );
    ensure!(
        answer.text().contains("exceeded quota"),
        "wait said {}",
        answer.text()
    );
    let time = steps.get("start to the answer of wait").unwrap_or_default();
    ensure!(
        time < Duration::from_secs(30),
        "the refusal took {time:?} to reach the client"
    );
    c.engine
        .order("DELETE", &format!("/containers/{id}"), &[204])?;
    c.wait_for_none("secrets", "compile")?;
    Ok(Some(steps))
}

fn build_deaf(c: &Counterparts, image: &str) -> Result<()> {
    c.engine.build_script(
        image,
        &c.registry.reference(&c.assets.images()?.runtime),
        DEAF,
    )
}

pub(super) fn relaunch_after_removal_never_runs_two_processes(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let (name, id) = ("test-relaunch", "relaunch:1");
    build_deaf(c, "test-relaunch-image")?;
    let mut steps = Steps::new();
    for round in 1..=3 {
        c.engine
            .create(Some(name), &chaincode_body("test-relaunch-image", id))?;
        c.engine
            .order("POST", &format!("/containers/{name}/start"), &[204])?;
        steps.time("start to hello", || {
            wait_for(&c.greetings, id, "a process starts", |lives| {
                lives.len() == round
            })
        })?;
        let path = format!("/containers/{name}/wait");
        let mut wait = BufReader::new(c.engine.open("POST", &path, "plain/text", b"")?);
        // It comes when the container is known to run: from here on the removal cannot overtake the wait.
        let head = read_head(&mut wait)?;
        steps.time("remove", || {
            c.engine
                .order("DELETE", &format!("/containers/{name}?force=1"), &[204])
        })?;
        let answer = read_body(&head, wait)?;
        ensure!(
            answer.text().contains("\"StatusCode\":137"),
            "wait was answered with {}",
            answer.text()
        );
    }
    never_two(&c.greetings, id)?;
    Ok(Some(steps))
}

/// What a peer does for a launch. Any of it may be refused when another launch is in between.
fn launch(engine: &Engine, name: &str, image: &str, id: &str) {
    let body = chaincode_body(image, id);
    let order =
        |method: &str, path: String| engine.order(method, &path, &[201, 204, 304, 404, 409]);
    order("POST", format!("/containers/{name}/stop?t=0")).ok();
    order("POST", format!("/containers/{name}/kill?")).ok();
    order("DELETE", format!("/containers/{name}?force=1")).ok();
    if engine.create(Some(name), &body).is_ok() {
        order("POST", format!("/containers/{name}/start")).ok();
    }
}

pub(super) fn two_launches_at_once_never_run_two_processes(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let (name, image, id) = ("test-at-once", "test-at-once-image", "at-once:1");
    build_deaf(c, image)?;
    let mut steps = Steps::new();
    for _ in 0..3 {
        steps.time("two launches", || {
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| launch(&c.engine, name, image, id));
                }
            });
        });
    }
    launch(&c.engine, name, image, id);
    one_alive(&c.greetings, id)?;
    c.engine
        .order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    never_two(&c.greetings, id)?;
    Ok(Some(steps))
}

/// The processes of the package `id`, once they are as `wanted` says.
fn wait_for(
    greetings: &Greetings,
    id: &str,
    what: &str,
    wanted: impl Fn(&[Greeting]) -> bool,
) -> Result<Vec<Greeting>> {
    let label = id.split(':').next().unwrap_or(id);
    greetings.wait_until(what, label, Duration::from_secs(60), wanted)
}

/// Waits for the end of all processes of the package `id`; no two of them may have lived at the same time.
pub(super) fn never_two(greetings: &Greetings, id: &str) -> Result<()> {
    let lives = wait_for(greetings, id, "all have ended", |lives| {
        lives.iter().all(|life| life.ended.is_some())
    })?;
    ensure_apart(&lives)
}

/// No two of these may have lived at the same time.
pub(super) fn ensure_apart(lives: &[Greeting]) -> Result<()> {
    let overlap = lives.windows(2).any(|pair| {
        let (first, second) = (&pair[0], &pair[1]);
        first.ended.is_none_or(|end| end > second.began)
    });
    ensure!(
        !overlap,
        "two processes of one chaincode at a time: {lives:?}"
    );
    Ok(())
}

fn one_alive(greetings: &Greetings, id: &str) -> Result<()> {
    wait_for(greetings, id, "one process lives", |lives| {
        lives.iter().filter(|life| life.ended.is_none()).count() == 1
    })?;
    Ok(())
}
