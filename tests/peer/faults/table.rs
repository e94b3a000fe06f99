//! The table fault × (what the command line said, after how many seconds, what was left, what then): `docs/faults.md`.

use std::fmt::Write as _;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::peitho::project;

/// Where a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Chapter {
    Install,
    Launch,
    Life,
    Outage,
}

const CHAPTERS: [(Chapter, &str, &str); 4] = [
    (
        Chapter::Install,
        "While chaincode is installed",
        "`peer lifecycle chaincode install` by a stock peer. Nothing is installed then, and the peer asks again.",
    ),
    (
        Chapter::Launch,
        "While chaincode starts",
        "`peer chaincode invoke` by a stock peer on chaincode that does not run. Words after *could not launch chaincode* are Kubernetes' own.",
    ),
    (
        Chapter::Life,
        "While chaincode runs",
        "What happens to a running process, to its peer or to Peitho. `wait` is what the peer has open for the life of the process.",
    ),
    (
        Chapter::Outage,
        "While something else is away",
        "The API server, the registry, the store's volume.",
    ),
];

/// One fault as its user saw it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) chapter: Chapter,
    pub(crate) fault: &'static str,
    /// What the command line, or the peer's own connection, was told.
    pub(crate) said: String,
    /// From the user's command to that.
    pub(crate) after: Option<Duration>,
    pub(crate) left: String,
    pub(crate) next: &'static str,
}

/// The rows of this run.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<Vec<Row>>);

impl Table {
    pub(crate) fn add(&self, row: Row) {
        self.rows().push(row);
    }

    /// Prints what this run saw, and leaves it as a page in `target/`, also when the run is not whole.
    pub(crate) fn show(&self) {
        let mut rows = self.rows().clone();
        rows.sort_by_key(|row| row.chapter);
        fs::write(project().join("target/faults.md"), render(&rows)).ok();
        for row in rows {
            let after = row.after.unwrap_or_default().as_secs_f64();
            testbed::say(format!("{after:7.1} s  {}: {}", row.fault, row.said));
        }
    }

    /// After a run of all cases: renews the page when that is asked for, else holds it against what was seen: which faults there are.
    /// What is said of each its case has judged, and times and random names differ from run to run.
    pub(crate) fn compare(&self) -> Result<()> {
        let mut rows = self.rows().clone();
        rows.sort_by_key(|row| row.chapter);
        let page = project().join("docs/faults.md");
        let fresh = render(&rows);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            return fs::write(&page, fresh).context("docs/faults.md");
        }
        let stands = fs::read_to_string(&page).unwrap_or_default();
        let faults = |text: &str| -> Vec<String> {
            let rows = text.lines().filter(|line| line.starts_with("| "));
            rows.filter_map(|line| line.split(" | ").next())
                .map(str::to_owned)
                .collect()
        };
        ensure!(
            faults(&stands) == faults(&fresh),
            "docs/faults.md is stale: make faults\nit would have\n{fresh}"
        );
        Ok(())
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, Vec<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn render(rows: &[Row]) -> String {
    let mut page = "# Faults\n\n\
        What a user sees when something goes wrong, and what is left of it: written by the test suite (`make faults`), from real peers on a \
        real cluster.\nSeconds count from the user's command to its error, the command line's own time included. Host names, hashes and \
        the random parts of names are shortened to `…`.\n"
        .to_owned();
    for (chapter, title, about) in CHAPTERS {
        let _ = write!(
            page,
            "\n## {title}\n\n{about}\n\n| fault | what was said | after | left behind | then |\n|---|---|---|---|---|\n"
        );
        for row in rows.iter().filter(|row| row.chapter == chapter) {
            let Row {
                fault,
                said,
                left,
                next,
                ..
            } = row;
            let after = row.after.map_or_else(
                || "–".to_owned(),
                |after| format!("{:.1} s", after.as_secs_f64()),
            );
            let said = said.replace('|', "\\|");
            let _ = writeln!(page, "| {fault} | {said} | {after} | {left} | {next} |");
        }
    }
    page
}

/// How many of an error's last lines are shown, after its first.
const LAST_LINES: usize = 3;

/// What matters of a command line's output: its error, from the peer's own failure on, with long hashes shortened. Of many lines, as a
/// compiler prints them, the first and the last.
pub(crate) fn words(stderr: &str) -> String {
    let error = stderr.find("Error: ").map_or(stderr, |at| &stderr[at..]);
    let begins = [
        "could not launch chaincode",
        "docker build failed: Error",
        "failed to invoke backing implementation",
    ];
    let from = begins
        .iter()
        .find_map(|begin| error.find(begin))
        .unwrap_or_default();
    let error = unquoted(&error[from..]);
    let mut lines: Vec<&str> = error
        .lines()
        .map(|line| line.trim_matches(['"', ' ']))
        .filter(|line| !line.is_empty())
        .collect();
    if lines.len() > LAST_LINES + 1 {
        lines.splice(1..lines.len() - LAST_LINES, ["…"]);
    }
    shortened(&lines.join(" / "))
}

/// Without the backslashes of a text inside of a text.
pub(crate) fn unquoted(text: &str) -> String {
    text.replace("\\\"", "\"")
}

/// Hexadecimal runs of 8 digits and more, which differ from run to run, as `…`.
fn shortened(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() {
            run.push(letter);
            continue;
        }
        let is_hash = run.len() >= 8 && run.bytes().any(|digit| digit.is_ascii_digit());
        out.push_str(if is_hash { "…" } else { &run });
        run.clear();
        out.push(letter);
    }
    out.trim_end().to_owned()
}
