//! Records what the API server shows of a fault, for the verdict's own tests: with `RECORD=1`, each fault of a launch leaves pods and
//! events, as a watch brought them, in `src/runtime/kubernetes/verdict/recorded/`.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};
use testbed::Process;
use testbed::peitho::{CHAINCODE_NAMESPACE, project};

use crate::world::Counterparts;

/// Two watches, from before the fault on.
pub(crate) struct Recorder {
    /// Of the chaincode that the fault happens to.
    label: &'static str,
    pods: Process,
    events: Process,
}

/// The parts of a pod and of an event that say what became of it.
const METADATA: [&str; 3] = ["name", "uid", "ownerReferences"];
const EVENT: [&str; 6] = [
    "involvedObject",
    "reason",
    "message",
    "count",
    "series",
    "type",
];

impl Recorder {
    /// Whether somebody asked for it.
    pub(crate) fn is_wanted() -> bool {
        std::env::var_os("RECORD").is_some()
    }

    /// Begins, when somebody asked for it.
    pub(crate) fn start(c: &Counterparts, label: &'static str) -> Result<Option<Self>> {
        if !Self::is_wanted() {
            return Ok(None);
        }
        let watch = |kind| -> Result<Process> {
            let watch = c.cluster.watch(&c.run, CHAINCODE_NAMESPACE, kind)?;
            // What is there already comes first: from then on nothing is missed.
            watch.wait_for_line("\"object\"", Duration::from_secs(10))?;
            Ok(watch)
        };
        Ok(Some(Self {
            label,
            pods: watch("pods")?,
            events: watch("events")?,
        }))
    }

    /// Writes what was seen of `fault` until its user was told `says` after so many `seconds`.
    pub(crate) fn finish(self, fault: &str, says: &[&str], seconds: f64) -> Result<()> {
        let pods: Vec<Value> = objects(&self.pods)
            .into_iter()
            // What follows the verdict is Peitho's own order.
            .filter(|pod| is_of(pod, self.label) && pod["metadata"]["deletionTimestamp"].is_null())
            .collect();
        let Some(first) = pods.first() else {
            return Ok(());
        };
        let begun = time(&first["metadata"]["creationTimestamp"]);
        let uid = first["metadata"]["uid"].clone();
        let mut changes: Vec<(i64, Value)> = Vec::new();
        for pod in pods.iter().filter(|pod| pod["metadata"]["uid"] == uid) {
            let at = written(pod).max(begun) - begun;
            changes.push((at, json!({"at": at, "pod": trimmed_pod(pod)})));
        }
        for event in objects(&self.events) {
            if event["involvedObject"]["uid"] == uid {
                let at = happened(&event).max(begun) - begun;
                let mut kept = picked(&event, &EVENT);
                let name = &event["metadata"]["name"];
                kept.insert("metadata".to_owned(), json!({"name": name}));
                changes.push((at, json!({"at": at, "event": kept})));
            }
        }
        changes.sort_by_key(|(at, _)| *at);
        let changes: Vec<Value> = changes.into_iter().map(|(_, change)| change).collect();
        let story = json!({"fault": fault, "says": says, "seconds": seconds, "changes": changes});
        let name: String = fault
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        let file = project().join(format!(
            "src/runtime/kubernetes/verdict/recorded/{name}.json"
        ));
        fs::write(file, serde_json::to_string_pretty(&story)? + "\n")?;
        Ok(())
    }
}

fn objects(watch: &Process) -> Vec<Value> {
    let log = watch.log();
    serde_json::Deserializer::from_str(&log)
        .into_iter::<Value>()
        .map_while(Result::ok)
        .map(|mut change| change["object"].take())
        .collect()
}

/// Seconds of a time as Kubernetes writes it; 0 where there is none.
fn time(value: &Value) -> i64 {
    let text = value.as_str().unwrap_or_default();
    text.parse::<jiff::Timestamp>()
        .map_or(0, |at| at.as_second())
}

/// When the object was last written, by the notes of who wrote it.
fn written(pod: &Value) -> i64 {
    let notes = pod["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten();
    notes
        .map(|note| time(&note["time"]))
        .max()
        .unwrap_or_default()
}

fn happened(event: &Value) -> i64 {
    ["lastTimestamp", "eventTime"]
        .iter()
        .map(|key| time(&event[*key]))
        .max()
        .unwrap_or_default()
}

/// Whether it is a pod of the chaincode of this label.
fn is_of(pod: &Value, label: &str) -> bool {
    let package = pod["metadata"]["annotations"]["peitho.dev/package-id"].as_str();
    package.and_then(|id| id.split(':').next()) == Some(label)
}

fn trimmed_pod(pod: &Value) -> Value {
    let containers = |kind: &str| -> Vec<Value> {
        let all = pod["spec"][kind].as_array().into_iter().flatten();
        all.map(|one| json!({"name": one["name"], "image": one["image"]}))
            .collect()
    };
    json!({
        "metadata": picked(&pod["metadata"], &METADATA),
        "spec": {"containers": containers("containers"), "initContainers": containers("initContainers")},
        "status": pod["status"],
    })
}

fn picked(object: &Value, keys: &[&str]) -> Map<String, Value> {
    let pairs = keys.iter().filter_map(|key| {
        let value = object.get(*key)?;
        Some(((*key).to_owned(), value.clone()))
    });
    pairs.collect()
}
