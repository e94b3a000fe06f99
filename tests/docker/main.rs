//! The runtime on a Docker Engine, against a real one: what every runtime must do, and what is Docker's own.
//!
//! `cargo test --test docker` starts a dockerd (root, one free machine). With `PEITHO_TEST_DOCKER=tcp://…` an engine
//! that runs already is used; cases that kill the engine then say that they did not run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../conformance/cases.rs"]
mod conformance;

#[path = "../conformance/runs.rs"]
mod runs;
#[path = "../conformance/warmth.rs"]
mod warmth;

mod compile;
mod engine;
mod faults;
mod instance;
mod transports;

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};

use engine::{Engine, World};

/// How many of the cases that all runtimes have run at once unless the command line says otherwise: each mostly waits for the engine.
const AT_ONCE: usize = 4;

/// A case of this runtime alone. It has the engine for itself: some end it, others look at all that it has.
type Case = for<'a> fn(&'a Engine) -> BoxFuture<'a, ()>;

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let world = Arc::new(World::default());
    let trial = |name: &str, case: Box<dyn FnOnce(&World) + Send>| {
        let world = Arc::clone(&world);
        Trial::test(name, move || {
            case(&world);
            Ok(())
        })
    };
    let common = conformance::ALL.iter().map(|(name, case)| {
        trial(
            name,
            Box::new(|world| {
                let engine = world.engine();
                let _beside_others = world.beside_others();
                world.block_on(case(engine));
            }),
        )
    });
    let own = |cases: &'static [(&'static str, Case)]| {
        cases.iter().map(|(name, case)| {
            trial(
                name,
                Box::new(|world| {
                    let engine = world.engine();
                    let _alone = world.alone();
                    world.block_on(case(engine));
                }),
            )
        })
    };
    let needs_testbed = engine::given().is_some();
    let of_the_testbed = own(compile::OF_THE_TESTBED).chain(own(faults::OF_THE_TESTBED));
    let of_the_testbed = of_the_testbed.map(|trial| trial.with_ignored_flag(needs_testbed));
    let trials = common
        .chain(own(compile::ALL))
        .chain(own(transports::ALL))
        .chain(own(faults::ALL))
        .chain(of_the_testbed)
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    match (conclusion.has_failed(), world.end()) {
        (false, Ok(())) => ExitCode::SUCCESS,
        (_, ended) => {
            if let Err(error) = ended {
                testbed::say(format!("the end failed: {error:#}"));
            }
            ExitCode::FAILURE
        }
    }
}
