//! Section `chaincode`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;
use super::quantity::{Quantities, quantities};

/// Chaincode pods.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Chaincode {
    /// Resource requests of a chaincode pod: small, or idle chaincode fills a node.
    pub requests: Quantities,
    /// The numeric user (and group) where the runtime image names none by number.
    pub run_as_user: i64,
}

impl Default for Chaincode {
    fn default() -> Self {
        Self {
            requests: quantities([("cpu", "10m"), ("memory", "64Mi")]),
            run_as_user: 500,
        }
    }
}

impl Chaincode {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.quantities("chaincode.requests", &self.requests);
        problems.user("chaincode.runAsUser", self.run_as_user);
    }
}
