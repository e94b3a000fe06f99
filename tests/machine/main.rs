//! The suite of a machine without a cluster: stock peers of each release whose engine is Peitho with the `oci` runtime. What must hold
//! was judged on dockerd before, in `tests/peer`.
//!
//! `cargo test --test machine` runs all of it (root, one free machine); a name or a part of one runs some.

mod cases;
mod world;

use std::process::ExitCode;

use testbed::suite::Suite;

use world::Counterparts;

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    let suite = Suite {
        cases: cases::ALL,
        start: Counterparts::start,
        mend: Counterparts::mend,
        judge_whole: |_| Ok(()),
        end: Counterparts::end,
    };
    suite.run()
}
