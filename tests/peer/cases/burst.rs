//! A peer that ends in peace: it stops, kills and removes all its chaincode at once, and leaves after five seconds
//! whatever was answered by then (protocol §3.8).

use std::io::BufReader;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::{Greeting, Steps};

use crate::faults::{Chapter, Row};
use crate::world::Counterparts;
use testbed::engine::{chaincode_body, read_body, read_head};

const CONTAINERS: usize = 20;

/// What Fabric's `Router.Shutdown` gives all of them together.
const PATIENCE: Duration = Duration::from_secs(5);

const IMAGE: &str = "test-burst-image";
const LABEL: &str = "burst";

/// A process that says hello and ends with SIGTERM, as chaincode does: with a code that tells of it. Twenty that are deaf to it take two seconds more, the
/// kubelet's least patience.
const OBEDIENT: &str = "#!/bin/sh\ntrap 'exit 143' TERM\n\
    (echo \"hello $CORE_CHAINCODE_ID_NAME $HOSTNAME $$\"; exec sleep 100000) | nc 10.88.0.1 7999 &\nwait\n";

fn name(number: usize) -> String {
    format!("test-burst-{number}")
}

/// Does `work` for all containers at once; gives what each of them gave.
fn at_once<T: Send>(work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..CONTAINERS)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a thread panicked")?)
            .collect()
    })
}

pub(super) fn twenty_chaincodes_are_ended_at_once_within_five_seconds(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let base = c.registry.reference(&c.assets.images()?.runtime);
    c.engine.build_script(IMAGE, &base, OBEDIENT)?;
    let mut steps = Steps::new();
    steps.time("20 containers to hello", || {
        at_once(|number| {
            let (name, id) = (name(number), format!("{LABEL}:{number}"));
            c.engine.create(Some(&name), &chaincode_body(IMAGE, &id))?;
            c.engine
                .order("POST", &format!("/containers/{name}/start"), &[204])
        })?;
        c.greetings.wait_until(
            "20 processes live",
            LABEL,
            Duration::from_secs(120),
            |all| all.len() == CONTAINERS && all.iter().all(|one| one.ended.is_none()),
        )
    })?;
    // As a peer has them open; the head says that Kubernetes knows the process to run.
    let waits = at_once(|number| {
        let path = format!("/containers/{}/wait", name(number));
        let mut wait = BufReader::new(c.engine.open("POST", &path, "plain/text", b"")?);
        Ok((read_head(&mut wait)?, wait))
    })?;
    let begun = Instant::now();
    let times = steps.time("stop, kill and removal of all", || {
        at_once(|number| {
            let path = format!("/containers/{}", name(number));
            c.engine
                .order("POST", &format!("{path}/stop?t=0"), &[204])?;
            let stopped = begun.elapsed();
            c.engine.order("POST", &format!("{path}/kill?"), &[409])?;
            c.engine
                .order("DELETE", &format!("{path}?force=1"), &[204])?;
            Ok((stopped, begun.elapsed()))
        })
    })?;
    let last = times.iter().map(|(_, removed)| *removed).max();
    ensure!(
        last.is_some_and(|last| last < PATIENCE),
        "stopped and removed after: {times:?}"
    );
    c.table.add(Row {
        chapter: Chapter::Life,
        fault: "20 chaincodes stopped, killed and removed at once, as a peer does that ends",
        said: "each order is answered when it is carried out; `wait`: 137".to_owned(),
        after: last,
        left: "nothing".to_owned(),
        next: "the peer launches them at its next start",
    });
    for (head, wait) in waits {
        let answer = read_body(&head, wait)?;
        ensure!(
            answer.text().contains("\"StatusCode\":137"),
            "wait was answered with {}",
            answer.text()
        );
    }
    let ended =
        |all: &[Greeting]| all.len() == CONTAINERS && all.iter().all(|one| one.ended.is_some());
    c.greetings
        .wait_until("all processes have ended", LABEL, PATIENCE, ended)?;
    for kind in ["pods", "secrets"] {
        let left = c.cluster.kubectl(&[
            "get",
            kind,
            "--namespace",
            testbed::peitho::CHAINCODE_NAMESPACE,
            "-o",
            "jsonpath={.items[*].metadata.annotations.peitho\\.dev/container-name}",
        ])?;
        ensure!(!left.contains("test-burst-"), "left {kind} of {left}");
    }
    Ok(Some(steps))
}
