//! The way to the API server: a kubeconfig, the pod's service account, or what kubectl would take. Called
//! by `serve` once.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use http::Uri;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::config;

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured file does not serve.
    #[error(
        "kubernetes.kubeconfig {path}: {cause}; name a readable kubeconfig file with a current context"
    )]
    Configured {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// In a pod, but its service account does not serve.
    #[error(
        "the pod's service account cannot be used: {0}; set automountServiceAccountToken: true for Peitho's own pod"
    )]
    InCluster(InClusterError),
    /// Neither in a pod nor with a kubeconfig.
    #[error("no Kubernetes: not in a pod, and {0}; set kubernetes.kubeconfig or KUBECONFIG")]
    Nowhere(String),
    /// The configuration was read but makes no client.
    #[error(
        "no Kubernetes client: {0}; see the certificates and the credentials of the kubeconfig"
    )]
    Client(String),
}

/// The way to one API server.
#[derive(Clone)]
pub struct Connection {
    /// What requests are sent with.
    pub client: Client,
    /// The namespace for chaincode.
    pub namespace: String,
    /// `https://host:port` of the API server, for messages.
    pub server: String,
}

/// A client, the namespace for chaincode, and where that is: `kubernetes.kubeconfig`, else the service account of
/// the pod that Peitho runs in, else `KUBECONFIG` or the default file. Sends nothing yet.
///
/// # Errors
/// [`ConnectError`], in one line that says what to do.
pub async fn connect(section: &config::Kubernetes) -> Result<Connection, ConnectError> {
    let options = KubeConfigOptions::default();
    let configured = section.kubeconfig.as_deref();
    let configured = configured.filter(|path| !path.as_os_str().is_empty());
    let mut config = if let Some(path) = configured {
        let failed = |error: KubeconfigError| ConnectError::Configured {
            path: path.to_owned(),
            cause: cause(&error, Some(path)),
        };
        let file = Kubeconfig::read_from(path).map_err(failed)?;
        if has_proxy(&file) {
            return Err(ConnectError::Configured {
                path: path.to_owned(),
                cause: PROXY.to_owned(),
            });
        }
        Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(failed)?
    } else if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Config::incluster().map_err(ConnectError::InCluster)?
    } else {
        let failed = |error: KubeconfigError| ConnectError::Nowhere(cause(&error, None));
        let file = Kubeconfig::read().map_err(failed)?;
        if has_proxy(&file) {
            return Err(ConnectError::Nowhere(PROXY.to_owned()));
        }
        Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(failed)?
    };
    // The library takes `HTTPS_PROXY`, which is for registries, for this too, and asks no `NO_PROXY`.
    config.proxy_url = None;
    // `request` repeats and bounds; watches live long, so there is no read timeout.
    config.default_retry = false;
    config.read_timeout = None;
    let namespace = if section.namespace.is_empty() {
        config.default_namespace.clone()
    } else {
        section.namespace.clone()
    };
    let server = origin(&config.cluster_url);
    let client = Client::try_from(config)
        .map_err(|error| ConnectError::Client(super::request::describe(&error)))?;
    Ok(Connection {
        client,
        namespace,
        server,
    })
}

/// What is said of a kubeconfig that wants a proxy.
const PROXY: &str =
    "its current cluster has a proxy-url, and Peitho reaches the API server without proxies";

/// Whether the cluster that is used has one.
fn has_proxy(file: &Kubeconfig) -> bool {
    let find = || {
        let context = file.current_context.as_ref()?;
        let context = file.contexts.iter().find(|it| it.name == *context)?;
        let cluster = &context.context.as_ref()?.cluster;
        let cluster = file.clusters.iter().find(|it| it.name == *cluster)?;
        cluster.cluster.as_ref()?.proxy_url.as_ref()
    };
    find().is_some_and(|url| !url.is_empty())
}

/// Scheme, host and port: credentials may stand before them, and what comes after says nothing.
fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("http");
    let host = url.host().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

/// What is wrong with a kubeconfig, in one line and without anything that stands in it but names: it holds keys. `told`
/// is the path that the message names already.
fn cause(error: &KubeconfigError, told: Option<&Path>) -> String {
    let text = match error {
        KubeconfigError::CurrentContextNotSet => "it has no current-context".to_owned(),
        KubeconfigError::LoadContext(name) => {
            format!("its current context {name:?} is not one of its contexts")
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the cluster {name:?} of its current context is not one of its clusters")
        }
        KubeconfigError::ReadConfig(error, path) if told == Some(path) => error.to_string(),
        KubeconfigError::ReadConfig(error, path) => format!("{}: {error}", path.display()),
        // The parser's words may repeat what stands there.
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!(
                "line {}, column {} is not what a kubeconfig has there",
                at.line(),
                at.column()
            ),
            None => "it is not YAML".to_owned(),
        },
        other => {
            let mut text = other.to_string();
            let mut cause = other.source();
            while let Some(source) = cause {
                let more = source.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = source.source();
            }
            text
        }
    };
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_in_messages_has_no_credentials() {
        for (url, shown) in [
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
            ("https://me:hunter2@k8s.example/path", "https://k8s.example"),
            ("https://[fd00::1]:6443/", "https://[fd00::1]:6443"),
        ] {
            assert_eq!(origin(&url.parse().unwrap()), shown);
        }
    }
}
