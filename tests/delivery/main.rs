//! Delivery and the agent against each other: the real router over real TLS with a real store, and the agent's
//! own functions. Only the cluster is a fake: it stands where pods would be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod builds;
mod cache;
mod clients;
mod cluster;
mod compile;
mod cuts;
mod docker_registry;
mod fetch;
mod liar;
#[path = "../conformance/once.rs"]
mod once;
mod parts;
mod pull_api;
mod pulls;
#[path = "../conformance/runs.rs"]
mod runs;
#[path = "../it/engine_api/hostile/tars.rs"]
mod tars;
mod world;
