//! Peitho gives Hyperledger Fabric peers the part of the Docker Engine API that they use, and lets
//! Kubernetes compile, run, watch and remove the chaincode.

pub mod admin;
pub mod agent;
pub mod archive;
pub mod cli;
pub mod compile;
pub mod config;
pub mod container;
pub mod delivery;
pub mod engine_api;
pub mod grant;
pub mod image;
pub mod image_spec;
pub mod listener;
pub mod names;
pub mod registry;
pub mod runtime;
pub mod serve;
pub mod store;
pub mod telemetry;
