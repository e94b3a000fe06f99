//! Where the time of an install's compile goes, part by part, as the server itself tells it (`docs/metrics.md`): what its histogram has
//! more after an install than before. Parts that nobody waits for are left out: they may still be another compile's.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use testbed::engine::{Engine, read_answer};

use super::report::Report;

/// As the server calls them, in their order.
const PARTS: [&str; 12] = [
    "queue",
    "order",
    "schedule",
    "start",
    "source_fetch",
    "cache_fetch",
    "command",
    "pack",
    "upload",
    "exit_known",
    "keep",
    "reply",
];

/// Seconds by part.
type Seconds = BTreeMap<&'static str, f64>;

/// The parts of several installs under one condition.
#[derive(Default)]
pub(super) struct Parts(Vec<Seconds>);

impl Parts {
    /// Does one more `install`; the server's metrics are at `admin`.
    pub(super) fn of<T>(
        &mut self,
        admin: SocketAddr,
        install: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let before = seconds(admin)?;
        let done = install()?;
        let after = seconds(admin)?;
        ensure!(
            after.contains_key("command"),
            "the metrics tell of no command"
        );
        let more = after.into_iter().filter_map(|(part, sum)| {
            let more = sum - before.get(part).copied().unwrap_or_default();
            (more > 0.0).then_some((part, more))
        });
        self.0.push(more.collect());
        Ok(done)
    }

    /// Puts them into `report`, as `<figure>_part_<part><suffix>_s`; a part that did not come in some install is 0 there.
    pub(super) fn report(self, figure: &str, suffix: &str, report: &mut Report) {
        for part in PARTS {
            let values: Vec<_> = (self.0.iter())
                .map(|seconds| seconds.get(part).copied())
                .collect();
            if values.iter().any(Option::is_some) {
                let values = values.into_iter().map(Option::unwrap_or_default).collect();
                report.detail(&format!("{figure}_part_{part}{suffix}_s"), values);
            }
        }
    }
}

/// What the server's histogram has of each part.
fn seconds(admin: SocketAddr) -> Result<Seconds> {
    let told = metrics(&Engine::new(admin))?;
    let sums = PARTS.into_iter().filter_map(|part| {
        let series = format!("peitho_compile_part_duration_seconds_sum{{part=\"{part}\"}} ");
        let sum = told.lines().find_map(|line| line.strip_prefix(&series))?;
        Some((part, sum))
    });
    sums.map(|(part, sum)| Ok((part, sum.parse().context("a metric that is no number")?)))
        .collect()
}

/// All metrics of a server.
pub(super) fn metrics(admin: &Engine) -> Result<String> {
    let stream = admin.open("GET", "/metrics", "", b"")?;
    Ok(read_answer(BufReader::new(stream))?.text())
}
