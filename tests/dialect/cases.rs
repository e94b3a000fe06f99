//! The cases: one for each way and scenario, which all drivers of the way play at once, as peers of one server do.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use testbed::suite::Case;
use testbed::{DRIVERS, Steps, at_once};

use crate::table::Outcome;
use crate::ways::Way;
use crate::world::{Counterparts, Target};
use crate::{differences, expected, refusals};

/// All cases by name: the scenario's, after the way's where that is not TCP.
pub(crate) const ALL: &[(&str, Case<Counterparts>)] = &[
    ("build", |c| judge(c, Way::Tcp, "build")),
    ("car", |c| judge(c, Way::Tcp, "car")),
    ("compile_error", |c| judge(c, Way::Tcp, "compile_error")),
    ("compile_output", |c| judge(c, Way::Tcp, "compile_output")),
    ("no_output", |c| judge(c, Way::Tcp, "no_output")),
    ("late_attach", |c| judge(c, Way::Tcp, "late_attach")),
    ("launch", |c| judge(c, Way::Tcp, "launch")),
    ("relaunch", |c| judge(c, Way::Tcp, "relaunch")),
    ("failed_start", |c| judge(c, Way::Tcp, "failed_start")),
    ("pull", |c| judge(c, Way::Tcp, "pull")),
    ("connections", |c| judge(c, Way::Tcp, "connections")),
    ("burst", |c| judge(c, Way::Tcp, "burst")),
    ("life", judge_life),
    ("tls_build", |c| judge(c, Way::Tls, "build")),
    ("tls_compile_error", |c| judge(c, Way::Tls, "compile_error")),
    ("tls_compile_output", |c| {
        judge(c, Way::Tls, "compile_output")
    }),
    ("tls_launch", |c| judge(c, Way::Tls, "launch")),
    ("tls_relaunch", |c| judge(c, Way::Tls, "relaunch")),
    ("tls_failed_start", |c| judge(c, Way::Tls, "failed_start")),
    ("tls_connections", |c| judge(c, Way::Tls, "connections")),
    ("tls_burst", |c| judge(c, Way::Tls, "burst")),
    ("old_tls_build", |c| judge(c, Way::OldTls, "build")),
    ("old_tls_launch", |c| judge(c, Way::OldTls, "launch")),
    ("socket_build", |c| judge(c, Way::Socket, "build")),
    ("socket_launch", |c| judge(c, Way::Socket, "launch")),
    ("socket_relaunch", |c| judge(c, Way::Socket, "relaunch")),
    ("kubernetes_build", |c| judge(c, Way::Kubernetes, "build")),
    ("kubernetes_compile_error", |c| {
        judge(c, Way::Kubernetes, "compile_error")
    }),
    ("kubernetes_launch", |c| judge(c, Way::Kubernetes, "launch")),
    ("kubernetes_relaunch", |c| {
        judge(c, Way::Kubernetes, "relaunch")
    }),
    ("kubernetes_burst", |c| judge(c, Way::Kubernetes, "burst")),
    ("refused_without", |c| refusals::judge(c, &refusals::ALL[0])),
    ("refused_expired", |c| refusals::judge(c, &refusals::ALL[1])),
    ("refused_foreign", |c| refusals::judge(c, &refusals::ALL[2])),
    ("refused_of_another", |c| {
        refusals::judge(c, &refusals::ALL[3])
    }),
    ("refused_server", |c| refusals::judge(c, &refusals::ALL[4])),
    ("refused_plain", |c| refusals::judge(c, &refusals::ALL[5])),
    ("refused_tls", |c| refusals::judge(c, &refusals::ALL[6])),
];

/// dockerd has to be as expected before anything is said about Peitho.
fn judge(c: &Counterparts, way: Way, scenario: &'static str) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let played = Target::ALL.map(|target| {
        let all = steps.time(target.name(), || play_all(c, way, target, scenario));
        (way, target, all)
    });
    judge_played(c, scenario, played.into())?;
    Ok(Some(steps))
}

/// Nearly all of its time is that in which nothing happens: all ways and both engines have it together.
fn judge_life(c: &Counterparts) -> Result<Option<Steps>> {
    const SCENARIO: &str = "life";
    let ways = [Way::Tcp, Way::Tls, Way::Socket];
    let rounds = Target::ALL.map(|target| ways.map(|way| (way, target)));
    let played = at_once(&rounds.concat(), |(way, target)| {
        (*way, *target, play_all(c, *way, *target, SCENARIO))
    });
    judge_played(c, SCENARIO, played)?;
    Ok(None)
}

/// What the drivers of a way observed at an engine.
type Played = (Way, Target, Vec<Result<Value>>);

fn judge_played(c: &Counterparts, scenario: &'static str, played: Vec<Played>) -> Result<()> {
    let mut wrong = String::new();
    for (way, target, all) in played {
        for (index, seen) in way.drivers().into_iter().zip(all) {
            let driver = &DRIVERS[index];
            let judged = seen.and_then(|mut seen| {
                let mut wanted = expected::facts(scenario, driver);
                if let Some((version, _)) = way.tls() {
                    wanted["tls"] = json!([version]);
                }
                differences::apply(&mut wanted, &mut seen, way, target, scenario, driver);
                compare(&wanted, &seen)
            });
            let outcome = match judged {
                Ok(()) => Outcome::AsExpected,
                Err(error) => {
                    let (way, target) = (way.name(), target.name());
                    let _ = write!(wrong, "\n{target} with {} by {way}: {error:#}", driver.name);
                    Outcome::Wrong
                }
            };
            c.table.add(way, scenario, driver, target, outcome);
        }
    }
    ensure!(wrong.is_empty(), "{scenario}:{wrong}");
    Ok(())
}

/// What each driver observes. Bursts are played one after another, since each is timed; everything else at once.
fn play_all(c: &Counterparts, way: Way, target: Target, scenario: &str) -> Vec<Result<Value>> {
    let drivers = way.drivers();
    let said = c.secured().process().log().len();
    let play = |index: &usize| c.play(*index, way, target, scenario);
    let mut all: Vec<_> = match scenario {
        "burst" => drivers.iter().map(play).collect(),
        _ => at_once(&drivers, play),
    };
    if let (Target::Peitho, Some((_, version))) = (target, way.tls()) {
        let log = c.secured().process().log();
        let admitted = admitted_by(&log[said.min(log.len())..], version);
        all = all
            .into_iter()
            .map(|seen| match &admitted {
                Ok(()) => seen,
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            })
            .collect();
    }
    all
}

/// Each connection of a client that was let in is to be of this version: also those of attach, where fsouza does not show it.
fn admitted_by(log: &str, version: &str) -> Result<()> {
    let mut lines = log
        .lines()
        .filter(|line| line.contains("tls: client let in"))
        .peekable();
    lines.peek().context("Peitho's log tells of no client")?;
    let wanted = format!("version=\"{version}\"");
    let other = lines.find(|line| !line.contains(&wanted));
    ensure!(
        other.is_none(),
        "a connection of another version: {other:?}"
    );
    Ok(())
}

/// All facts, each that is wrong with its name in the error.
fn compare(wanted: &Value, seen: &Value) -> Result<()> {
    let empty = Map::new();
    let [wanted, seen] = [wanted, seen].map(|facts| facts.as_object().unwrap_or(&empty));
    let text = |facts: &Map<String, Value>, name: &str| {
        let value = facts.get(name);
        value.map_or_else(|| "nothing".to_owned(), Value::to_string)
    };
    let names: BTreeSet<_> = wanted.keys().chain(seen.keys()).collect();
    let wrong: Vec<_> = names
        .into_iter()
        .filter(|name| wanted.get(*name) != seen.get(*name))
        .map(|name| format!("{name} is {}, not {}", text(seen, name), text(wanted, name)))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}
