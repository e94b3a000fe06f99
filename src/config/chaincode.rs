//! Section `chaincode`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::{Quantities, quantities};
use super::{Override, PodTemplate, Problems, RunAs, RuntimeChoice};

/// Chaincode pods.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Chaincode {
    /// What runs the containers: `auto`, `kubernetes`, `oci` or `docker`. `auto` is `kubernetes` in a pod and where
    /// `kubernetes.kubeconfig` is set, and `oci` elsewhere.
    pub runtime: RuntimeChoice,
    /// Resource requests of a chaincode pod: small, or idle chaincode fills a node.
    pub requests: Quantities,
    /// The numeric user (and group) where the runtime image names none by number; `none` leaves them to the platform,
    /// as OpenShift wants it.
    pub run_as_user: RunAs,
    /// Capabilities that chaincode gets when its peer asks for them (`CapAdd`), for example `NET_BIND_SERVICE`, the one
    /// that Pod Security `restricted` allows.
    pub allowed_capabilities: Vec<String>,
    /// A part of a pod that is laid over every chaincode pod, after `kubernetes.podTemplate`.
    pub pod_template: PodTemplate,
    /// Parts of pods for some chaincode, by language and by label of the package. Those that fit are laid over the
    /// pod after `chaincode.podTemplate`: first those without a label, then those with one, each in this order.
    pub overrides: Vec<Override>,
}

impl Default for Chaincode {
    fn default() -> Self {
        Self {
            runtime: RuntimeChoice::default(),
            requests: quantities([("cpu", "10m"), ("memory", "64Mi")]),
            run_as_user: RunAs::User(500),
            allowed_capabilities: Vec::new(),
            pod_template: PodTemplate::default(),
            overrides: Vec::new(),
        }
    }
}

impl Chaincode {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.quantities("chaincode.requests", &self.requests);
        problems.user("chaincode.runAsUser", self.run_as_user);
        for (index, name) in self.allowed_capabilities.iter().enumerate() {
            let fits = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            if name.is_empty() || !fits || name.starts_with("CAP_") {
                let key = format!("chaincode.allowedCapabilities[{index}]");
                problems.add(
                    key,
                    name,
                    "a capability as Kubernetes spells it, such as NET_BIND_SERVICE",
                );
            }
        }
        for (index, it) in self.overrides.iter().enumerate() {
            it.check(&format!("chaincode.overrides[{index}]"), problems);
        }
    }
}
