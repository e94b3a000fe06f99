//! Owns the second process of a run: a copy of the same program that does nothing until the first one is gone, in whatever way,
//! and then ends and removes all that was started. [`crate::Run`] starts it; programs that use the testbed offer their `main` to it.

use std::io::Read;
use std::time::Duration;

use anyhow::Result;

use crate::leftovers::Leftovers;
use crate::places::Places;
use crate::{progress, wait};

/// Set in the environment of the copy.
pub(crate) const ASKED: &str = "PEITHO_TESTBED_REAPER";

/// Must be the first line of `main` in every program that starts a [`crate::Run`]: in the copy that the run started this never
/// returns; otherwise it does nothing.
#[expect(
    clippy::exit,
    reason = "in the copy this is all of main; returning would run the tests in it"
)]
pub fn become_reaper_if_asked() {
    if std::env::var_os(ASKED).is_none() {
        return;
    }
    // The pipe never carries a byte. Its end means that the run is over; an error cannot mean more.
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    let code = match end_everything() {
        Ok(()) => 0,
        Err(error) => {
            progress::say(format!("{error:#}"));
            1
        }
    };
    std::process::exit(code);
}

fn end_everything() -> Result<()> {
    let places = Places::from_env();
    // A mount or a cgroup may be busy for a moment after its last process ended.
    wait::until(
        "removing what the run started",
        Duration::from_secs(60),
        None,
        || {
            Leftovers::remove(&places)?;
            Ok(Leftovers::find().is_empty().then_some(()))
        },
    )
}
