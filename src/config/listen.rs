//! Section `listen`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// The three listeners (design D17): they can be firewalled apart.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// The Engine API, for peers.
    pub engine_api: SocketAddr,
    /// The pull API and the uploads, for pods; always TLS.
    pub delivery: SocketAddr,
    /// Health, metrics, pages, for operators.
    pub admin: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0u16; 8], port));
        Self {
            engine_api: any(8080),
            delivery: any(8081),
            admin: any(9090),
        }
    }
}

impl Listen {
    pub(super) fn check(&self, problems: &mut Problems) {
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        for (key, address) in [
            ("listen.engineApi", self.engine_api),
            ("listen.delivery", self.delivery),
            ("listen.admin", self.admin),
        ] {
            // Port 0 is any free one.
            match taken.iter().find(|(_, other)| *other == address) {
                Some((other, _)) if address.port() != 0 => {
                    problems.add(
                        key,
                        address,
                        &format!("an address that {other} does not use"),
                    );
                }
                _ => taken.push((key, address)),
            }
        }
    }
}
