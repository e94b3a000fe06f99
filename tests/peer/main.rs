//! The suite with real counterparts: a stock peer, a real Kubernetes with Pod Security `restricted`, a real dockerd and a
//! registry. The reference is judged first: what holds for a peer on dockerd is then asked of Peitho. One cluster serves all
//! cases, in order, with one network after the other; each case says in its name what must hold.
//!
//! `cargo test --test peer` runs all of it (root, one free machine); a name or a part of one runs some.

mod cases;
mod faults;
mod proxy;
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
        judge_whole: |c: &Counterparts| c.table.compare(),
        end: Counterparts::end,
    };
    suite.run()
}
