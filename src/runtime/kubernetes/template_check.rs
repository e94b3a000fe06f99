//! What a pod template may hold: a part of a pod, as far as it is Kubernetes' and not what Peitho stands on. Each
//! problem is told by its key, at the start and by `peitho config check`. Pure; `templates` calls it.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::compile_pod;
use super::overlay::{merge_key, vanished, without_nulls};
use super::pod;
use super::template::SECRET_VOLUMES;
use crate::config::Problems;
use crate::names::kubernetes::is_own;
use crate::runtime::compile_agent::CREDENTIALS;

/// The lists of a PodSpec that hold containers.
pub(super) const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

/// Which pods a template is laid over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All pods.
    All,
    /// Those of compiles.
    Compile,
    /// Those of chaincode.
    Chaincode,
}

impl Place {
    /// The containers of a list, in such pods.
    fn containers(self, list: &str) -> Vec<&'static str> {
        let of = |place: Self, name| (self == Self::All || self == place).then_some(name);
        let names = match list {
            "containers" => [
                of(Self::Chaincode, pod::MAIN),
                of(Self::Compile, compile_pod::AGENT),
                of(Self::Compile, compile_pod::MAIN),
            ],
            _ => [of(Self::Chaincode, pod::INIT), None, None],
        };
        names.into_iter().flatten().collect()
    }
}

/// Fields that are not for templates, and why.
const FIXED: [(&str, &str); 4] = [
    (
        "restartPolicy",
        "a process that is started again cannot register with its peer",
    ),
    (
        "terminationGracePeriodSeconds",
        "peers wait a few seconds for the end of a process, and launch anew",
    ),
    (
        "ephemeralContainers",
        "Kubernetes takes them for pods that run",
    ),
    (
        "activeDeadlineSeconds",
        "a compile ends by compile.timeoutSeconds, and chaincode by its peer",
    ),
];

/// Adds what is wrong with the template at `key`.
pub(super) fn check(
    key: &str,
    template: &Map<String, Value>,
    place: Place,
    problems: &mut Problems,
) {
    let mut found = Found { key, problems };
    for (field, value) in template {
        match (field.as_str(), value) {
            ("metadata", Value::Object(metadata)) => found.metadata(metadata),
            ("spec", Value::Object(spec)) => found.spec(spec, place),
            ("metadata" | "spec", _) => found.tell(field, "is no mapping"),
            _ => found.tell(field, "is not for a pod template: it has metadata and spec"),
        }
    }
    found.types(template);
}

struct Found<'a> {
    key: &'a str,
    problems: &'a mut Problems,
}

impl Found<'_> {
    fn tell(&mut self, path: &str, what: &str) {
        let key = format!("{}.{path}", self.key);
        let message = format!("{key} {what}");
        self.problems.tell(key, message);
    }

    fn metadata(&mut self, metadata: &Map<String, Value>) {
        for (field, value) in metadata {
            let path = format!("metadata.{field}");
            match (field.as_str(), value) {
                ("labels" | "annotations", Value::Object(pairs)) => {
                    for name in pairs.keys().filter(|name| is_own(name)) {
                        let what = "is not for templates: Peitho finds its objects by it";
                        self.tell(&format!("{path}.{name}"), what);
                    }
                }
                ("labels" | "annotations", _) => self.tell(&path, "is no mapping"),
                _ => self.tell(
                    &path,
                    "is not for templates: names, owners and the like are Peitho's, labels and annotations can be set",
                ),
            }
        }
    }

    fn spec(&mut self, spec: &Map<String, Value>, place: Place) {
        for (field, reason) in FIXED {
            if spec.contains_key(field) {
                self.tell(
                    &format!("spec.{field}"),
                    &format!("is not for templates: {reason}"),
                );
            }
        }
        self.keyed_lists("spec", spec);
        for (index, volume) in items(spec, "volumes") {
            if SECRET_VOLUMES.iter().any(|name| volume["name"] == *name) {
                let what = "is not for templates: it carries what Peitho hands to the pod";
                self.tell(&format!("spec.volumes[{index}]"), what);
            }
        }
        for list in CONTAINER_LISTS {
            let accepted = place.containers(list);
            for (index, container) in items(spec, list) {
                let path = format!("spec.{list}[{index}]");
                if !accepted.iter().any(|name| container["name"] == *name) {
                    let is_agent = container["name"] == compile_pod::AGENT;
                    let what = if accepted.is_empty() || (is_agent && place == Place::All) {
                        format!(
                            "is none of Peitho's: pods of compiles have no init container; {} and {} are in containers",
                            compile_pod::AGENT,
                            compile_pod::MAIN
                        )
                    } else {
                        format!(
                            "is none of Peitho's; here a template changes {}, and adds none, since their end would not be that of the chaincode",
                            accepted.join(" and ")
                        )
                    };
                    self.tell(&format!("{path}.name"), &what);
                }
                if let Value::Object(container) = container {
                    self.container(&path, container);
                }
            }
        }
    }

    fn container(&mut self, path: &str, container: &Map<String, Value>) {
        self.keyed_lists(path, container);
        if container.contains_key("restartPolicy") {
            self.tell(
                &format!("{path}.restartPolicy"),
                &format!("is not for templates: {}", FIXED[0].1),
            );
        }
        for (index, mount) in items(container, "volumeMounts") {
            let hides = mount["mountPath"].as_str().is_some_and(|path| {
                path == CREDENTIALS || path.starts_with(&format!("{CREDENTIALS}/"))
            });
            if hides || SECRET_VOLUMES.iter().any(|name| mount["name"] == *name) {
                let what = "is not for templates: it carries what Peitho hands to the pod";
                self.tell(&format!("{path}.volumeMounts[{index}]"), what);
            }
        }
    }

    /// Lists that are merged item by item: `null` would take away Peitho's own, and an item needs its key.
    fn keyed_lists(&mut self, path: &str, fields: &Map<String, Value>) {
        for (field, value) in fields {
            let Some(key) = merge_key(field) else {
                continue;
            };
            match value {
                Value::Null => {
                    let what = "is merged item by item: null would take away Peitho's own";
                    self.tell(&format!("{path}.{field}"), what);
                }
                Value::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        if item[key].is_null() {
                            let what = format!("needs {key}: it says which item is meant");
                            self.tell(&format!("{path}.{field}[{index}]"), &what);
                        }
                    }
                }
                // `types` tells.
                _ => {}
            }
        }
    }

    /// What Kubernetes would not read, or not know.
    fn types(&mut self, template: &Map<String, Value>) {
        let part = without_nulls(&json!({
            "metadata": template.get("metadata").filter(|it| it.is_object()),
            "spec": template.get("spec").filter(|it| it.is_object()),
        }));
        // By value, as a merged pod is read: a second way to read a pod would be a third of a megabyte.
        let pod: Pod = match serde_path_to_error::deserialize(part.clone()) {
            Ok(pod) => pod,
            Err(error) => {
                let path = error.path().to_string();
                let what = if may_hold_secrets(&path) {
                    "is not of the type that it has in a pod".to_owned()
                } else {
                    format!("is not of the type that it has in a pod: {}", error.inner())
                };
                return self.tell(&path, &what);
            }
        };
        let known = serde_json::to_value(&pod).expect("a pod is an object with string keys");
        for path in vanished(&part, &known) {
            self.tell(&path, "is no field of a pod that Peitho knows");
        }
    }
}

/// Whether `path` leads to or into environment variables, or words of a command.
fn may_hold_secrets(path: &str) -> bool {
    path.split('.').any(|segment| {
        let field = segment.split_once('[').map_or(segment, |(field, _)| field);
        matches!(field, "env" | "command" | "args")
    })
}

/// The items of a list, where there is one, with their place in it.
fn items<'a>(
    fields: &'a Map<String, Value>,
    list: &str,
) -> impl Iterator<Item = (usize, &'a Value)> {
    let items = fields.get(list).and_then(Value::as_array);
    items.into_iter().flatten().enumerate()
}

#[cfg(test)]
mod tests;
