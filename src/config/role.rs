//! Which runtime carries out which role (design D2).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;

/// What runs the containers of a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RuntimeChoice {
    /// `kubernetes` in a cluster and where `kubernetes.kubeconfig` is set, `oci` elsewhere.
    #[default]
    Auto,
    /// Pods.
    Kubernetes,
    /// A runc-compatible program on this machine.
    Oci,
    /// An existing Docker Engine.
    Docker,
}

/// The runtimes that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Pods.
    Kubernetes,
    /// A runc-compatible program on this machine.
    Oci,
    /// An existing Docker Engine.
    Docker,
}

impl RuntimeKind {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Oci => "oci",
            Self::Docker => "docker",
        }
    }
}

/// Where Peitho finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surrounding {
    /// In a pod.
    Cluster,
    /// On a machine of its own.
    Machine,
}

impl Surrounding {
    /// Of this process: Kubernetes tells its pods.
    pub fn found() -> Self {
        match std::env::var_os("KUBERNETES_SERVICE_HOST") {
            Some(_) => Self::Cluster,
            None => Self::Machine,
        }
    }
}

/// Where those come from who talk to the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From anywhere.
    Network,
    /// From this machine.
    ThisMachine,
}

/// The runtime of each role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Compiles.
    pub compile: RuntimeKind,
    /// Chaincode.
    pub chaincode: RuntimeKind,
}

impl Roles {
    /// Whether one of the roles is carried out by `kind`.
    pub fn use_runtime(&self, kind: RuntimeKind) -> bool {
        self.compile == kind || self.chaincode == kind
    }

    /// Who talks to the listeners: pods are elsewhere, and so are the peers beside them.
    pub fn reach(&self) -> Reach {
        if self.use_runtime(RuntimeKind::Kubernetes) {
            Reach::Network
        } else {
            Reach::ThisMachine
        }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.compile.as_str(), self.chaincode.as_str()) {
            (both, chaincode) if both == chaincode => f.write_str(both),
            (compile, chaincode) => write!(f, "compiles on {compile}, chaincode on {chaincode}"),
        }
    }
}

impl Config {
    /// The runtime of each role, for a Peitho that runs in `surrounding`.
    pub fn roles(&self, surrounding: Surrounding) -> Roles {
        let has_cluster =
            surrounding == Surrounding::Cluster || self.kubernetes.kubeconfig.is_some();
        let kind = |choice| match choice {
            RuntimeChoice::Kubernetes => RuntimeKind::Kubernetes,
            RuntimeChoice::Oci => RuntimeKind::Oci,
            RuntimeChoice::Docker => RuntimeKind::Docker,
            RuntimeChoice::Auto if has_cluster => RuntimeKind::Kubernetes,
            RuntimeChoice::Auto => RuntimeKind::Oci,
        };
        Roles {
            compile: kind(self.compile.runtime),
            chaincode: kind(self.chaincode.runtime),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_used_where_there_is_one() {
        use RuntimeKind::{Kubernetes, Oci};
        let with = |choice, kubeconfig: Option<&str>, surrounding| {
            let mut config = Config::default();
            config.chaincode.runtime = choice;
            config.kubernetes.kubeconfig = kubeconfig.map(Into::into);
            config.roles(surrounding)
        };
        for (choice, kubeconfig, surrounding, compile, chaincode, reach) in [
            (
                RuntimeChoice::Auto,
                None,
                Surrounding::Machine,
                Oci,
                Oci,
                Reach::ThisMachine,
            ),
            (
                RuntimeChoice::Auto,
                None,
                Surrounding::Cluster,
                Kubernetes,
                Kubernetes,
                Reach::Network,
            ),
            (
                RuntimeChoice::Auto,
                Some("k"),
                Surrounding::Machine,
                Kubernetes,
                Kubernetes,
                Reach::Network,
            ),
            (
                RuntimeChoice::Kubernetes,
                None,
                Surrounding::Machine,
                Oci,
                Kubernetes,
                Reach::Network,
            ),
            (
                RuntimeChoice::Oci,
                None,
                Surrounding::Cluster,
                Kubernetes,
                Oci,
                Reach::Network,
            ),
        ] {
            let roles = with(choice, kubeconfig, surrounding);
            assert_eq!(roles, Roles { compile, chaincode });
            assert_eq!(roles.reach(), reach);
        }
    }
}
