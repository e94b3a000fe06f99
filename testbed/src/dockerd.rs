//! Owns the reference: a dockerd of its own directories, socket and port, beside whatever Docker the machine has; or two, since one speaks
//! either plain HTTP or TLS on its ports. Peers are pointed at it to see what Peitho must match.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::assets::Assets;
use crate::engine::Engine;
use crate::http;
use crate::images::Image;
use crate::places::{CGROUP, HOST_ADDRESS};
use crate::process::Process;
use crate::registry::Registry;
use crate::release::Release;
use crate::run::Run;

const PORT: u16 = 12375;
const TLS_PORT: u16 = 12376;
const START: Duration = Duration::from_secs(60);
const PULL: Duration = Duration::from_secs(300);
const HEALTH: Duration = Duration::from_secs(2);

/// A running dockerd. Its containers use the host's network, as peers ask for.
#[derive(Debug)]
pub struct Dockerd {
    process: Process,
    address: SocketAddr,
    /// Where it listens beside the address, always without TLS.
    socket: PathBuf,
    speech: Speech,
}

/// How a dockerd speaks on its port.
#[derive(Clone, Debug)]
pub enum Speech {
    /// HTTP as it is.
    Plain,
    /// TLS, for clients with a certificate (`--tlsverify`).
    Tls {
        /// Who signs the clients' certificates.
        clients: PathBuf,
        /// The server's certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

impl Speech {
    /// Of the process and of its directories.
    fn name(&self) -> &'static str {
        match self {
            Self::Plain => "docker",
            Self::Tls { .. } => "docker-tls",
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Plain => PORT,
            Self::Tls { .. } => TLS_PORT,
        }
    }
}

impl Dockerd {
    /// Starts it and pulls the builder and the runtime images, so that no install waits for them.
    pub fn start(assets: &Assets, run: &Run, registry: &Registry) -> Result<Dockerd> {
        let dockerd = Self::without_images(run)?;
        let images = assets.images()?;
        for image in Release::ALL.map(|release| images.fabric(release)).concat() {
            dockerd.pull(registry, image)?;
        }
        Ok(dockerd)
    }

    /// Starts it with no image in it.
    pub fn without_images(run: &Run) -> Result<Dockerd> {
        Self::speaking(run, Speech::Plain)
    }

    /// The same, by a speech of its own; there may be one of each.
    pub fn speaking(run: &Run, speech: Speech) -> Result<Dockerd> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, speech.port()));
        let socket = run.dir().join(speech.name()).join("docker.sock");
        let process = Self::spawn(run, address, &socket, &speech)?;
        Ok(Dockerd {
            process,
            address,
            socket,
            speech,
        })
    }

    /// The same anew, after it ended or was killed: with all that it had.
    pub fn restart(&mut self, run: &Run) -> Result<()> {
        self.process = Self::spawn(run, self.address, &self.socket, &self.speech)?;
        Ok(())
    }

    fn spawn(run: &Run, address: SocketAddr, socket: &Path, speech: &Speech) -> Result<Process> {
        let name = speech.name();
        let (data, dir) = (run.data().join(name), run.dir().join(name));
        for dir in [&data, &dir] {
            fs::create_dir_all(dir)?;
        }
        // An explicit empty file: the machine's own daemon.json is not for this daemon.
        let config = dir.join("daemon.json");
        fs::write(&config, "{}")?;
        let mut command = Assets::command("dockerd");
        for (flag, path) in [
            ("--config-file", config),
            ("--data-root", data),
            ("--exec-root", dir.join("exec")),
            ("--pidfile", dir.join("pid")),
        ] {
            command.arg(flag).arg(path);
        }
        command.arg(format!("--host=tcp://{address}"));
        command.arg(format!("--host=unix://{}", socket.display()));
        match speech {
            Speech::Plain => {
                command.arg("--tls=false");
            }
            Speech::Tls {
                clients,
                certificate,
                key,
            } => {
                command.arg("--tlsverify");
                for (flag, path) in [
                    ("--tlscacert", clients),
                    ("--tlscert", certificate),
                    ("--tlskey", key),
                ] {
                    command.arg(flag).arg(path);
                }
            }
        }
        command.arg(format!("--cgroup-parent=/{CGROUP}/docker"));
        command.arg(format!("--insecure-registry={HOST_ADDRESS}/32"));
        command.args([
            "--storage-driver=overlay2",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            // Its default lowers the score, which root may not be allowed to do.
            "--oom-score-adjust=0",
        ]);
        let process = Process::spawn(run, &format!("{name}d"), command)?;
        process.wait_until("answers", START, || {
            let answer = http::request_by_socket("GET", socket, "/_ping", HEALTH);
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        })?;
        Ok(process)
    }

    /// What a peer's `CORE_VM_ENDPOINT` is set to.
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// A client of it, where it speaks plainly.
    pub fn engine(&self) -> Engine {
        Engine::new(self.address)
    }

    /// The same by its socket.
    pub fn socket_endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Pulls an image from the registry of the run.
    pub fn pull(&self, registry: &Registry, image: &Image) -> Result<()> {
        let reference = registry.reference(image);
        let (name, tag) = reference.rsplit_once(':').unwrap_or((&reference, "latest"));
        let path = format!("/images/create?fromImage={name}&tag={tag}");
        let answer = http::request_by_socket("POST", &self.socket, &path, PULL)?;
        // A failed pull answers 200 as well and says so in the stream of its progress.
        let pulled = answer.status == 200 && !answer.body.contains("\"error\"");
        ensure!(pulled, "dockerd cannot pull {reference}: {}", answer.body);
        Ok(())
    }

    /// The daemon itself, to kill, pause or read its log.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
