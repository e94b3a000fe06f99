//! The table driver × scenario (dockerd | Peitho), and the differences: `docs/protocol.md`. It holds no times and no random words: two
//! runs write the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use testbed::peitho::project;
use testbed::{DRIVERS, Driver, Library};

use crate::world::Target;
use crate::{differences, expected};

/// How each cell came out.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<BTreeMap<(&'static str, &'static str, Target), Outcome>>);

/// How a driver fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    AsExpected,
    Wrong,
}

impl Table {
    pub(crate) fn add(
        &self,
        scenario: &'static str,
        driver: &Driver,
        target: Target,
        outcome: Outcome,
    ) {
        self.cells()
            .insert((scenario, driver.name, target), outcome);
    }

    /// After a run of all cases: renews the page when that is asked for, else holds it against what was seen.
    pub(crate) fn compare(&self) -> Result<()> {
        let page = project().join("docs/protocol.md");
        let fresh = render(&self.cells());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            return fs::write(&page, fresh).context("docs/protocol.md");
        }
        let stands = fs::read_to_string(&page).unwrap_or_default();
        ensure!(
            stands == fresh,
            "docs/protocol.md is stale: make protocol\nit would have\n{fresh}"
        );
        Ok(())
    }

    fn cells(&self) -> MutexGuard<'_, BTreeMap<(&'static str, &'static str, Target), Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const INTRODUCTION: &str = "# The protocol, by every client\n\n\
    Fabric peers reach their Docker daemon through two client libraries in seven versions. For each there is a *driver*: a small Go program \
    with exactly this version, which makes a peer's calls in a peer's order and concurrency, and prints what it observed. The test suite \
    judges it (`make protocol` writes this page): on a real dockerd first, then on Peitho with the `oci` runtime, all drivers of a scenario \
    at once. Compiles and chaincode are shell scripts, which dial the driver as chaincode dials its peer.\n\n\
    The reference is dockerd 20.10 of Debian, with API 1.41. moby 0.2.1 speaks 1.44 and newer only; there, and not with Peitho, its \
    version is fixed to 1.41.\n";

fn render(cells: &BTreeMap<(&'static str, &'static str, Target), Outcome>) -> String {
    let mut page =
        format!("{INTRODUCTION}\n## Scenarios\n\n| scenario | what happens |\n|---|---|\n");
    for (scenario, about) in expected::SCENARIOS {
        let _ = writeln!(page, "| `{scenario}` | {about} |");
    }
    page.push_str("\n## Drivers\n\n| driver | releases of Fabric |\n|---|---|\n");
    for driver in &DRIVERS {
        let _ = writeln!(page, "| {} | {} |", driver.name, driver.peers);
    }
    page.push_str(
        "\n## Results\n\ndockerd \\| Peitho. ✓ is as expected of both, ✓ with a number as that difference below says, ✗ is wrong, – was not \
         played.\n\n| scenario |",
    );
    for driver in &DRIVERS {
        let _ = write!(page, " {} |", driver.name);
    }
    page.push_str(&format!("\n|---|{}\n", "---|".repeat(DRIVERS.len())));
    for (scenario, _) in expected::SCENARIOS {
        let _ = write!(page, "| `{scenario}` |");
        for driver in &DRIVERS {
            let [dockerd, peitho] =
                Target::ALL.map(
                    |target| match cells.get(&(*scenario, driver.name, target)) {
                        Some(Outcome::AsExpected) => "✓",
                        Some(Outcome::Wrong) => "✗",
                        None => "–",
                    },
                );
            let _ = write!(
                page,
                " {dockerd} \\| {peitho}{} |",
                numbers(scenario, driver)
            );
        }
        page.push('\n');
    }
    page.push_str(
        "\n## Differences\n\nAll are deliberate.\n\n| | scenario | clients | dockerd | Peitho | reason |\n|---|---|---|---|---|---|\n",
    );
    for (index, difference) in differences::all().iter().enumerate() {
        let clients = match difference.library {
            Some(Library::Fsouza) => "fsouza",
            Some(Library::Moby) => "moby",
            None => "all",
        };
        let differences::Difference {
            scenario,
            dockerd,
            peitho,
            reason,
            ..
        } = difference;
        let number = index + 1;
        let _ = writeln!(
            page,
            "| {number} | `{scenario}` | {clients} | {dockerd} | {peitho} | {reason} |"
        );
    }
    page
}

/// The numbers of the differences that a driver sees in a scenario.
fn numbers(scenario: &str, driver: &Driver) -> String {
    let all = differences::all();
    let seen = all.iter().enumerate();
    seen.filter(|(_, difference)| difference.concerns(scenario, driver))
        .map(|(index, _)| format!(" {}", index + 1))
        .collect()
}
