//! Peitho on a machine without a cluster, as a developer runs it: one program, no rights in any Kubernetes.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{ABANDONED_AFTER, Log, READY};
use crate::dockerd::Dockerd;
use crate::places::CGROUP_PARENT;
use crate::process::Process;
use crate::registry::Registry;
use crate::run::Run;
use crate::{http, program};

/// `nobody` of Debian.
const NOBODY: u32 = 65534;

/// What runs the containers of a [`Machine`].
#[derive(Clone, Copy, Debug)]
pub enum Containers<'a> {
    /// Peitho itself, by runc.
    Oci,
    /// The same by a second server beside that one.
    OciBeside,
    /// The same as an ordinary user.
    OciOfUser,
    /// An existing Docker Engine.
    Docker(&'a Dockerd),
}

impl Containers<'_> {
    /// As the configuration calls it.
    fn runtime(self) -> &'static str {
        match self {
            Self::Oci | Self::OciBeside | Self::OciOfUser => "oci",
            Self::Docker(_) => "docker",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::OciBeside => "beside",
            Self::OciOfUser => "user",
            Self::Docker(_) => "docker",
        }
    }

    /// Ports: one server for each of them may run.
    fn first_port(self) -> u16 {
        match self {
            Self::Oci => 18180,
            Self::Docker(_) => 18190,
            Self::OciOfUser => 18200,
            Self::OciBeside => 18210,
        }
    }
}

/// A server whose containers run on this machine.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    name: String,
    /// The home of the user who it runs as; `None` for root.
    home: Option<PathBuf>,
    program: PathBuf,
    config: PathBuf,
    store: PathBuf,
    engine: SocketAddr,
    admin: SocketAddr,
}

impl Machine {
    /// Starts the server with an empty store. `registries` are asked by plain http.
    pub fn start(
        run: &Run,
        program: PathBuf,
        log: Log,
        containers: Containers<'_>,
        registries: &[&Registry],
    ) -> Result<Machine> {
        let registries: Vec<_> = registries
            .iter()
            .map(|it| json!({"host": it.address().to_string(), "scheme": "http"}))
            .collect();
        let name = format!("peitho-{}", containers.name());
        let data = run.data().join(&name);
        let (program, home, store) = match containers {
            Containers::OciOfUser => {
                let copy = run.data().join("peitho-program");
                fs::copy(&program, &copy)?;
                fs::create_dir_all(&data)?;
                chown(&data, Some(NOBODY), Some(NOBODY))?;
                // Where it is by itself.
                let store = data.join(".local/share/peitho");
                (copy, Some(data), store)
            }
            _ => (program, None, data),
        };
        let address = |offset| SocketAddr::from(([127, 0, 0, 1], containers.first_port() + offset));
        let [engine, delivery, admin] = [address(0), address(1), address(2)];
        let mut config = json!({
            "listen": {"engineApi": engine, "delivery": delivery, "admin": admin},
            "images": {"registries": registries},
            "oci": {"cgroupParent": CGROUP_PARENT},
            "compile": {
                "runtime": containers.runtime(),
                "abandonedAfterSeconds": ABANDONED_AFTER.as_secs(),
            },
            "chaincode": {"runtime": containers.runtime()},
            "log": {"level": log.level(), "color": "never"},
        });
        if home.is_none() {
            config["store"] = json!({"directory": store});
        }
        if let Containers::Docker(dockerd) = containers {
            config["docker"] = json!({"endpoint": dockerd.endpoint()});
        }
        let file = run.dir().join(format!("{name}.yml"));
        fs::write(&file, serde_json::to_string_pretty(&config)?)?;
        let machine = Self {
            process: spawn(run, &name, home.as_deref(), &program, &file)?,
            name,
            home,
            program,
            config: file,
            store,
            engine,
            admin,
        };
        machine.wait_until_ready()?;
        Ok(machine)
    }

    /// Another server on the same store with another configuration: the old one is killed, as it may be at any moment.
    pub fn reconfigure(&mut self, run: &Run, config: &Value) -> Result<()> {
        self.process.kill_hard()?;
        fs::write(&self.config, serde_json::to_string_pretty(config)?)?;
        self.restart(run)
    }

    /// The same server anew, after it ended or was killed: same configuration, same store.
    pub fn restart(&mut self, run: &Run) -> Result<()> {
        let home = self.home.as_deref();
        self.process = spawn(run, &self.name, home, &self.program, &self.config)?;
        self.wait_until_ready()
    }

    /// The same server with an empty store: nothing is known and nothing is cached.
    pub fn renew(&mut self, run: &Run) -> Result<()> {
        self.process.kill_hard()?;
        fs::remove_dir_all(&self.store)?;
        self.restart(run)
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

    /// The directory of its store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// What it is configured with.
    pub fn config(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(&self.config)?)?)
    }

    /// What a peer has in `CORE_VM_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.engine)
    }

    /// Where the Engine API is.
    pub fn engine(&self) -> SocketAddr {
        self.engine
    }

    /// Health and metrics.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The server's process; its containers have others.
    pub fn process(&self) -> &Process {
        &self.process
    }

    fn wait_until_ready(&self) -> Result<()> {
        self.process.wait_until("is ready", READY, || {
            Ok(http::is_healthy(self.admin, "/readyz"))
        })
    }
}

fn spawn(
    run: &Run,
    name: &str,
    home: Option<&Path>,
    program: &Path,
    config: &Path,
) -> Result<Process> {
    let mut command = match home {
        None => Command::new(program),
        Some(home) => {
            let user = NOBODY.to_string();
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
            command.arg("--inh-caps=-all").arg(program);
            command.env("HOME", home).env_remove("XDG_DATA_HOME");
            command
        }
    };
    command.arg("serve").arg("--config").arg(config);
    Process::spawn(run, name, command)
}
