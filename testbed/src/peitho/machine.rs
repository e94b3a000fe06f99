//! Peitho on a machine without a cluster, as a developer runs it: one program, no rights in any Kubernetes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{ABANDONED_AFTER, Log, READY};
use crate::places::CGROUP_PARENT;
use crate::process::Process;
use crate::registry::Registry;
use crate::run::Run;
use crate::{http, program};

const ENGINE: &str = "127.0.0.1:18180";
const DELIVERY: &str = "127.0.0.1:18181";
const ADMIN: &str = "127.0.0.1:19190";

/// A server whose containers run on this machine.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    program: PathBuf,
    config: PathBuf,
    store: PathBuf,
}

impl Machine {
    /// Starts the server with an empty store. `registries` are asked by plain http.
    pub fn start(
        run: &Run,
        program: PathBuf,
        log: Log,
        registries: &[&Registry],
    ) -> Result<Machine> {
        let registries: Vec<_> = registries
            .iter()
            .map(|it| json!({"host": it.address().to_string(), "scheme": "http"}))
            .collect();
        let store = run.data().join("machine-store");
        let config = json!({
            "listen": {"engineApi": ENGINE, "delivery": DELIVERY, "admin": ADMIN},
            "store": {"directory": store},
            "images": {"registries": registries},
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
            store,
        };
        machine.wait_until_ready()?;
        Ok(machine)
    }

    /// The same server anew, after it ended or was killed: same configuration, same store.
    pub fn restart(&mut self, run: &Run) -> Result<()> {
        self.process = spawn(run, &self.program, &self.config)?;
        self.wait_until_ready()
    }

    /// Brings the images of an archive into the store, as a user does; what that prints.
    pub fn import(&self, archive: &Path) -> Result<String> {
        let mut import = Command::new(&self.program);
        import.args(["images", "import"]).arg(archive);
        import.arg("--config").arg(&self.config);
        program::output(&mut import)
    }

    /// What the OCI runtime says of the containers.
    pub fn containers(&self) -> Result<String> {
        program::output(Command::new("/bin/sh").args(["-c", &self.containers_command()]))
    }

    /// The command that lists them.
    pub fn containers_command(&self) -> String {
        format!(
            "runc --root {} list",
            self.store.join("oci/state").display()
        )
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
