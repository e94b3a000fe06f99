//! Faults, judged by what a peer's own command line tells its user: the cause, how soon, what was left behind, and that the next try
//! works without a hand on Kubernetes. Cases bring the faults and call [`judge_launches`] or [`judge_all`]; each becomes a row of
//! `docs/faults.md`.

mod launches;
mod recorder;
mod subject;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testbed::{Chaincode, CliError, Compile, Steps};

pub(crate) use launches::judge_launches;
pub(crate) use subject::SHARED;
use table::unquoted;
pub(crate) use table::{Chapter, Row, Table, words};

use crate::world::{Counterparts, PEER};

/// How soon a user must know after Kubernetes does.
const SOON: Duration = Duration::from_secs(10);

/// What goes wrong.
pub(crate) enum Cause {
    /// The operator lays this over the server's configuration, and takes it back.
    Config(fn(&Counterparts, &mut Value)),
    /// Something outside of the server happens, and is undone.
    Outside(
        fn(&Counterparts) -> Result<()>,
        fn(&Counterparts) -> Result<()>,
    ),
}

/// One fault.
pub(crate) struct Fault {
    /// As the table calls it.
    pub(crate) name: &'static str,
    pub(crate) cause: Cause,
    /// What the user must be told, word for word.
    pub(crate) says: &'static [&'static str],
    /// How long Kubernetes itself takes to know: a grace, or the pause before its second attempt.
    pub(crate) known_after: Duration,
}

impl Cause {
    fn set(&self, c: &Counterparts) -> Result<()> {
        match self {
            Self::Config(change) => c.reconfigure(|config| change(c, config)),
            Self::Outside(set, _) => set(c),
        }
    }

    fn unset(&self, c: &Counterparts) -> Result<()> {
        match self {
            Self::Config(_) => c.configure_as_before(),
            Self::Outside(_, unset) => unset(c),
        }
    }
}

/// Whether the text of the variable `FAULT` is in its name.
fn wanted(fault: &Fault) -> bool {
    fault
        .name
        .contains(&std::env::var("FAULT").unwrap_or_default())
}

/// Judges each fault, or those that are asked for; those that fail do not hide the others.
pub(crate) fn judge_all(
    c: &Counterparts,
    faults: &[Fault],
    judge: fn(&Counterparts, &Fault) -> Result<Row>,
) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let mut judged = Vec::new();
    for fault in faults.iter().filter(|fault| wanted(fault)) {
        testbed::say(format!("fault: {}", fault.name));
        let row = steps.time(fault.name, || judge(c, fault));
        if row.is_err() {
            // The next fault must not suffer from this one.
            fault.cause.unset(c).ok();
        }
        judged.push((fault, row));
    }
    tell(c, judged)?;
    Ok(Some(steps))
}

/// The table gets what went well; the rest is the error.
fn tell<'a>(
    c: &Counterparts,
    judged: impl IntoIterator<Item = (&'a Fault, Result<Row>)>,
) -> Result<()> {
    let (mut failed, mut all) = (Vec::new(), 0);
    for (fault, row) in judged {
        all += 1;
        match row {
            Ok(row) => c.table.add(row),
            Err(error) => {
                testbed::say(format!("fault: {}: FAILED: {error:#}", fault.name));
                failed.push(format!("{}: {error:#}", fault.name));
            }
        }
    }
    ensure!(
        failed.is_empty(),
        "{} faults of {all}:\n{}",
        failed.len(),
        failed.join("\n")
    );
    Ok(())
}

/// An install that fails: a package that nobody has seen, with the copying builder.
pub(crate) fn judge_install(c: &Counterparts, fault: &Fault) -> Result<Row> {
    judge_install_of(c, fault, Compile::Copies)
}

/// The same for a package whose compile goes wrong as the fault says.
pub(crate) fn judge_install_of(c: &Counterparts, fault: &Fault, compile: Compile) -> Result<Row> {
    let label = label_of(fault.name);
    let package = |compile| {
        Chaincode::copied(compile)
            .label(&label)
            .version(&label)
            .package(&c.assets)
    };
    let faulty = package(compile)?;
    fault.cause.set(c)?;
    let begun = Instant::now();
    let told = c.with_fabric(|fabric| Ok(fabric.install(PEER, &faulty)))?;
    let after = begun.elapsed();
    let told = refused(told)?;
    expect(&told, fault.says)?;
    in_time(after, fault)?;
    no_compile(c)?;
    fault.cause.unset(c)?;
    let good = package(Compile::Copies)?;
    c.with_fabric(|fabric| Ok(fabric.install(PEER, &good)?))
        .context("the next install")?;
    no_compile(c)?;
    Ok(Row {
        chapter: Chapter::Install,
        fault: fault.name,
        said: words(&told.output.stderr),
        after: Some(after),
        left: "nothing".to_owned(),
        next: "the next install works",
    })
}

/// Nothing of a compile may be left; its pod goes a moment after its verdict.
pub(crate) fn no_compile(c: &Counterparts) -> Result<()> {
    c.wait_for_none("pods", "compile")?;
    c.wait_for_none("secrets", "compile")
}

/// What a label may hold of a fault's name.
fn label_of(name: &str) -> String {
    let word = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' => letter,
        _ => '_',
    };
    format!("f_{}", name.chars().map(word).collect::<String>())
}

fn refused<T>(result: Result<T, CliError>) -> Result<CliError> {
    match result {
        Err(told) => Ok(told),
        Ok(_) => bail!("it went well although the fault was there"),
    }
}

fn expect(told: &CliError, says: &[&str]) -> Result<()> {
    // The command line quotes the peer's message, which quotes Kubernetes'.
    let heard = unquoted(&told.output.stderr);
    for words in says {
        ensure!(heard.contains(words), "{words:?} is missing in: {told}");
    }
    Ok(())
}

fn in_time(after: Duration, fault: &Fault) -> Result<()> {
    let limit = fault.known_after + SOON;
    ensure!(
        after <= limit,
        "the user knew after {after:?}: the limit is {limit:?}"
    );
    Ok(())
}

/// What there is of Peitho's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) pods: Vec<String>,
    pub(crate) secrets: Vec<String>,
}

impl Left {
    /// What there is beside `before`.
    pub(crate) fn beside(mut self, before: &Self) -> Self {
        self.pods.retain(|pod| !before.pods.contains(pod));
        self.secrets
            .retain(|secret| !before.secrets.contains(secret));
        self
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.pods.len(), self.secrets.len()) {
            (0, 0) => f.write_str("nothing"),
            (0, 1) => f.write_str("no pod; the record, until the next launch"),
            (1, 1) => f.write_str("no process; pod and record, until the next launch"),
            (pods, secrets) => write!(f, "{pods} pods, {secrets} records"),
        }
    }
}

/// Pods and Secrets of both roles.
pub(crate) fn left(c: &Counterparts) -> Result<Left> {
    let all = |kind: &str| -> Result<Vec<String>> {
        Ok([c.objects(kind, "chaincode")?, c.objects(kind, "compile")?].concat())
    };
    Ok(Left {
        pods: all("pods")?,
        secrets: all("secrets")?,
    })
}

/// Waits until there is no more than `before`; a compile's pod goes a moment after its verdict.
pub(crate) fn settled(c: &Counterparts, before: &Left) -> Result<String> {
    let mut now = left(c)?;
    let patience = Duration::from_secs(20);
    let settled = testbed::wait::until("nothing new is left", patience, None, || {
        now = left(c)?;
        // By number: what a peer launches anew has another name.
        let is_as_before =
            now.pods.len() == before.pods.len() && now.secrets.len() == before.secrets.len();
        Ok(is_as_before.then_some(()))
    });
    settled.with_context(|| format!("before {before:?}, now {now:?}"))?;
    Ok("nothing".to_owned())
}
