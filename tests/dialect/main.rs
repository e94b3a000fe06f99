//! The dialect: every Docker client that peers use, in a driver that makes a peer's calls in a peer's order, against a real dockerd first
//! and then against Peitho with the `oci` runtime: over TCP, TLS and a Unix socket; some of it with pods. What is expected stands in `expected`, where Peitho differs on purpose in
//! `differences`, and what came of it in `docs/protocol.md`.
//!
//! `cargo test --test dialect` runs all of it (root, one free machine); a name or a part of one runs some.

mod cases;
mod certificates;
mod differences;
mod drivers;
mod expected;
mod pods;
mod refusals;
mod table;
mod ways;
mod world;

use std::process::ExitCode;

use testbed::suite::Suite;

use world::Counterparts;

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    let suite = Suite {
        cases: cases::ALL,
        start: Counterparts::start,
        mend: |_| {},
        judge_whole: |c| c.table.compare(),
        end: Counterparts::end,
    };
    suite.run()
}
