//! Section `docker`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::uri::Authority;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// The Docker Engine that runs chaincode or compiles, where a role has the runtime `docker`. Whoever reaches it is root
/// on its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Docker {
    /// `unix:///path/to/docker.sock`, or `tcp://host:port`.
    pub endpoint: String,
    /// The files for TLS, for an engine at `tcp://` that asks for it. Without `ca` there is no TLS.
    pub tls: DockerTls,
}

/// Files in PEM, as `docker --tlsverify` takes them. They are read at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DockerTls {
    /// The certificate authority of the engine's certificate.
    pub ca: Option<PathBuf>,
    /// The certificate that Peitho shows; together with `key`.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Where an engine listens: [`Docker::endpoint`] as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerAddress {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Host and port.
    Tcp(Authority),
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            endpoint: "unix:///var/run/docker.sock".to_owned(),
            tls: DockerTls::default(),
        }
    }
}

impl Docker {
    /// Where the engine listens; `None` where the endpoint is none, which [`super::Config::check`] tells.
    pub fn address(&self) -> Option<DockerAddress> {
        if let Some(path) = self.endpoint.strip_prefix("unix://") {
            let path = Path::new(path);
            return path
                .is_absolute()
                .then(|| DockerAddress::Unix(path.to_owned()));
        }
        let authority = self.endpoint.strip_prefix("tcp://")?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let authority: Authority = authority.parse().ok()?;
        let is_plain = !authority.as_str().contains('@') && !authority.host().is_empty();
        (is_plain && authority.port_u16().is_some()).then_some(DockerAddress::Tcp(authority))
    }

    /// Whether its containers are on another machine than this one.
    pub fn is_elsewhere(&self) -> bool {
        match self.address() {
            Some(DockerAddress::Tcp(authority)) => {
                let host = authority.host().trim_matches(['[', ']']);
                let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
                !is_loopback && host != "localhost"
            }
            _ => false,
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let address = self.address();
        if address.is_none() {
            let accepted = "unix:///path/to/docker.sock or tcp://host:port";
            // A user in front of the host may come with a password.
            let shown = self.endpoint.rsplit('@').next().unwrap_or_default();
            problems.add("docker.endpoint", shown, accepted);
        }
        let DockerTls { ca, cert, key } = &self.tls;
        if let (Some(ca), Some(DockerAddress::Unix(_))) = (ca, &address) {
            problems.add("docker.tls.ca", ca, "for an endpoint tcp://host:port only");
        }
        match (cert, key) {
            (Some(cert), None) => {
                problems.add("docker.tls.cert", cert, "together with docker.tls.key");
            }
            (None, Some(key)) => {
                problems.add("docker.tls.key", key, "together with docker.tls.cert");
            }
            (Some(cert), Some(_)) if ca.is_none() => {
                problems.add("docker.tls.cert", cert, "together with docker.tls.ca");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(docker: &Docker) -> Vec<String> {
        let mut problems = Problems::default();
        docker.check(&mut problems);
        problems.iter().map(|(_, text)| text.to_owned()).collect()
    }

    fn at(endpoint: &str) -> Docker {
        Docker {
            endpoint: endpoint.to_owned(),
            ..Docker::default()
        }
    }

    #[test]
    fn sockets_and_addresses_are_read_and_nothing_else() {
        let unix = DockerAddress::Unix("/var/run/docker.sock".into());
        assert_eq!(Docker::default().address(), Some(unix));
        for endpoint in ["tcp://10.0.0.1:2376", "tcp://docker:2375/", "tcp://[::1]:1"] {
            let address = at(endpoint).address();
            assert!(matches!(address, Some(DockerAddress::Tcp(_))), "{endpoint}");
        }
        for endpoint in [
            "",
            "/var/run/docker.sock",
            "unix://docker.sock",
            "tcp://docker",
            "tcp://:2375",
            "tcp://me:secret@docker:2375",
            "https://docker:2376",
            "tcp://docker:2375/v1.40",
        ] {
            let problems = told(&at(endpoint));
            assert_eq!(problems.len(), 1, "{endpoint}");
            assert!(!problems[0].contains("secret"), "{problems:?}");
        }
    }

    #[test]
    fn files_of_tls_belong_together_and_to_tcp() {
        let tls = |ca: Option<&str>, cert: Option<&str>, key: Option<&str>| Docker {
            tls: DockerTls {
                ca: ca.map(PathBuf::from),
                cert: cert.map(PathBuf::from),
                key: key.map(PathBuf::from),
            },
            ..at("tcp://docker:2376")
        };
        let some = Some("f.pem");
        assert_eq!(told(&tls(some, some, some)), Vec::<String>::new());
        assert_eq!(told(&tls(some, None, None)), Vec::<String>::new());
        assert_eq!(
            told(&tls(some, some, None)),
            ["docker.tls.cert is \"f.pem\"; accepted: together with docker.tls.key"]
        );
        assert_eq!(
            told(&tls(None, some, some)),
            ["docker.tls.cert is \"f.pem\"; accepted: together with docker.tls.ca"]
        );
        let unix = Docker {
            tls: tls(some, None, None).tls,
            ..Docker::default()
        };
        assert_eq!(
            told(&unix),
            ["docker.tls.ca is \"f.pem\"; accepted: for an endpoint tcp://host:port only"]
        );
    }
}
