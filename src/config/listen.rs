//! Section `listen`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Problems, Reach};

/// The three listeners (design D17): they can be firewalled apart. Where an address is not set it is `[::]` with
/// Kubernetes, since peers and pods come from elsewhere, and `127.0.0.1` without: the Engine API asks nobody who he is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// The Engine API, for peers; port 8080 unless set.
    pub engine_api: Option<SocketAddr>,
    /// The pull API and the uploads, for pods and other containers; always TLS; port 8081 unless set.
    pub delivery: Option<SocketAddr>,
    /// Health, metrics, pages, for operators; port 9090 unless set.
    pub admin: Option<SocketAddr>,
}

/// Where the three listeners wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The Engine API.
    pub engine_api: SocketAddr,
    /// What containers talk to.
    pub delivery: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

impl Listen {
    /// The addresses in force where clients come from `reach`.
    pub fn addresses(&self, reach: Reach) -> Addresses {
        let host: IpAddr = match reach {
            Reach::Network => Ipv6Addr::UNSPECIFIED.into(),
            Reach::ThisMachine => [127, 0, 0, 1].into(),
        };
        let or = |set: Option<SocketAddr>, port| set.unwrap_or_else(|| (host, port).into());
        Addresses {
            engine_api: or(self.engine_api, 8080),
            delivery: or(self.delivery, 8081),
            admin: or(self.admin, 9090),
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        let Addresses {
            engine_api,
            delivery,
            admin,
        } = self.addresses(Reach::Network);
        for (key, address) in [
            ("listen.engineApi", engine_api),
            ("listen.delivery", delivery),
            ("listen.admin", admin),
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
