//! A real registry, the one that Debian packages, of plain http on loopback. Two test programs use it.

use std::net::SocketAddr;

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Child;

#[path = "../../src/registry/fixture/debian.rs"]
mod debian;

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
        let (process, address) = debian::serve(&file).await;
        Self {
            address,
            directory,
            process,
        }
    }
}
