//! Section `agent`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;
use crate::names::ImageName;

/// Peitho's own program in pods (design D5, D6).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Agent {
    /// The image that holds the program, normally the one that the server itself runs.
    pub image: String,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            image: format!("peitho:{}", env!("CARGO_PKG_VERSION")),
        }
    }
}

impl Agent {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.image.parse::<ImageName>().is_err() {
            let accepted = "an image name, for example registry.example.com/peitho:1.0.0";
            problems.add("agent.image", &self.image, accepted);
        }
    }
}
