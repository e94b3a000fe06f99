//! Pod templates as they stand in the configuration: free-form, since their keys are Kubernetes' and not ours.
//! What in them is right, and how they are laid over a pod, is known to `runtime`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Pattern, Problems};
use crate::names::Language;

/// A part of a pod, `metadata` and `spec`, in the spelling of Kubernetes. `Debug` does not show it: values of
/// environment variables may be secrets.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PodTemplate(Map<String, Value>);

impl PodTemplate {
    /// Its keys and values.
    pub fn content(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Whether nothing stands in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with the values of environment variables hidden.
    pub(super) fn shown(&self) -> Self {
        let mut shown = self.0.clone();
        for containers in ["containers", "initContainers"] {
            let containers = shown
                .get_mut("spec")
                .and_then(|spec| spec.get_mut(containers)?.as_array_mut());
            for container in containers.into_iter().flatten() {
                let variables = container.get_mut("env").and_then(Value::as_array_mut);
                for variable in variables.into_iter().flatten() {
                    if let Some(value) = variable.get_mut("value") {
                        *value = Value::from("(hidden)");
                    }
                }
            }
        }
        Self(shown)
    }
}

impl From<Map<String, Value>> for PodTemplate {
    fn from(content: Map<String, Value>) -> Self {
        Self(content)
    }
}

impl fmt::Debug for PodTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A template for some of the chaincode only: that which has the language and the label named here.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Override {
    /// `golang`, `node` or `java`; without it, chaincode of any language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// A pattern over labels of packages, for example `asset_*` (1.4: names of chaincode); `*` is any characters,
    /// `?` one. Without it, any label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Pattern>,
    /// What is laid over the pod.
    pub pod_template: PodTemplate,
}

impl Override {
    pub(super) fn check(&self, key: &str, problems: &mut Problems) {
        if self.language.is_none() && self.label.is_none() {
            let accepted = "language, label, or both; chaincode.podTemplate is for all chaincode";
            problems.add(key, "for everything", accepted);
        }
        if self.label.as_ref().is_some_and(Pattern::is_empty) {
            problems.add(format!("{key}.label"), "", "a pattern such as asset_*");
        }
    }
}
