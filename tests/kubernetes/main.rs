//! The runtime on Kubernetes, against a real cluster: what every runtime must do, what tenants have of their own, and
//! images that a registry has whole. What peers get of it is in `tests/peer`.
//!
//! `cargo test --test kubernetes` runs all of it (root, one free machine); a name or a part of one runs some.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../conformance/cases.rs"]
mod conformance;

#[path = "../conformance/runs.rs"]
mod runs;
#[path = "../conformance/warmth.rs"]
mod warmth;

mod agent_image;
mod closed;
mod disk;
mod pods;
mod spares;
mod stops;
mod tenants;
mod whole;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use world::{Counterparts, World};

/// How many cases run at once unless the command line says otherwise: each mostly waits for the kubelet.
const AT_ONCE: usize = 4;

/// What has a Peitho of its own.
type Case = fn(&Counterparts) -> anyhow::Result<()>;

/// The long ones.
const LONG: &[(&str, Case)] = &[
    (
        "tenants have namespaces, limits and templates of their own",
        tenants::tenants,
    ),
    (
        "builders, bases and what is built are pulled from one registry with a login",
        closed::one_registry_for_all,
    ),
    (
        "a stop while the API server is away ends in time, and says what it leaves",
        stops::while_the_api_server_is_away,
    ),
    (
        "a compile whose pod cannot have Peitho's own image says so",
        agent_image::is_missed,
    ),
    (
        "what a compiler keeps is bounded by the disk that its pod may take",
        disk::bounds_what_is_kept,
    ),
    (
        "a compile that takes more of the disk than its pod may is ended, and its peer is told",
        disk::ends_who_takes_more,
    ),
];

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let world = Arc::new(World::default());
    let trials = conformance::ALL.iter().map(|(name, case)| {
        let world = Arc::clone(&world);
        Trial::test(*name, move || {
            let pods = world.pods()?;
            world.block_on(case(pods));
            Ok(())
        })
    });
    let trials = trials.chain(whole::ALL.iter().map(|(name, case)| {
        let world = Arc::clone(&world);
        Trial::test(*name, move || {
            case(&world)?;
            Ok(())
        })
    }));
    let warm = {
        let world = Arc::clone(&world);
        Trial::test("what a compiler keeps is there the next time", move || {
            let pods = world.pods()?;
            let warm = warmth::is_there_the_next_time(pods.compiles(), pods.image());
            world.block_on(warm);
            Ok(())
        })
    };
    let own = LONG.iter().chain(spares::ALL).map(|(name, case)| {
        let world = Arc::clone(&world);
        Trial::test(*name, move || {
            let counterparts = world.counterparts()?;
            case(counterparts).map_err(|error| format!("{error:#}").into())
        })
    });
    // The long ones first.
    let trials = own.chain([warm]).chain(trials);
    let trials = trials.collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let world = Arc::into_inner(world).expect("no case is running any more");
    let ended = match conclusion.has_failed() {
        true => world.end(),
        false => world.expect_nothing_left().and(world.end()),
    };
    if let Err(error) = &ended {
        testbed::say(format!("the end failed: {error:#}"));
    }
    match (conclusion.has_failed(), ended) {
        (false, Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
