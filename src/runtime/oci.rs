//! Containers by a runc-compatible runtime on this host, without a cluster and without a daemon (design D2). Each launch is
//! supervised by a process of its own, the *shim*: this program as `peitho shim`, which outlives Peitho. All that Peitho
//! knows of a launch it reads from files, so a restarted one goes on where the earlier stood. Nothing here knows peers,
//! images or compiles: it takes directories and a command.

mod bundle;
mod cgroups;
mod copy;
mod ending;
mod error;
mod etc;
mod hardening;
mod host;
mod launch;
mod launches;
mod lock;
mod logs;
mod namespaces;
mod order;
mod output;
mod place;
mod plan;
mod program;
mod remains;
mod root;
mod seccomp;
mod shim;
mod tree;
mod user;
mod watch;

pub use ending::Ending;
pub use error::{Error, StartError};
pub use host::{Host, State};
pub use place::{Id, InvalidId};
pub use plan::{Access, Bind, Plan, Root};
pub use program::{NoRuntime, RuntimeProgram};
pub use shim::{Job, run as run_shim};
