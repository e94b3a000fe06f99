//! The table driver × scenario (dockerd | Peitho), and the differences: `docs/protocol.md`. It holds no times and no random words: two
//! runs write the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use testbed::peitho::project;
use testbed::{DRIVERS, Driver};

use crate::refusals::{self, Refusal};
use crate::ways::Way;
use crate::world::Target;
use crate::{differences, expected};

/// Way, scenario, driver, engine.
type Cell = (Way, &'static str, &'static str, Target);

#[derive(Debug, Default)]
struct Cells {
    outcomes: BTreeMap<Cell, Outcome>,
    /// What was refused as it should be.
    refused: BTreeSet<&'static str>,
}

/// How each cell came out.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<Cells>);

/// How a driver fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    AsExpected,
    Wrong,
}

impl Table {
    pub(crate) fn add(
        &self,
        way: Way,
        scenario: &'static str,
        driver: &Driver,
        target: Target,
        outcome: Outcome,
    ) {
        self.cells()
            .outcomes
            .insert((way, scenario, driver.name, target), outcome);
    }

    /// A refusal that every driver met, and the log told of.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.cells().refused.insert(refusal.what);
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

    fn cells(&self) -> MutexGuard<'_, Cells> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const INTRODUCTION: &str = "# The protocol, by every client\n\n\
    Fabric peers reach their Docker daemon through two client libraries in seven versions. For each there is a *driver*, for one of them \
    two since its peers use it in two ways: a small Go program with exactly this version, which makes a peer's calls in a peer's order and concurrency, and prints what it observed. The test suite \
    judges it (`make protocol` writes this page): on a real dockerd first, then on Peitho with the `oci` runtime, by each way to an engine; some \
    of it on Kubernetes. All drivers of a scenario play at once. Compiles and chaincode are shell scripts, which dial the driver as chaincode dials its peer.\n\n\
    The reference is dockerd 20.10 of Debian, with API 1.41. moby 0.2.1 speaks 1.44 and newer only; there, and not with Peitho, its \
    version is fixed to 1.41.\n";

fn render(cells: &Cells) -> String {
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
         played.\n",
    );
    for way in Way::ALL {
        render_way(&mut page, &cells.outcomes, way);
    }
    render_refusals(&mut page, cells);
    page.push_str(
        "\n## Differences\n\nAll are deliberate.\n\n| | scenario | clients | dockerd | Peitho | reason |\n|---|---|---|---|---|---|\n",
    );
    for (index, difference) in differences::all().iter().enumerate() {
        let clients = difference.clients.name();
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

/// Of one way: the scenarios that were played.
fn render_way(page: &mut String, outcomes: &BTreeMap<Cell, Outcome>, way: Way) {
    let drivers: Vec<_> = way.drivers().iter().map(|index| &DRIVERS[*index]).collect();
    let _ = write!(
        page,
        "\n### {}\n\n{}\n\n| scenario |",
        way.title(),
        way.about()
    );
    for driver in &drivers {
        let _ = write!(page, " {} |", driver.name);
    }
    let _ = writeln!(page, "\n|---|{}", "---|".repeat(drivers.len()));
    for (scenario, _) in expected::SCENARIOS {
        if !outcomes
            .keys()
            .any(|cell| (cell.0, cell.1) == (way, *scenario))
        {
            continue;
        }
        let _ = write!(page, "| `{scenario}` |");
        for driver in &drivers {
            let [dockerd, peitho] = Target::ALL.map(|target| {
                match outcomes.get(&(way, *scenario, driver.name, target)) {
                    Some(Outcome::AsExpected) => "✓",
                    Some(Outcome::Wrong) => "✗",
                    None => "–",
                }
            });
            let numbers = numbers(way, scenario, driver);
            let _ = write!(page, " {dockerd} \\| {peitho}{numbers} |");
        }
        page.push('\n');
    }
}

fn render_refusals(page: &mut String, cells: &Cells) {
    page.push_str(
        "\n## Refusals\n\nWho must not be let in, by every driver: dockerd and Peitho refuse it, and this is what the peer's log and Peitho's \
         say then. Peitho serves two organisations here, each by its own authority.\n\n| who comes | the peer | Peitho |\n|---|---|---|\n",
    );
    let all = refusals::ALL.iter();
    for refusal in all.filter(|it| cells.refused.contains(it.what)) {
        let Refusal { what, said, .. } = refusal;
        let _ = writeln!(page, "| {what} | `{said}` | `{}` |", refusal.reason());
    }
}

/// The numbers of the differences that a driver sees in a scenario by a way.
fn numbers(way: Way, scenario: &str, driver: &Driver) -> String {
    let all = differences::all();
    let seen = all.iter().enumerate();
    seen.filter(|(_, difference)| difference.concerns(way, scenario, driver))
        .map(|(index, _)| format!(" {}", index + 1))
        .collect()
}
