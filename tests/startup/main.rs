//! The start of the real program, with everything wrong that needs no cluster: one clear line each, and the exit code. What
//! needs a cluster is in `tests/peer/cases/startup.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod configuration;
mod images;
mod kubernetes;
mod listeners;
mod program;
mod prune;
mod store;
mod store_of_many;
