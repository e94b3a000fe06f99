//! The store under faults, and what hostile bodies cost: a real server process that is traced, killed at every write,
//! sync and rename, given errors of the disk, run on a full one, and measured. The server is the router of the
//! Engine API's tests over a real store; it needs no cluster.
//!
//! `cargo test --test faults` runs all of it. Cases need `strace`, Go to build a server of S3, and the right to mount a tmpfs in a namespace of
//! their own; where that is missing they fail and say what to do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../it/engine_api/bodies.rs"]
#[expect(dead_code, reason = "the tests of the Engine API use the rest")]
mod bodies;
#[path = "../it/engine_api/client.rs"]
mod client;
#[path = "../it/engine_api/cluster.rs"]
mod cluster;
#[path = "../delivery/docker_registry.rs"]
#[expect(dead_code, reason = "the tests of the delivery listener use the rest")]
mod docker_registry;
#[path = "../it/engine_api/world.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the tests of the Engine API use the rest"
)]
mod world;

mod bucket;
mod collected;
mod damaged;
mod disk;
mod durable;
mod full;
mod killed;
mod memory;
mod pushed;
mod registry;
mod server;
mod step;
mod trace;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

type Case = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// Each says in its name what must hold.
const CASES: &[(&str, Case)] = &[
    ("what_a_build_promises_is_on_the_disk", || {
        Box::pin(durable::a_build())
    }),
    ("a_start_makes_durable_what_it_finds", || {
        Box::pin(durable::a_start())
    }),
    ("killed_at_any_step_it_starts_and_builds_again", || {
        Box::pin(killed::at_every_step())
    }),
    ("killed_at_any_step_of_a_push_it_builds_again", || {
        Box::pin(pushed::killed_at_every_step())
    }),
    (
        "it_starts_without_the_registry_and_pushes_when_that_is_there",
        || Box::pin(pushed::registry_away_at_the_start()),
    ),
    (
        "collection_killed_at_any_step_loses_nothing_that_is_named",
        || Box::pin(collected::at_every_step()),
    ),
    ("what_a_dying_disk_does_not_give_hides_nothing_else", || {
        Box::pin(damaged::block_by_block())
    }),
    ("an_error_of_the_disk_is_told_and_harms_nothing", || {
        Box::pin(killed::with_an_error_at_every_step())
    }),
    ("a_full_disk_is_told_and_everything_else_goes_on", || {
        Box::pin(full::of_bytes())
    }),
    ("what_may_go_makes_way_for_a_build", || {
        Box::pin(full::with_what_may_go())
    }),
    ("a_disk_without_inodes_is_told_too", || {
        Box::pin(full::of_inodes())
    }),
    ("what_is_built_into_a_bucket_outlives_its_machine", || {
        Box::pin(bucket::another_has_what_one_built())
    }),
    (
        "a_bucket_that_is_gone_is_told_and_the_same_build_succeeds_later",
        || Box::pin(bucket::gone_for_a_while()),
    ),
    (
        "killed_at_any_request_to_a_bucket_it_starts_and_builds_again",
        || Box::pin(bucket::killed_at_every_request()),
    ),
    ("a_hostile_body_costs_little_memory", || {
        Box::pin(memory::of_hostile_bodies())
    }),
];

fn main() -> ExitCode {
    if let Some(order) = server::Order::of_this_process() {
        return order.serve();
    }
    if let Some(code) = collected::of_this_process() {
        return code;
    }
    if let Some(code) = damaged::of_this_process() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Each has a server, and most have a tracer.
    arguments.test_threads.get_or_insert(2);
    let trials = CASES
        .iter()
        .map(|(name, case)| {
            Trial::test(*name, move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(case());
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
