//! Launches that fail, and the next ones, which do not. What the operator's configuration brings about is judged for several chaincodes at
//! once, each with a template of its own: all of them wait for the kubelet nearly all of the time.

use std::cmp::Reverse;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::{Steps, at_once};

use super::recorder::Recorder;
use super::subject::{SHARED, Subject};
use super::{
    Cause, Chapter, Fault, Left, Row, SOON, expect, in_time, left, refused, settled, tell, wanted,
    words,
};
use crate::world::Counterparts;

/// What is judged at once. More of it would be slower than the limits of a single launch.
const OWN: [Subject; 4] = [
    Subject::own("fault1", "fault1_1"),
    Subject::own("fault2", "fault2_1"),
    Subject::own("fault3", "fault3_1"),
    Subject::own("fault4", "fault4_1"),
];

/// Judges each fault, or those that are asked for; those that fail do not hide the others.
pub(crate) fn judge_launches(c: &Counterparts, faults: &[Fault]) -> Result<Option<Steps>> {
    let before = left(c)?;
    let mut steps = Steps::new();
    // By their places in the list, which is also the table's order.
    let mut judged: Vec<(usize, Result<Row>)> = Vec::new();
    let (mut together, alone): (Vec<_>, Vec<_>) = (faults.iter().enumerate())
        .filter(|(_, fault)| wanted(fault))
        .partition(|(_, fault)| matches!(fault.cause, Cause::Config(_)));
    // Those that take long take that together.
    together.sort_by_key(|(_, fault)| Reverse(fault.known_after));
    let deploys = !together.is_empty();
    if deploys {
        for deployed in at_once(&OWN, |subject| subject.deploy(c)) {
            deployed?;
        }
    }
    // What is recorded is to be that of one fault alone.
    let size = if Recorder::is_wanted() { 1 } else { OWN.len() };
    for batch in together.chunks(size) {
        let pairs: Vec<_> = OWN
            .into_iter()
            .zip(batch.iter().map(|(_, fault)| *fault))
            .collect();
        let names: Vec<_> = batch.iter().map(|(_, fault)| fault.name).collect();
        let names = names.join("; ");
        testbed::say(format!("faults: {names}"));
        let rows = steps.time(&names, || judge_batch(c, &pairs));
        let rows = rows.unwrap_or_else(|error| {
            c.configure_as_before().ok();
            let each = batch.iter().map(|_| Err(anyhow!("{error:#}")));
            each.collect()
        });
        judged.extend(batch.iter().map(|(place, _)| *place).zip(rows));
    }
    for (place, fault) in alone {
        testbed::say(format!("fault: {}", fault.name));
        let row = steps.time(fault.name, || judge_alone(c, fault));
        if row.is_err() {
            fault.cause.unset(c).ok();
        }
        judged.push((place, row));
    }
    if deploys {
        for retired in at_once(&OWN, |subject| subject.retire(c)) {
            retired?;
        }
    }
    judged.sort_by_key(|(place, _)| *place);
    let judged = judged.into_iter();
    tell(c, judged.map(|(place, row)| (&faults[place], row)))?;
    settled(c, &before)?;
    Ok(Some(steps))
}

/// The chaincode's container is gone, the fault is there, and somebody invokes.
fn judge_alone(c: &Counterparts, fault: &Fault) -> Result<Row> {
    SHARED.end(c)?;
    fault.cause.set(c)?;
    let row = fails(c, SHARED, fault)?;
    fault.cause.unset(c)?;
    serves_again(c, SHARED, fault)?;
    Ok(row)
}

/// The same for several faults of the operator's, each of which happens to its own chaincode.
fn judge_batch(c: &Counterparts, batch: &[(Subject, &Fault)]) -> Result<Vec<Result<Row>>> {
    for ended in at_once(batch, |(subject, _)| subject.end(c)) {
        ended?;
    }
    let mut overrides = Vec::new();
    for (subject, fault) in batch {
        overrides.push(json!({"label": subject.label(), "podTemplate": template(c, fault)?}));
    }
    c.reconfigure(|config| {
        let others = config["chaincode"]["overrides"].as_array_mut();
        others.expect("the suite has some").extend(overrides);
    })?;
    let told = at_once(batch, |(subject, fault)| fails(c, *subject, fault));
    c.configure_as_before()?;
    let next = at_once(batch, |(subject, fault)| serves_again(c, *subject, fault));
    let both = told.into_iter().zip(next);
    Ok(both
        .map(|(row, next)| row.and_then(|row| next.map(|()| row)))
        .collect())
}

/// What the fault's configuration lays over pods.
fn template(c: &Counterparts, fault: &Fault) -> Result<Value> {
    let Cause::Config(change) = &fault.cause else {
        anyhow::bail!("{} is not of the configuration", fault.name);
    };
    let mut config = json!({});
    change(c, &mut config);
    let template = config["chaincode"]["podTemplate"].take();
    ensure!(
        config == json!({"chaincode": {"podTemplate": null}}) && !template.is_null(),
        "{}: more than a template: {config}",
        fault.name
    );
    Ok(template)
}

/// Somebody invokes, and is told.
fn fails(c: &Counterparts, subject: Subject, fault: &Fault) -> Result<Row> {
    let before = subject.left(c)?;
    let recorder = Recorder::start(c, subject.label())?;
    let begun = Instant::now();
    let told = subject.invoke(c, "fault");
    let after = begun.elapsed();
    if let Some(recorder) = recorder {
        recorder.finish(fault.name, fault.says, after.as_secs_f64())?;
    }
    let told = refused(told)?;
    expect(&told, fault.says)?;
    in_time(after, fault)?;
    let left = subject.left(c)?.beside(&before);
    nothing_runs(c, &left)?;
    ensure!(
        left.pods.len() <= 1 && left.secrets.len() <= 1,
        "after the failure there are {left:?}"
    );
    Ok(Row {
        chapter: Chapter::Launch,
        fault: fault.name,
        said: words(&told.output.stderr),
        after: Some(after),
        left: left.to_string(),
        next: "the next invoke launches it",
    })
}

fn serves_again(c: &Counterparts, subject: Subject, fault: &Fault) -> Result<()> {
    subject.invoke(c, fault.name).context("the next invoke")?;
    subject.one_pod(c)
}

/// A process that ran and ended leaves its pod, as a container that exited stays in Docker; nothing may run or come to run.
fn nothing_runs(c: &Counterparts, left: &Left) -> Result<()> {
    for pod in &left.pods {
        let phase = [
            "get",
            pod,
            "--namespace",
            CHAINCODE_NAMESPACE,
            "-o",
            "jsonpath={.status.phase}",
        ];
        let what = format!("{pod} is over");
        testbed::wait::until(&what, SOON, None, || {
            let phase = c.cluster.kubectl(&phase)?;
            Ok(["Failed", "Succeeded"]
                .contains(&phase.trim())
                .then_some(()))
        })?;
    }
    Ok(())
}
