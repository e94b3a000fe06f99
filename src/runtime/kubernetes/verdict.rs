//! The one function that turns what a pod and its events show into what became of the process (design
//! D11). Pure: `follow` asks it again whenever the evidence changes, or when the time comes that it names.
//!
//! Container status decides, not the pod's phase, which is 1.1 s later. What cannot pass is final at once,
//! what may pass at the second attempt, and a pod without a node after a grace, for autoscalers.

use std::time::Duration;

use tokio::time::Instant;

use super::evidence::{Container, ContainerState, Evidence, Incident};
use crate::runtime::Exit;

/// What a killed process is said to have exited with.
const KILLED: i64 = 137;
/// How long a second attempt must lie behind the first one: the kubelet tries some things twice within a
/// second, and a Secret that it has not read yet is there a second later.
const SETTLED: Duration = Duration::from_secs(5);
/// After how long a fault is believed whose second attempt nobody reported (events may be forbidden).
const LASTING: Duration = Duration::from_secs(30);
/// After how long a pod that is being deleted is given up: its node is gone, and no one will say more.
const LOST: Duration = Duration::from_secs(10);

/// What became of a pod's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing final yet. Ask again at the time given, also without news.
    Starting {
        /// When waiting changes the verdict.
        recheck: Option<Instant>,
    },
    /// The process runs.
    Running {
        /// When waiting changes the verdict: the pod is being deleted.
        recheck: Option<Instant>,
    },
    /// It did not run and will not: why, in the words of Kubernetes.
    NeverStarted {
        /// The reason, for the peer.
        reason: String,
    },
    /// It ran and ended.
    Exited(Exit),
}

impl Verdict {
    /// Whether nothing can follow.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::NeverStarted { .. } | Self::Exited(_))
    }

    /// When to ask again without news.
    pub(super) fn recheck(&self) -> Option<Instant> {
        match self {
            Self::Starting { recheck } | Self::Running { recheck } => *recheck,
            Self::NeverStarted { .. } | Self::Exited(_) => None,
        }
    }
}

/// The verdict on `pod` at `now`, where `grace` is what a pod may be without a node.
pub(super) fn verdict(pod: &Evidence, now: Instant, grace: Duration) -> Verdict {
    if let ContainerState::Terminated {
        code,
        reason,
        message,
    } = &pod.main.state
    {
        return ended(pod, *code, reason, message);
    }
    if pod.gone {
        return lost(pod, "was deleted before it started");
    }
    if let Some(since) = pod.deleting {
        let until = since + LOST;
        return if now >= until {
            lost(pod, "was deleted before it started")
        } else if pod.ran {
            Verdict::Running {
                recheck: Some(until),
            }
        } else {
            Verdict::Starting {
                recheck: Some(until),
            }
        };
    }
    if let ContainerState::Terminated {
        code,
        reason,
        message,
    } = &pod.preparing.state
        && (*code != 0 || reason == "OOMKilled")
    {
        return never(about(
            &pod.preparing,
            pod,
            &exit_text(*code, reason),
            message,
        ));
    }
    if pod.over {
        return lost(pod, "failed before it started");
    }
    if pod.main.state == ContainerState::Running && pod.is_prepared {
        return Verdict::Running { recheck: None };
    }
    not_running(pod, now, grace)
}

/// The main container terminated.
fn ended(pod: &Evidence, code: i64, reason: &str, message: &str) -> Verdict {
    if matches!(reason, "StartError" | "ContainerCannotRun") {
        return never(about(&pod.main, pod, reason, message));
    }
    if !pod.ran {
        // The kubelet invents a status for a container it never made, once the pod is over.
        return lost(pod, "ended before it started");
    }
    let node_ended_it = pod.status.as_ref().is_some_and(|(reason, _)| {
        matches!(
            reason.as_str(),
            "Evicted"
                | "DeadlineExceeded"
                | "Preempting"
                | "Terminated"
                | "NodeShutdown"
                | "NodeLost"
        )
    });
    // Reason before code: OOM of a child gives `OOMKilled` and the code of its parent.
    let killed =
        pod.killed || node_ended_it || matches!(reason, "OOMKilled" | "ContainerStatusUnknown");
    Verdict::Exited(Exit {
        code: if killed { KILLED } else { code },
    })
}

/// No container status will come any more.
fn lost(pod: &Evidence, what: &str) -> Verdict {
    if pod.ran {
        return Verdict::Exited(Exit { code: KILLED });
    }
    never(match &pod.status {
        Some((reason, message)) => format!("pod {} {what}: {reason}: {message}", pod.name),
        None => format!("pod {} {what}", pod.name),
    })
}

/// Nothing ended and nothing runs: is there anything that stands in the way?
fn not_running(pod: &Evidence, now: Instant, grace: Duration) -> Verdict {
    let mut recheck: Option<Instant> = None;
    let mut hindrances = Vec::new();
    for container in [&pod.preparing, &pod.main] {
        if let ContainerState::Waiting { reason, message } = &container.state
            && let Some(class) = class(reason, message)
        {
            let text = match said(pod, container, reason) {
                Some(incident) if message.is_empty() => &incident.message,
                _ => message,
            };
            let since = pod.trouble.unwrap_or(now);
            let believed = match class {
                Class::Final => now,
                Class::Passing if attempts(pod, container) >= 2 => since + SETTLED,
                Class::Passing => since + LASTING,
            };
            hindrances.push((believed, about(container, pod, reason, text)));
        }
    }
    // The kubelet looks at a pod again 10 to 15 s after a fault, and tells it in the status only then,
    // where another container began before: its event is there at once.
    let made: &[&str] = &["Pulled", "Created", "Started"];
    let told = pod
        .events
        .values()
        .find(|it| is_final(it) && !is_followed(pod, it, made));
    if let Some(Incident {
        container, message, ..
    }) = told
    {
        return never(format!(
            "container {container} of pod {}: {message}",
            pod.name
        ));
    }
    for incident in pod.events.values().filter(|it| stands(pod, it)) {
        // These live as events only, and no one says when they are over: they count while they repeat.
        let repeated = incident.count >= 2 && incident.last >= incident.since + SETTLED;
        let believed = if repeated {
            now
        } else {
            incident.since + LASTING
        };
        let Incident {
            reason, message, ..
        } = incident;
        hindrances.push((believed, format!("pod {}: {reason}: {message}", pod.name)));
    }
    for (believed, text) in hindrances {
        if now >= believed {
            return never(text);
        }
        recheck = earlier(recheck, believed);
    }
    if let Some((since, message)) = &pod.unschedulable {
        let until = *since + grace;
        if now >= until {
            return never(format!(
                "pod {}: Unschedulable for {} s: {message}",
                pod.name,
                grace.as_secs()
            ));
        }
        recheck = earlier(recheck, until);
    }
    Verdict::Starting { recheck }
}

/// How long a fault of a waiting container is given.
#[derive(Clone, Copy)]
enum Class {
    /// It cannot pass.
    Final,
    /// It may pass.
    Passing,
}

/// What registries and runtimes say of an image that will not be there in a minute either, in lower case.
const NO_SUCH_IMAGE: &[&str] = &[
    "not found",
    "manifest unknown",
    "name unknown",
    "repository does not exist",
    "access denied",
    "is denied",
    "authorization failed",
    "unauthorized",
    "403 forbidden",
    "no basic auth",
    // A name that the kubelet takes and the runtime does not: `UPPER/case:1`.
    "invalid reference format",
];

/// What the kubelet says of an image that it does not run without root, in lower case.
const NEEDS_ROOT: &[&str] = &["image will run as root", "non-numeric user", "runasnonroot"];

/// The kind of fault that a waiting container reports, or `None` when it only waits for its turn.
fn class(reason: &str, message: &str) -> Option<Class> {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    Some(match reason {
        "" | "ContainerCreating" | "PodInitializing" => return None,
        "InvalidImageName"
        | "ErrImageNeverPull"
        | "RunContainerError"
        | "StartError"
        | "SignatureValidationFailed" => Class::Final,
        // Only the words tell a missing image from a registry that is away (k8s-measurements §4).
        "ErrImagePull" | "ImagePullBackOff" => {
            if says(NO_SUCH_IMAGE) {
                Class::Final
            } else {
                Class::Passing
            }
        }
        "CreateContainerConfigError" if says(NEEDS_ROOT) => Class::Final,
        _ => Class::Passing,
    })
}

/// Whether `incident` tells of a fault of a container that cannot pass.
fn is_final(incident: &Incident) -> bool {
    let message = incident.message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match incident.reason.as_str() {
        "InspectFailed" => says(&["invalid", "parse"]),
        "ErrImageNeverPull" => true,
        "Failed" if message.starts_with("failed to pull image") => says(NO_SUCH_IMAGE),
        "Failed" => says(NEEDS_ROOT),
        _ => false,
    }
}

/// Whether something with one of `reasons` happened after `incident`, to the same container where it is about one: others begin all the same.
fn is_followed(pod: &Evidence, incident: &Incident, reasons: &[&str]) -> bool {
    let is_same =
        |other: &Incident| incident.container.is_empty() || other.container == incident.container;
    pod.events.values().any(|other| {
        reasons.contains(&other.reason.as_str()) && other.last > incident.last && is_same(other)
    })
}

/// Whether `incident` is a fault before any container was made, and nothing later was heard of.
fn stands(pod: &Evidence, incident: &Incident) -> bool {
    let before_containers = matches!(
        incident.reason.as_str(),
        "FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox"
    );
    let went_on = is_followed(pod, incident, &["Pulling", "Pulled", "Created", "Started"]);
    let was_made = [&pod.preparing, &pod.main].iter().any(|container| {
        matches!(
            container.state,
            ContainerState::Running | ContainerState::Terminated { .. }
        )
    });
    before_containers && !went_on && !was_made
}

/// How often the kubelet tried to make a container. A failed pull makes an event with the cause and one
/// with the state; while it only backs off it makes more, which are no attempts.
fn attempts(pod: &Evidence, container: &Container) -> i32 {
    failures(pod, container)
        .filter(|incident| !incident.message.contains("ImagePullBackOff"))
        .map(|incident| incident.count)
        .max()
        .unwrap_or(0)
}

/// The event that explains a waiting reason without words.
fn said<'a>(pod: &'a Evidence, container: &'a Container, reason: &str) -> Option<&'a Incident> {
    failures(pod, container)
        .filter(|incident| !incident.message.ends_with(reason))
        .max_by_key(|incident| incident.since)
}

/// What failed of `container`; also what does not say of which.
fn failures<'a>(pod: &'a Evidence, container: &'a Container) -> impl Iterator<Item = &'a Incident> {
    let is_of = |it: &Incident| it.container.is_empty() || it.container == container.name;
    let failed = pod.events.values().filter(|it| it.reason == "Failed");
    failed.filter(move |it| is_of(it))
}

fn never(reason: String) -> Verdict {
    Verdict::NeverStarted { reason }
}

fn earlier(known: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(known.map_or(other, |known| known.min(other)))
}

fn exit_text(code: i64, reason: &str) -> String {
    match reason {
        "" | "Error" => format!("exit code {code}"),
        reason => format!("{reason}, exit code {code}"),
    }
}

/// `container fetch of pod cc-… (image peitho:0.1.0): ErrImagePull: …`
fn about(container: &Container, pod: &Evidence, reason: &str, message: &str) -> String {
    let Container { name, image, .. } = container;
    let text = format!(
        "container {name} of pod {} (image {image}): {reason}",
        pod.name
    );
    if message.is_empty() {
        text
    } else {
        format!("{text}: {message}")
    }
}

#[cfg(test)]
mod beside;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
