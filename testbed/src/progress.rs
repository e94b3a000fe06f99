//! Owns what the testbed tells a person while it works: one line when something slow begins, one when it ends. Everything
//! that takes longer than a moment calls it; it is the only place of this crate that writes to the terminal.

use std::sync::OnceLock;
use std::time::Instant;

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Prints one line, with the time since the program's first line.
#[expect(
    clippy::print_stderr,
    reason = "the testbed's one place of output: builds take minutes, and a silent test looks hung"
)]
pub fn say(line: impl AsRef<str>) {
    let elapsed = STARTED.get_or_init(Instant::now).elapsed();
    eprintln!("[{:6.1}s] {}", elapsed.as_secs_f64(), line.as_ref());
}

/// Announces a slow step, runs it, and says how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    say(format!("{what} ..."));
    let begun = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "failed" };
    say(format!(
        "{what}: {verdict} in {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    result
}
