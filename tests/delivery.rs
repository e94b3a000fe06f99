//! Delivery and the agent against each other: the real router over real TLS with a real store, and the agent's
//! own functions. Only the cluster is a fake: it stands where pods would be.

#[path = "delivery/compile.rs"]
mod compile;
#[path = "delivery/fetch.rs"]
mod fetch;
#[path = "delivery/pull_api.rs"]
mod pull_api;
#[path = "delivery/world.rs"]
mod world;
