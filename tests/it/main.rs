//! The Engine API from the wire: the real router behind a real listener with a real store. Only the cluster is
//! scripted. All in one binary, to link once; the tree follows the dialect.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod corpora;
mod engine_api;
mod listeners;
mod mutation;
#[path = "../conformance/once.rs"]
mod once;
