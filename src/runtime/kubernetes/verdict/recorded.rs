//! What a real cluster showed of each fault that keeps chaincode from starting, recorded by the suite (`make faults`): pods and events
//! in the order of their times. The verdict must come no later than the user heard it then, and in the same words.

use k8s_openapi::api::core::v1::{Event, Pod};
use serde::Deserialize;

use super::*;

/// `kubernetes.schedulingGraceSeconds` of the suite.
const GRACE: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
struct Story {
    fault: String,
    /// What the user was told.
    says: Vec<String>,
    /// When.
    seconds: f64,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    /// Whole seconds since the pod was made.
    at: u64,
    pod: Option<Pod>,
    event: Option<Event>,
}

/// The first final verdict, looked for after each change and whenever a verdict asks to be asked again.
fn told(story: &Story) -> Option<String> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(story.seconds) + Duration::from_secs(1);
    let mut evidence: Option<Evidence> = None;
    let mut changes = story.changes.iter().peekable();
    while let Some(change) = changes.next() {
        let at = start + Duration::from_secs(change.at);
        if let Some(pod) = &change.pod {
            evidence = Some(Evidence::of(pod, evidence.as_ref(), at));
        }
        let Some(evidence) = &mut evidence else {
            continue;
        };
        if let Some(event) = &change.event {
            let name = event.metadata.name.clone().unwrap_or_default();
            evidence.note(name, Incident::of(event, at));
        }
        let next = changes
            .peek()
            .map_or(end, |next| start + Duration::from_secs(next.at));
        let mut now = at;
        loop {
            match verdict(evidence, now, GRACE) {
                Verdict::NeverStarted { reason } => return Some(reason),
                Verdict::Exited(exit) => {
                    return Some(format!("container exited with {}", exit.code));
                }
                other => match other.recheck() {
                    Some(recheck) if recheck <= next && recheck > now => now = recheck,
                    _ => break,
                },
            }
        }
    }
    None
}

#[test]
fn each_recorded_fault_is_told_in_time_and_in_kubernetes_words() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/runtime/kubernetes/verdict/recorded"
    );
    let mut stories = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let story: Story = serde_json::from_str(&text).unwrap();
        let told = told(&story).unwrap_or_else(|| panic!("{}: no verdict", story.fault));
        for says in &story.says {
            assert!(
                told.contains(says),
                "{}: {says:?} is missing in {told}",
                story.fault
            );
        }
        stories += 1;
    }
    assert!(stories >= 15, "only {stories} faults were recorded");
}
