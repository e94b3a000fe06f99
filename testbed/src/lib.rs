//! Real counterparts for Peitho's tests: Kubernetes, a registry, dockerd and a Fabric network, built once, started in seconds,
//! and ended for certain.
//!
//! A program that uses them offers its `main` to the reaper, opens the [`Assets`], starts a [`Run`], and then what it needs:
//!
//! ```no_run
//! fn main() -> anyhow::Result<()> {
//!     testbed::reaper::become_reaper_if_asked();
//!     let assets = testbed::Assets::open()?;
//!     let run = testbed::Run::start()?;
//!     let cluster = testbed::Cluster::start(&assets, &run)?;
//!     println!("{}", cluster.kubectl(&["get", "nodes"])?);
//!     drop(cluster);
//!     run.finish()
//! }
//! ```
//!
//! `assets` → `packages`, `go`, `npm`, `images` say what things are made of and fill the `cache`; `cluster`, `registry`, `dockerd` and `fabric`
//! start them as `process`es; `run`, `reaper` and `leftovers` see to the end. Everything needs root and one free machine: ports,
//! bridge and addresses are fixed, and a lock lets one run at a time.

mod assets;
mod at_once;
mod cache;
mod chaincode;
mod cluster;
mod dockerd;
mod driver;
pub mod engine;
mod fabric;
mod gate;
mod go;
mod greetings;
mod http;
mod image;
mod images;
mod leftovers;
mod network;
mod npm;
mod packages;
pub mod peitho;
pub mod pki;
mod places;
mod process;
mod program;
mod progress;
pub mod reaper;
mod registry;
mod release;
mod run;
mod s3;
pub mod scenario;
mod steps;
pub mod suite;
mod victim;
pub mod wait;

pub use assets::Assets;
pub use at_once::at_once;
pub use cache::Cache;
pub use chaincode::{Chaincode, Compile};
pub use cluster::Cluster;
pub use dockerd::{Dockerd, Speech};
pub use driver::{DRIVERS, Driver, Library};
pub use fabric::{
    ChaincodeId, CliError, CliOutput, Definition, Fabric, Lscc, Network, PackageId, PeerConfig,
};
pub use gate::{FaultPoint, Gate, Moment, Passage};
pub use go::{FabricPrograms, KUBERNETES_VERSION};
pub use greetings::{Greeting, Greetings};
pub use images::{Image, Images};
pub use leftovers::Leftovers;
pub use places::{CGROUP_PARENT, HOST_ADDRESS};
pub use process::Process;
pub use progress::say;
pub use registry::Registry;
pub use release::Release;
pub use run::Run;
pub use s3::S3;
pub use steps::Steps;
pub use victim::{kill_process_with, resume_process_with, stop_process_with};
