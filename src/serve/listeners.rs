//! The listeners by the configuration: where they are bound, with which TLS, and what clients are told that begin in the
//! other way. `serve` binds them first of all and serves on them last.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{self, Config, Listen};
use crate::listener::tls::{ClientAuthority, ClientRule, KeyedFile, Reloading, Tls, TlsFiles};
use crate::listener::{self, Bound, BoundSocket, Speech};

/// Peers are configured by variables; their endpoint has one form with and without TLS.
const ENGINE_API_WITH_TLS: &str = "a peer needs CORE_VM_DOCKER_TLS_ENABLED=true with CORE_VM_DOCKER_TLS_CA_FILE; \
     its CORE_VM_ENDPOINT stays tcp://host:port";
const ENGINE_API_WITHOUT_TLS: &str =
    "a peer needs CORE_VM_DOCKER_TLS_ENABLED=false, or this server listen.tls";
const DELIVERY: &str = "use https with the authority that `peitho images ca` prints; people pull images here, and the containers that this \
     server makes what they need";
const ADMIN: &str = "use http";

/// All of them, bound.
pub(super) struct Listeners {
    pub(super) engine_api: Option<Bound>,
    pub(super) socket: Option<BoundSocket>,
    pub(super) delivery: Bound,
    pub(super) admin: Bound,
}

/// TLS of the Engine API.
pub(super) struct Security {
    pub(super) tls: Option<Tls>,
    /// What has to run for `tls` to follow its files.
    pub(super) reloading: Option<Reloading>,
}

impl Listeners {
    pub(super) async fn bind(
        listen: &Listen,
        addresses: &config::Addresses,
    ) -> anyhow::Result<Self> {
        let engine_api = match addresses.engine_api {
            Some(address) => Some(listener::bind(address).await.context("listen.engineApi")?),
            None => None,
        };
        let socket = listen.socket.as_deref().map(listener::bind_socket);
        Ok(Self {
            engine_api,
            socket: socket.transpose().context("listen.socket")?,
            delivery: listener::bind(addresses.delivery)
                .await
                .context("listen.delivery")?,
            admin: listener::bind(addresses.admin)
                .await
                .context("listen.admin")?,
        })
    }

    /// What peers are to be told.
    pub(super) fn endpoints(&self) -> String {
        let tcp = self.engine_api.as_ref().map(|bound| endpoint(bound.addr));
        let socket = self.socket.as_ref();
        let socket = socket.map(|it| format!("unix://{}", it.path().display()));
        let both: Vec<String> = tcp.into_iter().chain(socket).collect();
        both.join(" or ")
    }
}

impl Security {
    /// By the files that `config` names.
    pub(super) fn read(config: &Config) -> anyhow::Result<Self> {
        let tls = &config.listen.tls;
        let (Some(certificate), Some(key)) = (&tls.certificate_file, &tls.key_file) else {
            return Ok(Self {
                tls: None,
                reloading: None,
            });
        };
        let (tls, reloading) = Tls::of_files(TlsFiles {
            certificate: file("listen.tls.certificateFile", certificate),
            key: file("listen.tls.keyFile", key),
            clients: authorities(config),
        })?;
        Ok(Self {
            tls: Some(tls),
            reloading: Some(reloading),
        })
    }

    /// For the log.
    pub(super) fn describe(&self) -> &'static str {
        match &self.tls {
            None => "none",
            Some(tls) if tls.asks_clients() => "with client certificates",
            Some(_) => "without client certificates",
        }
    }

    pub(super) fn engine_api(&self) -> Speech {
        Speech {
            tls: self.tls.clone(),
            advice: match self.tls {
                Some(_) => ENGINE_API_WITH_TLS,
                None => ENGINE_API_WITHOUT_TLS,
            },
            ..Speech::default()
        }
    }
}

/// Whose clients are let in, and for whom they may speak: a tenant's for that tenant alone.
fn authorities(config: &Config) -> Vec<ClientAuthority> {
    let general = config.listen.tls.client_ca_file.iter();
    let general = general.map(|path| ClientAuthority {
        file: file("listen.tls.clientCaFile", path),
        rule: ClientRule {
            tenants: config.tenants.unproven(),
            subjects: Vec::new(),
        },
    });
    let tenants = config.tenants.known.iter().enumerate();
    let tenants = tenants.filter_map(|(index, it)| {
        let key = format!("tenants.known[{index}].clientCaFile");
        Some(ClientAuthority {
            file: file(&key, it.client_ca_file.as_ref()?),
            rule: ClientRule {
                tenants: it.tenant().into_iter().collect(),
                subjects: it.subjects.clone(),
            },
        })
    });
    general.chain(tenants).collect()
}

fn file(key: &str, path: &Path) -> KeyedFile {
    KeyedFile {
        key: key.to_owned(),
        path: path.to_owned(),
    }
}

/// Of the delivery listener.
pub(super) fn delivery(tls: Arc<rustls::ServerConfig>) -> Speech {
    Speech {
        tls: Some(tls.into()),
        advice: DELIVERY,
        ..Speech::default()
    }
}

/// Of the admin listener.
pub(super) fn admin() -> Speech {
    Speech {
        advice: ADMIN,
        ..Speech::default()
    }
}

/// An address that is bound to all of them has none to tell.
fn endpoint(bound: SocketAddr) -> String {
    match bound.ip() {
        ip if ip.is_unspecified() => format!("tcp://<this host>:{}", bound.port()),
        _ => format!("tcp://{bound}"),
    }
}
