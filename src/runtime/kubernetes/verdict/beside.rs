//! A compile's pod, whose agent's program comes from a container beside the main one.

use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

use super::*;

const GRACE: Duration = Duration::from_secs(120);
const MISSING: &str = "failed to pull and unpack image \"peitho:0.1.0\": peitho:0.1.0: not found";

/// The pod with these states of its containers, as the kubelet sorts them; `proxy` is somebody else's.
fn shows(agent: &Value, compile: &Value, before: Option<&Evidence>, now: Instant) -> Evidence {
    let status = |name: &str, state: &Value| json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let pod = json!({
        "metadata": {"name": "compile-1", "uid": "u-1"},
        "spec": {"containers": [
            {"name": "proxy", "image": "proxy:1"},
            {"name": "agent", "image": "peitho:0.1.0"},
            {"name": "compile", "image": "ccenv:2.5"},
        ]},
        "status": {"phase": "Running", "containerStatuses": [
            status("agent", agent), status("compile", compile), status("proxy", &running()),
        ]},
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    Evidence::of(&pod, before, now)
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn terminated(code: i32, message: &str) -> Value {
    json!({"terminated": {"exitCode": code, "message": message, "startedAt": "2026-01-01T00:00:00Z"}})
}

fn event(evidence: &mut Evidence, container: &str, reason: &str, message: &str, at: Instant) {
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": format!("{container}.{reason}")},
        "involvedObject": {"fieldPath": format!("spec.containers{{{container}}}")},
        "reason": reason, "message": message, "count": 1,
    }))
    .unwrap();
    let name = event.metadata.name.clone().unwrap();
    evidence.note(name, Incident::of(&event, at));
}

#[test]
fn it_runs_once_its_program_is_on_the_way() {
    let now = Instant::now();
    for agent in [running(), terminated(0, "")] {
        let evidence = shows(&agent, &running(), None, now);
        let verdict = verdict(&evidence, now, GRACE);
        assert_eq!(verdict, Verdict::Running { recheck: None });
        assert!(evidence.ran && !evidence.is_over());
    }
}

/// The shell that waits is no compile.
#[test]
fn without_its_program_it_does_not_run() {
    let now = Instant::now();
    let created = shows(&waiting("ContainerCreating", ""), &running(), None, now);
    let verdict = verdict(&created, now, GRACE);
    assert_eq!(verdict, Verdict::Starting { recheck: None });
    assert!(!created.ran);
    let gone = Evidence {
        gone: true,
        ..created
    };
    let text = never_started(&gone, now);
    assert_eq!(text, "pod compile-1 was deleted before it started");
}

/// At the end of a pod the kubelet invents a state for what it never made.
#[test]
fn a_pod_that_ends_while_its_program_is_awaited_ran_nothing() {
    let now = Instant::now();
    let invented = json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}});
    let evidence = shows(&invented, &terminated(143, ""), None, now);
    assert!(!evidence.ran);
    let text = never_started(&evidence, now);
    assert_eq!(text, "pod compile-1 ended before it started");
}

/// Where somebody calls his container as one of ours is called in pods of the other kind.
#[test]
fn an_agent_beside_chaincode_is_somebody_elses() {
    let pod = json!({
        "metadata": {"name": "cc-basic", "uid": "u-1"},
        "spec": {
            "initContainers": [{"name": "fetch", "image": "peitho:0.1.0"}],
            "containers": [{"name": "agent", "image": "spy:1"}, {"name": "chaincode", "image": "baseos:2.5"}],
        },
        "status": {
            "phase": "Pending",
            "initContainerStatuses": [
                {"name": "fetch", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": terminated(0, "")},
            ],
            "containerStatuses": [
                {"name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": waiting("ErrImagePull", MISSING)},
                {"name": "chaincode", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": running()},
            ],
        },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let now = Instant::now();
    let evidence = Evidence::of(&pod, None, now);
    let runs = verdict(&evidence, now, GRACE);
    assert_eq!(runs, Verdict::Running { recheck: None });
}

#[test]
fn an_agents_image_that_cannot_be_had_is_told_though_the_builder_waits() {
    let now = Instant::now();
    let evidence = shows(&waiting("ErrImagePull", MISSING), &running(), None, now);
    let told = "container agent of pod compile-1 (image peitho:0.1.0): ErrImagePull: failed to";
    let text = never_started(&evidence, now);
    assert!(text.starts_with(told), "{text}");

    let away = "failed to do request: dial tcp 10.0.0.1:443: connect: connection refused";
    let evidence = shows(&waiting("ErrImagePull", away), &running(), None, now);
    let later = Some(now + LASTING);
    let passing = verdict(&evidence, now, GRACE);
    assert_eq!(passing, Verdict::Starting { recheck: later });
    never_started(&evidence, now + LASTING);
    let there = shows(&running(), &running(), Some(&evidence), now);
    let runs = verdict(&there, now + LASTING, GRACE);
    assert_eq!(runs, Verdict::Running { recheck: None });
}

/// The kubelet goes on with the second container at once, and tells of the first one in the status up to 15 s later.
#[test]
fn that_the_builder_begins_does_not_make_a_failed_pull_good() {
    let now = Instant::now();
    let creating = waiting("ContainerCreating", "");
    let mut evidence = shows(&creating, &running(), None, now);
    let failed = format!("Failed to pull image \"peitho:0.1.0\": {MISSING}");
    event(&mut evidence, "agent", "Failed", &failed, now);
    let soon = now + Duration::from_millis(100);
    event(&mut evidence, "compile", "Started", "Started", soon);
    let text = never_started(&evidence, soon);
    assert!(text.starts_with("container agent of pod compile-1: "));
    event(&mut evidence, "agent", "Pulled", "Pulled", soon);
    let verdict = verdict(&evidence, soon, GRACE);
    assert!(!verdict.is_final(), "{verdict:?}");
}

#[test]
fn an_agent_that_could_not_copy_its_program_tells_why() {
    let now = Instant::now();
    let words = "peitho agent install: copying this program to /run/peitho/bin/peitho: No space";
    let evidence = shows(&terminated(125, words), &running(), None, now);
    let text = never_started(&evidence, now);
    let told = "container agent of pod compile-1 (image peitho:0.1.0): exit code 125: ";
    assert_eq!(text, format!("{told}{words}"));
}

fn never_started(evidence: &Evidence, at: Instant) -> String {
    match verdict(evidence, at, GRACE) {
        Verdict::NeverStarted { reason } => reason,
        other => panic!("{other:?}"),
    }
}
