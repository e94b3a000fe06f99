//! The cases: one for each scenario, which all drivers play at once, as peers of one server do.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Result, ensure};
use serde_json::{Map, Value};
use testbed::suite::Case;
use testbed::{DRIVERS, Steps};

use crate::table::Outcome;
use crate::world::{Counterparts, Target};
use crate::{differences, expected};

/// All cases by name, which is the scenario's.
pub(crate) const ALL: &[(&str, Case<Counterparts>)] = &[
    ("build", |c| judge(c, "build")),
    ("car", |c| judge(c, "car")),
    ("compile_error", |c| judge(c, "compile_error")),
    ("compile_output", |c| judge(c, "compile_output")),
    ("no_output", |c| judge(c, "no_output")),
    ("late_attach", |c| judge(c, "late_attach")),
    ("launch", |c| judge(c, "launch")),
    ("relaunch", |c| judge(c, "relaunch")),
    ("failed_start", |c| judge(c, "failed_start")),
    ("pull", |c| judge(c, "pull")),
    ("connections", |c| judge(c, "connections")),
    ("burst", |c| judge(c, "burst")),
    ("life", |c| judge(c, "life")),
];

/// dockerd has to be as expected before anything is said about Peitho.
fn judge(c: &Counterparts, scenario: &'static str) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let mut wrong = String::new();
    for target in Target::ALL {
        let all = steps.time(target.name(), || play_all(c, target, scenario));
        for (driver, seen) in DRIVERS.iter().zip(all) {
            let judged = seen.and_then(|mut seen| {
                let mut wanted = expected::facts(scenario, driver);
                differences::apply(&mut wanted, &mut seen, target, scenario, driver);
                compare(&wanted, &seen)
            });
            let outcome = match judged {
                Ok(()) => Outcome::AsExpected,
                Err(error) => {
                    let _ = write!(wrong, "\n{} with {}: {error:#}", target.name(), driver.name);
                    Outcome::Wrong
                }
            };
            c.table.add(scenario, driver, target, outcome);
        }
    }
    ensure!(wrong.is_empty(), "{scenario}:{wrong}");
    Ok(Some(steps))
}

/// What each driver observes. Bursts are played one after another, since each is timed; everything else at once.
fn play_all(c: &Counterparts, target: Target, scenario: &str) -> Vec<Result<Value>> {
    let drivers = 0..DRIVERS.len();
    if scenario == "burst" {
        return drivers
            .map(|index| c.play(index, target, scenario))
            .collect();
    }
    thread::scope(|scope| {
        let playing: Vec<_> = drivers
            .map(|index| scope.spawn(move || c.play(index, target, scenario)))
            .collect();
        playing
            .into_iter()
            .map(|it| it.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
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
