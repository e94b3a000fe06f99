//! A real registry, the one that Debian packages, of plain http on loopback. Two test programs use it.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A registry with nothing in it yet.
pub(crate) struct DockerRegistry {
    pub(crate) address: SocketAddr,
    /// Goes with it; what was pushed lies in `data`.
    pub(crate) directory: TempDir,
    pub(crate) process: Child,
}

impl DockerRegistry {
    pub(crate) async fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into()).await
    }

    /// The same at `address`; any port of it where that has none.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let config = json!({
            "version": "0.1", "log": {"level": "info"}, "http": {"addr": address.to_string()},
            "storage": {"filesystem": {"rootdirectory": directory.path().join("data")}},
        });
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry (Debian's package of that name) is installed");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("it listens");
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
                break rest[..end.unwrap_or(rest.len())].parse().unwrap();
            }
        };
        // Or it would stop when the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            address,
            directory,
            process,
        }
    }
}
