//! Each row of k8s-measurements §4, as the pod and the events that the API server shows then.

use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

use super::*;

const GRACE: Duration = Duration::from_secs(120);
const FETCH: &str = "initContainers{fetch}";

/// A pod on its way through a test: each step is what a watch would bring.
struct Story {
    start: Instant,
    evidence: Evidence,
    meta: Value,
}

fn story() -> Story {
    let start = Instant::now();
    let meta = json!({"name": "cc-basic", "uid": "u-1"});
    let evidence = Evidence::of(&pod(&meta, &json!({"phase": "Pending"})), None, start);
    Story {
        start,
        evidence,
        meta,
    }
}

fn pod(meta: &Value, status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": meta,
        "spec": {
            "initContainers": [{"name": "fetch", "image": "peitho:0.1.0"}],
            "containers": [{"name": "chaincode", "image": "baseos:2.5"}],
        },
        "status": status,
    }))
    .unwrap()
}

fn container(name: &str, state: &Value) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    })
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn terminated(code: i32, reason: &str, message: &str) -> Value {
    json!({"terminated": {
        "exitCode": code, "reason": reason, "message": message,
        "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z",
    }})
}

/// The main container's state, its init container done.
fn main_is(state: &Value) -> Value {
    json!({
        "phase": "Pending",
        "initContainerStatuses": [container("fetch", &terminated(0, "Completed", ""))],
        "containerStatuses": [container("chaincode", state)],
    })
}

fn init_is(state: &Value) -> Value {
    json!({
        "phase": "Pending",
        "initContainerStatuses": [container("fetch", state)],
        "containerStatuses": [container("chaincode", &waiting("PodInitializing", ""))],
    })
}

fn running() -> Value {
    main_is(&json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}))
}

impl Story {
    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn shows(mut self, seconds: f64, status: &Value) -> Self {
        let at = self.at(seconds);
        self.evidence = Evidence::of(&pod(&self.meta, status), Some(&self.evidence), at);
        self
    }

    fn deleting(mut self) -> Self {
        // Ordered at second 0, with the grace of our pods.
        self.meta["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
        self.meta["deletionGracePeriodSeconds"] = json!(1);
        self
    }

    fn event(self, seconds: f64, reason: &str, message: &str, count: i32) -> Self {
        self.event_of("containers{chaincode}", seconds, reason, message, count)
    }

    fn event_of(mut self, it: &str, seconds: f64, reason: &str, message: &str, count: i32) -> Self {
        let event: Event = serde_json::from_value(json!({
            "metadata": {"name": format!("{reason}.{message}")},
            "involvedObject": {"fieldPath": format!("spec.{it}")}, "reason": reason, "message": message, "count": count,
        }))
        .unwrap();
        let incident = Incident::of(&event, self.at(seconds));
        self.evidence
            .note(event.metadata.name.unwrap_or_default(), incident);
        self
    }

    fn gone(mut self) -> Self {
        self.evidence.gone = true;
        self
    }

    fn verdict(&self, seconds: f64) -> Verdict {
        verdict(&self.evidence, self.at(seconds), GRACE)
    }

    fn never(&self, seconds: f64) -> String {
        match self.verdict(seconds) {
            Verdict::NeverStarted { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    fn is_starting(&self, seconds: f64) -> bool {
        matches!(self.verdict(seconds), Verdict::Starting { .. })
    }

    fn code(&self) -> i64 {
        match self.verdict(1e6) {
            Verdict::Exited(exit) => exit.code,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_life_without_faults() {
    let story = story();
    assert_eq!(story.verdict(0.0), Verdict::Starting { recheck: None });
    let story = story.shows(0.5, &init_is(&json!({"running": {}})));
    assert_eq!(story.verdict(0.5), Verdict::Starting { recheck: None });
    let story = story.shows(1.0, &main_is(&waiting("PodInitializing", "")));
    assert_eq!(story.verdict(1e6), Verdict::Starting { recheck: None });
    let story = story.shows(2.0, &running());
    assert_eq!(story.verdict(1e6), Verdict::Running { recheck: None });
    // Container status, not phase: that is still Running then.
    let story = story.shows(3.0, &main_is(&terminated(3, "Error", "")));
    assert_eq!(story.code(), 3);
}

#[test]
fn what_cannot_pass_is_final_at_once() {
    for (reason, message) in [
        ("InvalidImageName", "couldn't parse image reference"),
        (
            "ErrImageNeverPull",
            "image is not present with pull policy of Never",
        ),
        (
            "ErrImagePull",
            "failed to resolve reference \"docker.io/x/y:1\": docker.io/x/y:1: not found",
        ),
        (
            "ErrImagePull",
            "pull access denied, repository does not exist or may require authorization",
        ),
        ("ErrImagePull", "unexpected status: 401 Unauthorized"),
        (
            "ErrImagePull",
            "failed to parse image reference \"X/y:1\": invalid reference format: repository name must be lowercase",
        ),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
        ),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image has non-numeric user (chaincode)",
        ),
    ] {
        let story = story().shows(1.0, &main_is(&waiting(reason, message)));
        let text = story.never(1.0);
        assert!(
            text.contains(reason)
                && text.contains(message)
                && text.contains("chaincode")
                && text.contains("baseos:2.5"),
            "{text}"
        );
    }
}

#[test]
fn what_may_pass_is_final_at_the_second_attempt() {
    for (reason, message) in [
        (
            "ErrImagePull",
            "dial tcp: lookup registry.example.com: no such host",
        ),
        ("CreateContainerConfigError", "secret \"x\" not there"),
        ("CreateContainerError", "context deadline exceeded"),
    ] {
        let failed = format!("Error: {reason}");
        let story = story()
            .shows(1.0, &init_is(&waiting(reason, message)))
            .event_of(FETCH, 1.0, "Failed", &failed, 1);
        assert!(story.is_starting(20.0), "{reason}: one attempt");
        let story = story.event_of(FETCH, 12.0, "Failed", &failed, 2);
        let text = story.never(12.0);
        assert!(text.contains("fetch") && text.contains(message), "{text}");
    }
}

#[test]
fn a_second_attempt_within_the_same_second_is_not_believed() {
    let story = story()
        .shows(
            1.0,
            &main_is(&waiting("CreateContainerConfigError", "no secret")),
        )
        .event(1.0, "Failed", "Error: no secret", 2);
    let Verdict::Starting { recheck } = story.verdict(1.5) else {
        panic!("final too early");
    };
    assert_eq!(recheck, Some(story.at(1.0) + SETTLED));
    story.never(6.5);
}

#[test]
fn backing_off_is_no_attempt_and_a_fault_without_events_ends_too() {
    let story = story()
        .shows(1.0, &main_is(&waiting("ErrImagePull", "i/o timeout")))
        .event(1.0, "Failed", "Error: ErrImagePull", 1)
        .shows(
            2.0,
            &main_is(&waiting("ImagePullBackOff", "Back-off pulling image")),
        )
        .event(2.0, "Failed", "Error: ImagePullBackOff", 5);
    assert!(story.is_starting(20.0));
    story.never(31.5);
}

#[test]
fn after_an_init_container_the_event_tells_at_once_what_the_status_tells_15_s_later() {
    let pulling = || story().shows(2.0, &main_is(&waiting("PodInitializing", "")));
    for (reason, message) in [
        (
            "Failed",
            "Failed to pull image \"x/y:1\": rpc error: failed to resolve reference: x/y:1: not found",
        ),
        (
            "Failed",
            "Error: container has runAsNonRoot and image will run as root",
        ),
        (
            "ErrImageNeverPull",
            "Container image \"x/y:1\" is not present",
        ),
        (
            "InspectFailed",
            "Failed to apply default image tag \"x:Y:\": couldn't parse image",
        ),
    ] {
        let text = pulling().event(2.1, reason, message, 1).never(2.1);
        assert_eq!(
            text,
            format!("container chaincode of pod cc-basic: {message}")
        );
        let got_over = pulling().event(2.1, reason, message, 1).event(
            14.0,
            "Pulled",
            "Successfully pulled image",
            1,
        );
        assert!(got_over.is_starting(14.0), "{reason}");
    }
    for message in [
        "Failed to pull image \"x/y:1\": dial tcp: lookup x: no such host",
        "Error: secret \"x\" not found",
        "Error: ErrImagePull",
    ] {
        assert!(
            pulling().event(2.1, "Failed", message, 1).is_starting(2.1),
            "{message}"
        );
    }
}

#[test]
fn a_pull_that_succeeds_at_the_second_attempt_starts() {
    let story = story()
        .shows(1.0, &main_is(&waiting("ErrImagePull", "i/o timeout")))
        .event(1.0, "Failed", "Error: ErrImagePull", 1)
        .shows(13.0, &running());
    assert_eq!(story.verdict(1e6), Verdict::Running { recheck: None });
}

#[test]
fn mounts_and_sandboxes_fail_in_events_only() {
    for reason in [
        "FailedMount",
        "FailedCreatePodSandBox",
        "FailedAttachVolume",
    ] {
        let story = story()
            .shows(0.1, &init_is(&waiting("PodInitializing", "")))
            .event(0.3, reason, "secret \"x\" not found", 1);
        assert!(story.is_starting(0.3), "{reason}");
        let story = story.event(2.0, reason, "secret \"x\" not found", 3);
        assert!(story.is_starting(29.0), "{reason}: may have passed at 3 s");
        let story = story.event(8.0, reason, "secret \"x\" not found", 5);
        let text = story.never(8.0);
        assert!(
            text.contains(reason) && text.contains("not found"),
            "{text}"
        );
    }
}

#[test]
fn a_mount_that_succeeds_late_is_forgotten_while_an_image_is_pulled() {
    let story = story()
        .shows(0.1, &init_is(&waiting("PodInitializing", "")))
        .event(0.3, "FailedMount", "timed out", 1)
        .event(6.0, "FailedMount", "timed out", 4)
        .event(8.0, "Pulling", "Pulling image \"peitho:0.1.0\"", 1);
    assert!(story.is_starting(600.0));
}

#[test]
fn a_pod_without_a_node_has_a_grace() {
    let status = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }]});
    let story = story().shows(1.0, &status).shows(60.0, &status);
    assert_eq!(
        story.verdict(60.0),
        Verdict::Starting {
            recheck: Some(story.at(1.0) + GRACE)
        }
    );
    let text = story.never(121.0);
    assert!(text.contains("Insufficient cpu"), "{text}");
    let scheduled = story.shows(100.0, &json!({"phase": "Pending"}));
    assert!(scheduled.is_starting(1e6));
}

#[test]
fn a_failed_init_container_tells_its_last_words() {
    let story = story().shows(
        2.0,
        &init_is(&terminated(
            1,
            "Error",
            "the layer sha256:ab is not there\n",
        )),
    );
    assert_eq!(
        story.never(2.0),
        "container fetch of pod cc-basic (image peitho:0.1.0): exit code 1: \
         the layer sha256:ab is not there"
    );
    let text = super::tests::story()
        .shows(2.0, &init_is(&terminated(137, "OOMKilled", "")))
        .never(2.0);
    assert!(text.contains("OOMKilled"), "{text}");
}

#[test]
fn a_command_that_cannot_be_run_never_started() {
    let state = json!({"terminated": {
        "exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z",
        "message": "exec: \"chaincode\": executable file not found in $PATH",
    }});
    let text = story().shows(1.0, &main_is(&state)).never(1.0);
    assert!(
        text.contains("StartError") && text.contains("not found in $PATH"),
        "{text}"
    );
}

#[test]
fn killed_is_137_whatever_the_runtime_says() {
    // For want of memory: a child of PID 1, which then exits 5.
    let oom = main_is(&terminated(5, "OOMKilled", ""));
    assert_eq!(story().shows(1.0, &running()).shows(2.0, &oom).code(), 137);
    // By order: a Go process exits 2 on SIGTERM.
    let ended = main_is(&terminated(2, "Error", ""));
    let by_order = story().shows(1.0, &running()).deleting();
    assert_eq!(by_order.shows(2.0, &ended).code(), 137);
    // By the node.
    for reason in ["Evicted", "DeadlineExceeded", "Terminated"] {
        let mut status = ended.clone();
        status["reason"] = json!(reason);
        assert_eq!(story().shows(2.0, &status).code(), 137, "{reason}");
    }
    let mut status = ended.clone();
    status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
    assert_eq!(story().shows(2.0, &status).code(), 137);
    // By force: the object went without a terminal state.
    assert_eq!(story().shows(1.0, &running()).gone().code(), 137);
}

#[test]
fn an_exit_before_the_order_to_end_keeps_its_code() {
    let ended = main_is(&terminated(7, "Error", ""));
    let story = story()
        .shows(1.0, &running())
        .shows(2.0, &ended)
        .deleting()
        .shows(3.0, &ended)
        .gone();
    assert_eq!(story.code(), 7);
}

#[test]
fn a_crash_just_before_the_order_to_end_keeps_its_code() {
    let at = |finished: &str, code: i32| {
        let mut ended = main_is(&terminated(code, "Error", ""));
        ended["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = json!(finished);
        let story = story().shows(1.0, &running()).deleting();
        story.shows(2.0, &ended).code()
    };
    // The order is of 00:00:00.
    assert_eq!(at("2025-12-31T23:59:54Z", 2), 2);
    assert_eq!(at("2025-12-31T23:59:59Z", 2), 137);
    assert_eq!(at("2025-12-31T23:59:59Z", 3), 3);
    assert_eq!(at("2026-01-01T00:00:00Z", 3), 3);
    assert_eq!(at("2026-01-01T00:00:00Z", 143), 137);
    assert_eq!(at("2026-01-01T00:00:01Z", 3), 137);
}

#[test]
fn a_lost_node_says_no_more_and_is_not_waited_for() {
    let story = story()
        .shows(1.0, &running())
        .deleting()
        .shows(2.0, &running());
    assert_eq!(
        story.verdict(3.0),
        Verdict::Running {
            recheck: Some(story.at(2.0) + LOST)
        }
    );
    assert_eq!(story.code(), 137);
}

#[test]
fn what_ends_before_it_ran_never_started() {
    let evicted = json!({
        "phase": "Failed", "reason": "UnexpectedAdmissionError",
        "message": "Pod was rejected: node has no room",
    });
    let text = story().shows(1.0, &evicted).never(1.0);
    assert!(
        text.contains("UnexpectedAdmissionError") && text.contains("no room"),
        "{text}"
    );

    assert!(
        story()
            .gone()
            .never(1.0)
            .contains("deleted before it started")
    );
    assert!(story().deleting().shows(1.0, &json!({})).is_starting(2.0));

    // The kubelet invents a status for a container it never made.
    let invented = json!({"terminated": {
        "exitCode": 137, "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
    }});
    story().shows(1.0, &main_is(&invented)).never(1.0);
    let ran = story().shows(1.0, &running());
    assert_eq!(ran.shows(2.0, &main_is(&invented)).code(), 137);
}

#[test]
fn a_missing_pull_secret_is_no_fault() {
    let story = story()
        .event(0.2, "FailedToRetrieveImagePullSecret", "registry", 9)
        .shows(1.0, &running());
    assert_eq!(story.verdict(1e6), Verdict::Running { recheck: None });
    let waiting =
        super::tests::story().event(0.2, "FailedToRetrieveImagePullSecret", "registry", 9);
    assert!(waiting.is_starting(1e6));
}
