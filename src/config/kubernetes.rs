//! Section `kubernetes`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::is_dns_label;
use super::{PodTemplate, Problems};
use crate::names::InstanceName;

/// The cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Namespace of chaincode and compile pods, but for tenants with one of their own. Empty: that of Peitho's own pod, or of the kubeconfig.
    pub namespace: String,
    /// A kubeconfig file. Empty: the service account of the pod, else `KUBECONFIG`, else the default file.
    pub kubeconfig: Option<PathBuf>,
    /// Tells several Peithos in one namespace apart; part of every object's labels.
    pub instance: String,
    /// Lines added to `/etc/hosts` of all pods.
    pub host_aliases: Vec<HostAlias>,
    /// Names of Secrets with which the node pulls images.
    pub image_pull_secrets: Vec<String>,
    /// When the node asks the registry for an image that it has.
    pub image_pull_policy: PullPolicy,
    /// Seconds that a pod may stay unschedulable before the launch fails (autoscalers need time).
    pub scheduling_grace_seconds: u64,
    /// A part of a pod that is laid over every pod, see [pod templates](pod-templates.md).
    pub pod_template: PodTemplate,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            kubeconfig: None,
            instance: "peitho".to_owned(),
            host_aliases: Vec::new(),
            image_pull_secrets: Vec::new(),
            image_pull_policy: PullPolicy::default(),
            scheduling_grace_seconds: 120,
            pod_template: PodTemplate::default(),
        }
    }
}

/// Kubernetes' `imagePullPolicy`, in its spelling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// What is on the node is taken, as in Docker.
    #[default]
    IfNotPresent,
    /// At each start.
    Always,
    /// Never: images come onto the nodes by other ways.
    Never,
}

impl PullPolicy {
    /// The word of Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

/// One line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostAlias {
    /// The address, IPv4 or IPv6.
    pub ip: std::net::IpAddr,
    /// The names that resolve to it.
    pub hostnames: Vec<String>,
}

impl Kubernetes {
    pub(super) fn check(&self, problems: &mut Problems) {
        if !self.namespace.is_empty() && !is_dns_label(&self.namespace) {
            let accepted = "a namespace: a-z, 0-9 and -, at most 63 characters; or nothing";
            problems.add("kubernetes.namespace", &self.namespace, accepted);
        }
        if self.instance.parse::<InstanceName>().is_err() {
            let accepted = "1 to 40 characters out of a-z, 0-9 and -, no - at either end";
            problems.add("kubernetes.instance", &self.instance, accepted);
        }
        for (index, alias) in self.host_aliases.iter().enumerate() {
            alias.check(
                &format!("kubernetes.hostAliases[{index}].hostnames"),
                problems,
            );
        }
        for (index, name) in self.image_pull_secrets.iter().enumerate() {
            problems.object_name(&format!("kubernetes.imagePullSecrets[{index}]"), name);
        }
        let key = "kubernetes.schedulingGraceSeconds";
        problems.number(key, self.scheduling_grace_seconds, 0..=86_400);
    }
}

impl HostAlias {
    fn check(&self, key: &str, problems: &mut Problems) {
        let lower = |name: &String| name.split('.').all(is_dns_label);
        if self.hostnames.is_empty() || !self.hostnames.iter().all(lower) {
            problems.add(key, &self.hostnames, "one or more DNS names in lower case");
        }
    }
}
