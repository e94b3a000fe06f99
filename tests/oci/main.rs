//! Containers on this host by the real runtime: one host in a directory of its own, real shims of the real program. As root;
//! runc, and busybox as a static program, must be there, or the cases fail and say how to get them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../it/engine_api/bodies.rs"]
#[expect(dead_code, reason = "the tests of the Engine API use the rest")]
mod bodies;
mod bounds;
mod caches;
#[path = "../it/engine_api/client.rs"]
#[expect(dead_code, reason = "the tests of the Engine API use the rest")]
mod client;
mod conformance;
#[path = "../conformance/cases.rs"]
mod conformance_cases;
mod events;
mod faults;
mod life;
#[path = "../conformance/once.rs"]
mod once;
mod output;
mod overlap;
mod rootless;
#[path = "../conformance/runs.rs"]
mod runs;
mod sight;
mod tenants;
#[path = "../conformance/warmth.rs"]
mod warmth;
mod world;
