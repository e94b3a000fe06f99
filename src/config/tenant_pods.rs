//! What a tenant's pods have of their own: the keys `compile` and `chaincode` of an item of `tenants.known`. Quantities
//! are joined here; how templates follow each other is known to `runtime`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compile, CompileOverride, Override, PodTemplate, Problems, Quantities};

/// Compiles of one tenant, where they differ.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TenantCompile {
    /// How many of this tenant's compiles run at once, of those of `compile.parallel`; without it, as many as there are places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<usize>,
    /// Resource requests, each in place of that of `compile.requests`.
    pub requests: Quantities,
    /// Resource limits, each in place of that of `compile.limits`. A request of `compile.requests` that would exceed one
    /// becomes it.
    pub limits: Quantities,
    /// A part of a pod that is laid over this tenant's compile pods, after `compile.podTemplate`.
    pub pod_template: PodTemplate,
    /// As `compile.overrides`, for this tenant and after its `requests` and `limits`, which are laid over all of section `compile`.
    pub overrides: Vec<CompileOverride>,
}

/// Chaincode of one tenant, where it differs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TenantChaincode {
    /// Resource requests, each in place of that of `chaincode.requests`.
    pub requests: Quantities,
    /// A part of a pod that is laid over this tenant's chaincode pods, after all of section `chaincode`.
    pub pod_template: PodTemplate,
    /// As `chaincode.overrides`, for this tenant and after its `podTemplate`.
    pub overrides: Vec<Override>,
}

impl TenantCompile {
    /// Whether it says nothing of pods.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.limits.is_empty()
            && self.pod_template.is_empty()
            && self.overrides.is_empty()
    }

    /// `key` is where it stands, `general` what it is laid over.
    pub(super) fn check(&self, key: &str, general: &Compile, problems: &mut Problems) {
        if let Some(parallel) = self.parallel {
            problems.number(&format!("{key}.parallel"), parallel, 1..=1000);
        }
        let requests = format!("{key}.requests");
        problems.quantities(&requests, &self.requests);
        problems.quantities(&format!("{key}.limits"), &self.limits);
        let limits = joined(&general.limits, &self.limits);
        problems.within_limits(&requests, &self.requests, &limits);
        for (index, it) in self.overrides.iter().enumerate() {
            it.check(&format!("{key}.overrides[{index}]"), &limits, problems);
        }
    }
}

impl TenantChaincode {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.pod_template.is_empty() && self.overrides.is_empty()
    }

    pub(super) fn check(&self, key: &str, problems: &mut Problems) {
        problems.quantities(&format!("{key}.requests"), &self.requests);
        for (index, it) in self.overrides.iter().enumerate() {
            it.check(&format!("{key}.overrides[{index}]"), problems);
        }
    }
}

/// `general` with those of `own` in place of its own, resource by resource.
pub fn joined(general: &Quantities, own: &Quantities) -> Quantities {
    let mut joined = general.clone();
    joined.extend(own.clone());
    joined
}
