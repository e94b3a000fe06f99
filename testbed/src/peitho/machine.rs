//! Peitho on a machine without a cluster, as a developer runs it: one program, no rights in any Kubernetes.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{ABANDONED_AFTER, Log, READY};
use crate::http;
use crate::places::CGROUP_PARENT;
use crate::process::Process;
use crate::registry::Registry;
use crate::run::Run;

const ENGINE: &str = "127.0.0.1:18180";
const DELIVERY: &str = "127.0.0.1:18181";
const ADMIN: &str = "127.0.0.1:19190";

/// A server whose containers run on this machine.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    program: PathBuf,
    config: PathBuf,
}

impl Machine {
    /// Starts the server with an empty store. Its images come from `registry`.
    pub fn start(run: &Run, registry: &Registry, program: PathBuf, log: Log) -> Result<Machine> {
        let store = run.data().join("machine-store");
        let config = json!({
            "listen": {"engineApi": ENGINE, "delivery": DELIVERY, "admin": ADMIN},
            "store": {"directory": store},
            "images": {"registries": [{"host": registry.address().to_string(), "scheme": "http"}]},
            "oci": {"cgroupParent": CGROUP_PARENT},
            "compile": {"runtime": "oci", "abandonedAfterSeconds": ABANDONED_AFTER.as_secs()},
            "chaincode": {"runtime": "oci"},
            "log": {"level": log.level(), "color": "never"},
        });
        let file = run.dir().join("peitho-machine.yml");
        fs::write(&file, serde_json::to_string_pretty(&config)?)?;
        let machine = Self {
            process: spawn(run, &program, &file)?,
            program,
            config: file,
        };
        machine.wait_until_ready()?;
        Ok(machine)
    }

    /// The same server anew, after it ended or was killed: same configuration, same store.
    pub fn restart(&mut self, run: &Run) -> Result<()> {
        self.process = spawn(run, &self.program, &self.config)?;
        self.wait_until_ready()
    }

    /// What it is configured with.
    pub fn config(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(&self.config)?)?)
    }

    /// What a peer has in `CORE_VM_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("tcp://{ENGINE}")
    }

    /// Where the Engine API is.
    pub fn engine(&self) -> SocketAddr {
        ENGINE.parse().expect("a constant")
    }

    /// The server's process; its containers have others.
    pub fn process(&self) -> &Process {
        &self.process
    }

    fn wait_until_ready(&self) -> Result<()> {
        let admin: SocketAddr = ADMIN.parse()?;
        self.process
            .wait_until("is ready", READY, || Ok(http::is_healthy(admin, "/readyz")))
    }
}

fn spawn(run: &Run, program: &PathBuf, config: &PathBuf) -> Result<Process> {
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(config);
    Process::spawn(run, "peitho-machine", command)
}
