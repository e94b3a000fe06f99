//! Owns what a person's Ctrl-C means to a program in the foreground: everything stops, and the program waits for that. `up` and
//! `demo` do their work in here.

use std::thread;

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use testbed::{Run, say};

/// What happens when the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything stays for a person to play with, until Ctrl-C.
    Stay,
    /// Everything ends.
    Once,
}

/// Does `work`, which starts things in `run`, and ends the run: at Ctrl-C, when the work fails, or as `ending` says.
pub(crate) fn foreground<T: Send>(
    run: &Run,
    ending: Ending,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let done = work();
            if done.is_err() || ending == Ending::Once {
                // Wakes the other thread up.
                handle.close();
            }
            // The reaper ends components faster than their drops would, so they go to the other thread, which drops them after it.
            done
        });
        let asked = signals.forever().next().is_some();
        say("stopping ...");
        let stopped = run.stop();
        match worker.join().expect("the worker does not panic") {
            // What fails because the components went away is no news.
            Err(error) if !asked => Err(error),
            _ => stopped,
        }
    })
}
