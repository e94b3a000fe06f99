//! The way to the API server: a kubeconfig, the pod's service account, or what kubectl would take. Called
//! by `serve` once.

use std::path::PathBuf;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::config;

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured file does not serve.
    #[error(
        "kubernetes.kubeconfig {path}: {source}; name a readable kubeconfig file with a current context"
    )]
    Configured {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KubeconfigError,
    },
    /// In a pod, but its service account does not serve.
    #[error(
        "the pod's service account cannot be used: {0}; set automountServiceAccountToken: true for Peitho's own pod"
    )]
    InCluster(InClusterError),
    /// Neither in a pod nor with a kubeconfig.
    #[error("no Kubernetes: not in a pod, and {0}; set kubernetes.kubeconfig or KUBECONFIG")]
    Nowhere(KubeconfigError),
    /// The configuration was read but makes no client.
    #[error(
        "no Kubernetes client: {0}; see the certificates and the credentials of the kubeconfig"
    )]
    Client(String),
}

/// A client and the namespace for chaincode: `kubernetes.kubeconfig`, else the service account of the pod
/// that Peitho runs in, else `KUBECONFIG` or the default file. Sends nothing yet.
///
/// # Errors
/// [`ConnectError`], in one line that says what to do.
pub async fn connect(section: &config::Kubernetes) -> Result<(Client, String), ConnectError> {
    let options = KubeConfigOptions::default();
    let mut config = if let Some(path) = &section.kubeconfig {
        let configured = |source| ConnectError::Configured {
            path: path.clone(),
            source,
        };
        let file = Kubeconfig::read_from(path).map_err(configured)?;
        Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(configured)?
    } else if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Config::incluster().map_err(ConnectError::InCluster)?
    } else {
        Config::from_kubeconfig(&options)
            .await
            .map_err(ConnectError::Nowhere)?
    };
    // `request` repeats and bounds; watches live long, so there is no read timeout.
    config.default_retry = false;
    config.read_timeout = None;
    let namespace = if section.namespace.is_empty() {
        config.default_namespace.clone()
    } else {
        section.namespace.clone()
    };
    let client = Client::try_from(config)
        .map_err(|error| ConnectError::Client(super::request::describe(&error)))?;
    Ok((client, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named_with_its_key() {
        let section = config::Kubernetes {
            kubeconfig: Some(PathBuf::from("/nowhere/config")),
            ..config::Kubernetes::default()
        };
        let Err(error) = connect(&section).await else {
            panic!("a client from nothing");
        };
        let text = error.to_string();
        assert!(
            text.contains("kubernetes.kubeconfig /nowhere/config") && !text.contains('\n'),
            "{text}"
        );
    }
}
