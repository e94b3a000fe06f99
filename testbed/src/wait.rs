//! Owns waiting: the one place that polls. The programs that the testbed starts announce their readiness nowhere, so their
//! health is asked again and again until it is good or a deadline passes; every component calls this and none sleeps.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const INTERVAL: Duration = Duration::from_millis(50);
const LINES_IN_ERROR: usize = 25;

/// Polls `condition` until it gives a value. An error of the condition ends the wait at once; the deadline's error names
/// `what` and holds the end of `log`.
pub fn until<T>(
    what: &str,
    timeout: Duration,
    log: Option<&Path>,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            let log = log.map(describe_log).unwrap_or_default();
            bail!("{what}: not within {} s{log}", timeout.as_secs_f64());
        }
        thread::sleep(INTERVAL);
    }
}

/// The end of a log and its path, in the form in which errors carry it.
pub(crate) fn describe_log(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES_IN_ERROR)..];
    format!("\nlog {}, last lines:\n{}", path.display(), tail.join("\n"))
}
