//! What of a pod and its events a verdict needs, and nothing more: a watch of a thousand pods keeps these
//! few hundred bytes of each. Made from what the API server sends by `watch`, read by `verdict`. Times are
//! those of this process, taken when it first saw a thing: the clocks of nodes and schedulers do not agree.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, Pod, PodCondition};
use tokio::time::Instant;

use self::container::Seen;
pub(super) use self::container::{Container, ContainerState, Moments};
use super::platform;

mod container;

/// How many different events of one pod are kept.
const EVENTS_KEPT: usize = 16;
/// Bytes of a message that are kept: a verdict's text goes into a peer's error.
const MESSAGE_KEPT: usize = 2_048;

/// A pod as a verdict sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    /// The pod's name.
    pub(super) name: String,
    /// The pod's UID: a pod of the same name with another UID is another pod.
    pub(super) uid: String,
    /// UID of the Secret that owns it.
    pub(super) owner: Option<String>,
    /// The main container.
    pub(super) main: Container,
    /// The one that brings what the main one needs, where there is such a one.
    pub(super) preparing: Container,
    /// Whether that one came, or there is none.
    pub(super) is_prepared: bool,
    /// When the process of the main container began and ended, by the clock of its node.
    pub(super) moments: Moments,
    /// Whether the scheduler found a node for it.
    pub(super) has_node: bool,
    /// Whether the main container was ever seen at work, or says that it was.
    pub(super) ran: bool,
    /// `phase` is `Succeeded` or `Failed`.
    pub(super) over: bool,
    /// `status.reason` and `status.message`, for example `Evicted`.
    pub(super) status: Option<(String, String)>,
    /// Why the pod has to go, where somebody said so: `EvictionByEvictionAPI: …`.
    pub(super) disruption: Option<String>,
    /// Since when the scheduler finds no node, and its words.
    pub(super) unschedulable: Option<(Instant, String)>,
    /// Since when something is wrong with a waiting container.
    pub(super) trouble: Option<Instant>,
    /// Since when a `deletionTimestamp` stands on it.
    pub(super) deleting: Option<Instant>,
    /// Whether it was being deleted or evicted before its process ended: then the end was an order.
    pub(super) killed: bool,
    /// Whether the object is gone.
    pub(super) gone: bool,
    /// By name of the event object.
    pub(super) events: BTreeMap<String, Incident>,
}

/// An event about a pod, of those that were seen the same several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incident {
    /// For example `FailedMount`.
    pub(super) reason: String,
    /// The name of the container that it is about, where it is about one.
    pub(super) container: String,
    /// The words of who reports it.
    pub(super) message: String,
    /// How often it happened.
    pub(super) count: i32,
    /// When it was first seen here.
    pub(super) since: Instant,
    /// When it was last seen to happen again.
    pub(super) last: Instant,
}

impl Evidence {
    /// What `pod` shows at `now`, after what was known of it before.
    pub(super) fn of(pod: &Pod, before: Option<&Self>, now: Instant) -> Self {
        let before = before.filter(|old| Some(old.uid.as_str()) == pod.metadata.uid.as_deref());
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let [main, preparing] = Seen::both(pod);
        let deleting = pod
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|_| before.and_then(|old| old.deleting).unwrap_or(now));
        let ended_before = before.filter(|old| old.main.has_ended());
        let disruption = condition(pod, "DisruptionTarget", "True").map(|condition| {
            let reason = condition.reason.as_deref().unwrap_or_default();
            format!("{reason}: {}", cut(condition.message.as_deref()))
        });
        let (moments, has_run) = (main.moments(), main.has_run());
        // A main container that does not have what it needs only waits.
        let is_prepared = preparing.has_come();
        let (main, preparing) = (main.container(), preparing.container());
        let ran = before.is_some_and(|old| old.ran) || (has_run && is_prepared);
        let troubled = main.is_troubled() || preparing.is_troubled();
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            owner: pod
                .metadata
                .owner_references
                .iter()
                .flatten()
                .find(|owner| owner.kind == "Secret")
                .map(|owner| owner.uid.clone()),
            killed: match ended_before {
                Some(old) => old.killed,
                None => (deleting.is_some() && !ended_by_itself(pod)) || disruption.is_some(),
            },
            moments: match ended_before {
                Some(old) => old.moments,
                None => moments,
            },
            main: ended_before.map_or(main, |old| old.main.clone()),
            preparing,
            is_prepared,
            has_node: spec.is_some_and(|spec| spec.node_name.is_some()),
            ran,
            over: status
                .and_then(|status| status.phase.as_deref())
                .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed")),
            status: status.and_then(|status| {
                let reason = status.reason.clone()?;
                Some((reason, cut(status.message.as_deref())))
            }),
            disruption,
            unschedulable: unschedulable(pod).map(|message| {
                let since = before.and_then(|old| Some(old.unschedulable.as_ref()?.0));
                (since.unwrap_or(now), message)
            }),
            trouble: troubled.then(|| before.and_then(|old| old.trouble).unwrap_or(now)),
            deleting,
            gone: false,
            events: before.map(|old| old.events.clone()).unwrap_or_default(),
        }
    }

    /// Adds what `event`, an event about this pod, says.
    pub(super) fn note(&mut self, name: String, incident: Incident) {
        let known = self.events.get(&name).cloned();
        if known.is_none() && self.events.len() >= EVENTS_KEPT {
            let oldest = self.events.iter().min_by_key(|(_, known)| known.since);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.events.remove(&oldest);
            }
        }
        let incident = match known {
            // A list after a gap repeats what is known: that is no news.
            Some(known) if known.count >= incident.count => known,
            Some(known) => Incident {
                since: known.since,
                ..incident
            },
            None => incident,
        };
        self.events.insert(name, incident);
    }

    /// Why its process ended, in the words of Kubernetes: an exit code carries none.
    pub(super) fn why_ended(&self) -> String {
        let of_container = match &self.main.state {
            ContainerState::Terminated { reason, .. } if !reason.is_empty() => Some(reason.clone()),
            _ => None,
        };
        let of_pod = self.status.as_ref();
        let whys = [
            of_container,
            of_pod.map(|(reason, message)| format!("{reason}: {message}")),
            self.disruption.clone(),
            (self.deleting.is_some() || self.gone).then(|| "the pod was deleted".to_owned()),
        ];
        whys.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// The kubelet's words, where it evicted the pod for want of room on a disk: for what the pod had written beyond a limit of its own, or for a
    /// node that ran short.
    pub(super) fn lacks_room(&self) -> Option<&str> {
        let message = match (&self.status, &self.disruption) {
            (Some((reason, message)), _) if reason == "Evicted" => message,
            // It may be there before the status is.
            (_, Some(disruption)) => disruption.strip_prefix("TerminationByKubelet: ")?,
            _ => return None,
        };
        // Those of `pkg/kubelet/eviction/helpers.go` that are not of memory and processes; the condition `DiskPressure` alone refuses pods.
        let is_of_disk = [
            "ephemeral-storage",
            "ephemeral storage",
            "ephemeral local storage",
            "EmptyDir",
            "inodes",
        ];
        let is_of_disk = is_of_disk.iter().any(|word| message.contains(word));
        is_of_disk.then_some(message)
    }

    /// Whether nothing of it runs or will run.
    pub(super) fn is_over(&self) -> bool {
        self.gone || self.over || self.main.has_ended()
    }
}

impl Incident {
    /// What `event` says, seen first at `now`.
    pub(super) fn of(event: &Event, now: Instant) -> Self {
        // `spec.initContainers{fetch}`
        let field = event.involved_object.field_path.as_deref();
        let container = field
            .and_then(|field| field.split_once('{')?.1.strip_suffix('}'))
            .unwrap_or_default();
        let series = event.series.as_ref().and_then(|series| series.count);
        Self {
            reason: event.reason.clone().unwrap_or_default(),
            container: container.to_owned(),
            message: cut(event.message.as_deref()),
            count: event.count.or(series).unwrap_or(1),
            since: now,
            last: now,
        }
    }
}

/// The scheduler's words; where they are of an affinity, with the one that nobody wrote.
fn unschedulable(pod: &Pod) -> Option<String> {
    let condition = condition(pod, "PodScheduled", "False")
        .filter(|condition| condition.reason.as_deref() == Some("Unschedulable"))?;
    let words = cut(condition.message.as_deref());
    let asked = pod.spec.as_ref().map(platform::asked_for);
    match asked.as_deref() {
        Some([architecture]) if words.contains("affinity") => Some(format!(
            "{}; the pod asks for {}={architecture}, see docs/images.md#platforms",
            words.trim_end_matches('.'),
            platform::ARCHITECTURE
        )),
        _ => Some(words),
    }
}

/// What a process that is told to end exits with: by SIGKILL, by SIGTERM, and by SIGTERM in Go.
const ORDERED_CODES: [i32; 3] = [137, 143, 2];

/// By how many seconds the clocks of a cluster may differ.
const CLOCKS_DIFFER: i64 = 5;

/// Whether the main container of a pod under deletion had ended before that was ordered: peers relaunch within
/// milliseconds of a crash, and the kubelet tells of the crash up to a second later. Kubernetes keeps whole
/// seconds, and two clocks tell them, the node's and the API server's: within [`CLOCKS_DIFFER`] the code decides.
fn ended_by_itself(pod: &Pod) -> bool {
    let metadata = &pod.metadata;
    let ordered = metadata
        .deletion_timestamp
        .as_ref()
        .map(|at| at.0.as_second() - metadata.deletion_grace_period_seconds.unwrap_or_default());
    let [main, _] = Seen::both(pod);
    let ended = main.ended();
    let (Some(ordered), Some(ended)) = (ordered, ended) else {
        return false;
    };
    let is_own_code = !ORDERED_CODES.contains(&ended.exit_code);
    match ended.finished_at.as_ref().map(|at| at.0.as_second()) {
        Some(finished) => {
            finished + CLOCKS_DIFFER < ordered || (finished <= ordered && is_own_code)
        }
        None => false,
    }
}

fn condition<'a>(pod: &'a Pod, type_: &str, status: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)
}

fn cut(text: Option<&str>) -> String {
    let text = text.unwrap_or_default().trim();
    text[..text.floor_char_boundary(MESSAGE_KEPT)].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::settings;
    use super::*;
    use crate::image_spec::ImageFacts;

    /// What a pod shows whose main container ended with `reason`, with these `conditions`.
    fn ended(reason: &str, conditions: Value, metadata: Value) -> Evidence {
        let terminated = json!({"exitCode": 2, "reason": reason});
        let pod = json!({
            "metadata": metadata,
            "spec": {"containers": [{"name": "chaincode", "image": "baseos:2.5"}]},
            "status": {"phase": "Failed", "conditions": conditions, "containerStatuses": [{
                "name": "chaincode", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": terminated},
            }]},
        });
        Evidence::of(&serde_json::from_value(pod).unwrap(), None, Instant::now())
    }

    #[test]
    fn why_a_process_ended_is_known_beside_its_code() {
        let oom = ended("OOMKilled", json!([]), json!({"name": "cc"}));
        assert_eq!(oom.why_ended(), "OOMKilled");

        let disrupted = json!([{
            "type": "DisruptionTarget", "status": "True",
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        }]);
        let deleting = json!({"name": "cc", "deletionTimestamp": "2026-01-01T00:00:01Z"});
        assert_eq!(
            ended("Error", disrupted, deleting).why_ended(),
            "Error; EvictionByEvictionAPI: Eviction API: evicting; the pod was deleted"
        );
    }

    #[test]
    fn an_eviction_for_want_of_room_is_known_by_the_kubelets_words() {
        let lacks = |reason: &str, message: &str| {
            let shown = |status| {
                let pod = json!({"metadata": {}, "spec": {"containers": []}, "status": status});
                let pod = serde_json::from_value(pod).unwrap();
                Evidence::of(&pod, None, Instant::now()).lacks_room() == Some(message)
            };
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message});
            let by_status = json!({"phase": "Failed", "reason": reason, "message": message});
            let by_condition = json!({"phase": "Running", "conditions": [condition]});
            (shown(by_status), shown(by_condition))
        };
        for message in [
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
            "Container compile exceeded its local ephemeral storage limit \"1Gi\".",
            "Usage of EmptyDir volume \"home\" exceeds the limit \"1Gi\".",
            "The node was low on resource: ephemeral-storage. Threshold quantity: 1, available: 0.",
            "The node was low on resource: inodes.",
        ] {
            assert_eq!(lacks("Evicted", message), (true, false), "{message}");
            let by_kubelet = lacks("TerminationByKubelet", message);
            assert_eq!(by_kubelet, (false, true), "{message}");
            assert_eq!(lacks("Preempting", message), (false, false), "{message}");
        }
        let memory = "The node was low on resource: memory. Container compile was using 1Gi, request is 0, has larger consumption of memory.";
        for message in [memory, "The node was low on resource: pids.", ""] {
            assert_eq!(lacks("Evicted", message), (false, false), "{message}");
            let by_kubelet = lacks("TerminationByKubelet", message);
            assert_eq!(by_kubelet, (false, false), "{message}");
        }
    }

    #[test]
    fn a_pod_without_a_node_names_the_architecture_that_hinders_it() {
        let told = |words: &str, architecture: Option<&str>| {
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words});
            let status = json!({"conditions": [condition]});
            let pod = json!({"metadata": {}, "spec": {"containers": []}, "status": status});
            let facts = ImageFacts {
                architecture: architecture.map(|it| it.parse().unwrap()),
                ..ImageFacts::default()
            };
            let pod = serde_json::from_value(pod).unwrap();
            let pod = platform::placed(pod, &settings(), &facts);
            Evidence::of(&pod, None, Instant::now())
                .unschedulable
                .unwrap()
                .1
        };
        let words = "1 node(s) didn't match Pod's node affinity/selector.";
        let asks =
            "selector; the pod asks for kubernetes.io/arch=arm64, see docs/images.md#platforms";
        let found = told(words, Some("arm64"));
        assert!(found.ends_with(asks), "{found}");
        assert_eq!(told(words, None), words);
        let other = "1 Insufficient cpu.";
        assert_eq!(told(other, Some("arm64")), other);
    }
}
