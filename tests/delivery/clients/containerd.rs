//! A containerd of its own, in a directory that goes with it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub(crate) struct Containerd {
    directory: TempDir,
    process: Child,
}

impl Containerd {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("socket"),
            path("ttrpc"),
        );
        let file = directory.path().join("config.toml");
        std::fs::write(&file, config).unwrap();
        let mut process = Command::new("containerd")
            .arg("--config")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        loop {
            let line = lines.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it does not start: {said}"));
            if line.contains("successfully booted") {
                break;
            }
            said.push_str(&line);
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { directory, process }
    }

    /// Trusts the authority of `ca_file` for `host`.
    pub(crate) fn trust(&self, host: &str, ca_file: &Path) -> PathBuf {
        let hosts = self.directory.path().join("hosts");
        let of_host = hosts.join(host);
        std::fs::create_dir_all(&of_host).unwrap();
        let server = format!("[host.\"https://{host}\"]\nca = {ca_file:?}\n");
        std::fs::write(of_host.join("hosts.toml"), server).unwrap();
        hosts
    }

    pub(crate) async fn ctr(&self, arguments: &[&str]) -> Output {
        Command::new("ctr")
            .arg("--address")
            .arg(self.directory.path().join("socket"))
            .args(arguments)
            .output()
            .await
            .unwrap()
    }

    pub(crate) async fn stop(mut self) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.process.wait().await.unwrap();
    }
}
