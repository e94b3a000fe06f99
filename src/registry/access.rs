//! How each registry is reached, out of the configuration: scheme, login, and which authorities are trusted for it. Read
//! once at the start, and made into clients.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::SecretString;

use super::logins::Login;
use super::{DOCKER_HUB, DOCKER_HUB_HOST};
use crate::config::{self, Scheme};
use crate::names::ImageName;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub(super) const USER_AGENT: &str = concat!("peitho/", env!("CARGO_PKG_VERSION"));

/// One registry.
#[derive(Clone)]
pub(super) struct Access {
    /// As image names carry it.
    pub(super) host: String,
    pub(super) scheme: Scheme,
    pub(super) login: Option<Login>,
    /// Trusted beside the system's.
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

impl Access {
    /// Of one that the configuration does not have.
    pub(super) fn plain(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            scheme: Scheme::default(),
            login: None,
            authorities: Vec::new(),
        }
    }

    pub(super) async fn all(config: &[config::Registry]) -> anyhow::Result<Vec<Self>> {
        let mut all = Vec::new();
        for registry in config {
            all.push(Self::of(registry).await?);
        }
        Ok(all)
    }

    async fn of(registry: &config::Registry) -> anyhow::Result<Self> {
        let host = &registry.host;
        let login = match (&registry.username, &registry.password_file) {
            (None, None) => None,
            (Some(username), Some(file)) => Some(Login {
                username: username.clone(),
                password: password(host, file).await?,
            }),
            _ => anyhow::bail!(
                "registry {host}: username and passwordFile belong together; set both"
            ),
        };
        Ok(Self {
            host: spelled(host),
            scheme: registry.scheme,
            login,
            authorities: authorities(host, registry.ca_file.as_deref()).await?,
        })
    }

    pub(super) async fn of_built(registry: &config::BuiltRegistry) -> anyhow::Result<Self> {
        let host = &registry.address;
        let password = match (&registry.password, &registry.password_file) {
            (Some(password), _) => Some(password.secret().clone()),
            (None, Some(file)) => Some(password(host, file).await?),
            (None, None) => None,
        };
        let username = registry.username.clone();
        Ok(Self {
            host: spelled(host),
            scheme: registry.scheme,
            login: username
                .zip(password)
                .map(|(username, password)| Login { username, password }),
            authorities: authorities(host, registry.ca_file.as_deref()).await?,
        })
    }
}

/// What reads from registries.
pub(super) struct Reader {
    /// The library's.
    pub(super) client: Client,
    /// What finds out how that one is authorized.
    pub(super) tokens: reqwest::Client,
}

impl Reader {
    /// From the registries of `accesses`, trusting `authorities` beside the system's.
    pub(super) fn new(
        accesses: &[Access],
        authorities: &[CertificateDer<'_>],
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let tokens = plain_client(authorities)?.read_timeout(timeout).build();
        Ok(Self {
            client: client(accesses, authorities, timeout)?,
            tokens: tokens.context("cannot make a client for token services")?,
        })
    }
}

/// A client to be, which trusts `authorities` beside the system's.
pub(super) fn plain_client(
    authorities: &[CertificateDer<'_>],
) -> anyhow::Result<reqwest::ClientBuilder> {
    let authorities = authorities.iter();
    let authorities = authorities.map(|der| reqwest::Certificate::from_der(der));
    Ok(reqwest::Client::builder()
        .tls_certs_merge(authorities.collect::<Result<Vec<_>, _>>()?)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(USER_AGENT))
}

fn client(
    accesses: &[Access],
    authorities: &[CertificateDer<'_>],
    timeout: Duration,
) -> anyhow::Result<Client> {
    let plain = accesses.iter().filter(|it| it.scheme == Scheme::Http);
    let authorities = authorities.iter().map(|der| Certificate {
        encoding: CertificateEncoding::Der,
        data: der.to_vec(),
    });
    Client::try_from(ClientConfig {
        protocol: ClientProtocol::HttpsExcept(plain.map(|it| asked(&it.host).to_owned()).collect()),
        extra_root_certificates: authorities.collect(),
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(timeout),
        user_agent: USER_AGENT,
        ..ClientConfig::default()
    })
    .context("cannot make a client for registries")
}

/// The host as image names spell it.
pub(super) fn spelled(host: &str) -> String {
    ImageName::spelled_host(host).to_owned()
}

/// The host that answers for `host` of an image's name.
pub(super) fn asked(host: &str) -> &str {
    match host {
        DOCKER_HUB => DOCKER_HUB_HOST,
        host => host,
    }
}

async fn password(host: &str, file: &Path) -> anyhow::Result<SecretString> {
    let password = tokio::fs::read_to_string(file).await.with_context(|| {
        let file = file.display();
        format!("registry {host}: the password file {file} cannot be read")
    })?;
    let password = password.strip_suffix('\n').unwrap_or(&password);
    let password = password.strip_suffix('\r').unwrap_or(password);
    Ok(SecretString::from(password))
}

async fn authorities(
    host: &str,
    file: Option<&Path>,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let told = || {
        format!(
            "registry {host}: the file of authorities {}",
            file.display()
        )
    };
    let pem = tokio::fs::read(file)
        .await
        .with_context(|| format!("{} cannot be read", told()))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| anyhow::anyhow!("{} is no PEM: {error}", told()))?;
    anyhow::ensure!(!found.is_empty(), "{} has no certificate", told());
    Ok(found)
}
