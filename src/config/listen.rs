//! Section `listen`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Clients, Problems, Reach};

/// The three listeners (design D17): they can be firewalled apart. Where an address is not set it is `[::]` with
/// Kubernetes, since peers and pods come from elsewhere, and `127.0.0.1` without: the Engine API asks nobody who he is.
/// With client certificates it does, and its address is `[::]` everywhere.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// The Engine API over TCP, for peers; port 8080 unless set. `none`: no TCP, with `listen.socket` only.
    pub engine_api: Option<TcpAddress>,
    /// TLS of the Engine API over TCP: see [listeners](listeners.md).
    pub tls: ListenTls,
    /// A Unix socket for the Engine API, beside TCP or instead of it: an absolute path. Its mode is 0660: whoever
    /// may write to it runs programs here.
    pub socket: Option<PathBuf>,
    /// The pull API and the uploads, for pods and other containers; always TLS; port 8081 unless set.
    pub delivery: Option<SocketAddr>,
    /// Health, metrics, pages, for operators; port 9090 unless set.
    pub admin: Option<SocketAddr>,
}

/// Files in PEM. They are read at the start, and again when they change. Without `certificateFile` there is no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListenTls {
    /// The server's certificate, with those between it and its root behind it; together with `keyFile`.
    pub certificate_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// The certificate authorities of the peers: clients without a certificate of one of them are refused.
    pub client_ca_file: Option<PathBuf>,
}

/// Where a listener that can be switched off waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpAddress {
    /// There.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// How [`TcpAddress::Off`] is written.
const NONE: &str = "none";

/// Where the three listeners wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The Engine API; `None` when it is on a socket only.
    pub engine_api: Option<SocketAddr>,
    /// What containers talk to.
    pub delivery: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

impl Listen {
    /// The addresses in force where those who talk to them come from `reach`, and peers are `clients`.
    pub fn addresses(&self, reach: Reach, clients: Clients) -> Addresses {
        let everywhere = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        let host: IpAddr = match reach {
            Reach::Network => everywhere,
            Reach::ThisMachine => [127, 0, 0, 1].into(),
        };
        let or = |set: Option<SocketAddr>, port| set.unwrap_or_else(|| (host, port).into());
        let engine_api = match self.engine_api {
            Some(TcpAddress::At(address)) => Some(address),
            Some(TcpAddress::Off) => None,
            // Who knows its clients need not hide.
            None if clients == Clients::Proven => Some((everywhere, 8080).into()),
            None => Some((host, 8080).into()),
        };
        Addresses {
            engine_api,
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
        } = self.addresses(Reach::Network, Clients::Anyone);
        for (key, address) in [
            ("listen.engineApi", engine_api),
            ("listen.delivery", Some(delivery)),
            ("listen.admin", Some(admin)),
        ] {
            let Some(address) = address else { continue };
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
        if let Some(path) = self.socket.as_ref().filter(|path| !path.is_absolute()) {
            problems.add("listen.socket", path, "an absolute path");
        }
        if engine_api.is_none() && self.socket.is_none() {
            let accepted = "an address, or none together with listen.socket";
            problems.add("listen.engineApi", NONE, accepted);
        }
        self.check_tls(problems);
    }

    fn check_tls(&self, problems: &mut Problems) {
        let ListenTls {
            certificate_file,
            key_file,
            client_ca_file,
        } = &self.tls;
        if self.engine_api == Some(TcpAddress::Off)
            && let Some(file) = certificate_file
        {
            let accepted = "where listen.engineApi is an address: a socket has no TLS";
            problems.add("listen.tls.certificateFile", file, accepted);
        }
        match (certificate_file, key_file) {
            (Some(file), None) => {
                let accepted = "together with listen.tls.keyFile";
                problems.add("listen.tls.certificateFile", file, accepted);
            }
            (None, Some(file)) => {
                let accepted = "together with listen.tls.certificateFile";
                problems.add("listen.tls.keyFile", file, accepted);
            }
            _ => {}
        }
        if let (None, Some(file)) = (certificate_file, client_ca_file) {
            let accepted = "together with listen.tls.certificateFile and listen.tls.keyFile";
            problems.add("listen.tls.clientCaFile", file, accepted);
        }
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Off => f.write_str(NONE),
        }
    }
}

impl FromStr for TcpAddress {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            NONE => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

impl Serialize for TcpAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TcpAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| {
            let given = serde::de::Unexpected::Str(&text);
            serde::de::Error::invalid_value(given, &"an address such as 127.0.0.1:8080, or none")
        };
        text.parse().map_err(wrong)
    }
}

impl JsonSchema for TcpAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TcpAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listen: &Listen) -> Vec<String> {
        let mut problems = Problems::default();
        listen.check(&mut problems);
        problems.iter().map(|(_, text)| text.to_owned()).collect()
    }

    fn some(path: &str) -> Option<PathBuf> {
        Some(path.into())
    }

    #[test]
    fn a_listener_that_knows_its_clients_need_not_hide() {
        let mut config = crate::config::Config::default();
        let of = |config: &crate::config::Config| {
            config
                .listen
                .addresses(Reach::ThisMachine, config.clients())
        };
        let engine_api =
            |config: &crate::config::Config| of(config).engine_api.unwrap().to_string();
        assert_eq!(engine_api(&config), "127.0.0.1:8080");
        config.listen.tls.certificate_file = some("/c");
        assert_eq!(engine_api(&config), "127.0.0.1:8080");
        config.listen.tls.client_ca_file = some("/ca");
        assert_eq!(engine_api(&config), "[::]:8080");
        // The others ask nobody.
        let others = of(&config);
        assert!(others.delivery.ip().is_loopback() && others.admin.ip().is_loopback());
    }

    #[test]
    fn files_of_tls_belong_together() {
        let mut listen = Listen::default();
        listen.tls.client_ca_file = some("/ca");
        assert_eq!(
            told(&listen),
            [
                "listen.tls.clientCaFile is \"/ca\"; accepted: together with listen.tls.certificateFile and listen.tls.keyFile"
            ]
        );
        listen.tls.certificate_file = some("/c");
        assert_eq!(
            told(&listen),
            ["listen.tls.certificateFile is \"/c\"; accepted: together with listen.tls.keyFile"]
        );
        listen.tls.key_file = some("/k");
        assert_eq!(told(&listen), Vec::<String>::new());
    }

    #[test]
    fn tcp_is_switched_off_only_beside_a_socket() {
        let mut listen = Listen {
            engine_api: Some("none".parse().unwrap()),
            ..Listen::default()
        };
        assert_eq!(told(&listen).len(), 1, "{:?}", told(&listen));
        listen.socket = some("/run/peitho.sock");
        assert_eq!(told(&listen), Vec::<String>::new());
        let addresses = listen.addresses(Reach::Network, Clients::Anyone);
        assert_eq!(addresses.engine_api, None);
        listen.tls.certificate_file = some("/c");
        listen.tls.key_file = some("/k");
        assert!(told(&listen)[0].contains("a socket has no TLS"));
        listen.socket = some("peitho.sock");
        assert!(told(&listen)[0].contains("an absolute path"));
    }
}
