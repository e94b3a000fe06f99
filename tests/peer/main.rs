//! The suite with real counterparts: a stock peer, a real Kubernetes with Pod Security `restricted`, a real dockerd and a
//! registry. The reference is judged first: what holds for a peer on dockerd is then asked of Peitho. One cluster serves all
//! cases, in order, with one network after the other; each case says in its name what must hold.
//!
//! `cargo test --test peer` runs all of it (root, one free machine); a name or a part of one runs some.

mod cases;
mod engine;
mod faults;
mod proxy;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use world::World;

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let world = Arc::new(World::default());
    let trials = cases::ALL
        .iter()
        .map(|(name, case)| {
            let world = Arc::clone(&world);
            Trial::test(*name, move || {
                world
                    .judge(name, *case)
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect();
    let is_whole = arguments.filter.is_none()
        && arguments.skip.is_empty()
        && std::env::var_os("FAULT").is_none();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let table = match is_whole && !conclusion.has_failed() {
        true => world.compare_table(),
        false => Ok(()),
    };
    let ended = table.and(world.end());
    if let Err(error) = &ended {
        testbed::say(format!("the suite's end failed: {error:#}"));
    }
    if conclusion.has_failed() || ended.is_err() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
