//! The cache against the changes a watch may bring, in the orders in which it may bring them.

use serde_json::json;

use super::*;

fn cache() -> Cache {
    Cache::new(Arc::new(Requests::default()))
}

fn pod(uid: &str, state: &serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("cc-{uid}"),
            "uid": uid,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "r", "uid": "owner"}],
        },
        "spec": {"containers": [{"name": "chaincode", "image": "base"}]},
        "status": {"containerStatuses": [{
            "name": "chaincode", "image": "base", "imageID": "", "ready": false, "restartCount": 0,
            "state": state,
        }]},
    }))
    .unwrap()
}

fn running(uid: &str) -> Pod {
    pod(
        uid,
        &json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
    )
}

fn created(uid: &str) -> Pod {
    pod(uid, &json!({}))
}

fn event(of: &str, name: &str, count: i32) -> Event {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "involvedObject": {"kind": "Pod", "name": format!("cc-{of}"), "uid": of},
        "reason": "FailedMount", "message": "no secret", "count": count,
    }))
    .unwrap()
}

#[tokio::test]
async fn a_reply_that_comes_after_the_watch_does_not_take_news_back() {
    let cache = cache();
    cache.pod(Change::Apply(running("a")));
    let seen = cache.admit(&created("a"));
    assert!(seen.borrow().ran);
}

#[tokio::test]
async fn a_reply_that_comes_after_the_end_shows_the_end() {
    let cache = cache();
    cache.pod(Change::Apply(created("a")));
    cache.pod(Change::Delete(created("a")));
    assert!(cache.admit(&created("a")).borrow().gone);
    assert!(
        cache.lock().pods.get("a").is_none(),
        "nobody would take it out again"
    );
}

#[tokio::test]
async fn what_vanished_in_a_gap_is_gone_and_keeps_its_last_words() {
    let cache = cache();
    let seen = cache.admit(&created("a"));
    cache.pod(Change::Apply(running("a")));
    cache.pod(Change::Init);
    cache.pod(Change::InitApply(running("b")));
    cache.pod(Change::InitDone);
    assert!(seen.borrow().gone && seen.borrow().ran);
    assert!(!cache.admit(&running("b")).borrow().gone);
}

#[tokio::test]
async fn an_event_that_is_faster_than_its_pod_is_not_lost_and_others_pods_are_not_kept() {
    let cache = cache();
    cache.event(Change::Apply(event("a", "e1", 1)));
    cache.event(Change::Apply(event("a", "e1", 3)));
    let mut foreign = event("x", "e2", 1);
    foreign.involved_object.name = Some("web-1".to_owned());
    cache.event(Change::Apply(foreign));
    assert_eq!(cache.lock().strays.len(), 2);
    let seen = cache.admit(&created("a"));
    assert_eq!(seen.borrow().events["e1"].count, 3);
    assert!(cache.lock().strays.is_empty());
}

#[tokio::test]
async fn strays_and_events_are_bounded() {
    let cache = cache();
    for n in 0..3 * STRAYS_KEPT {
        cache.event(Change::Apply(event("a", &format!("e{n}"), 1)));
    }
    assert_eq!(cache.lock().strays.len(), STRAYS_KEPT);
    let seen = cache.admit(&created("a"));
    assert!(seen.borrow().events.len() <= 16);
}

#[tokio::test]
async fn a_change_without_meaning_wakes_nobody() {
    let cache = cache();
    let mut seen = cache.admit(&running("a"));
    seen.mark_unchanged();
    let mut again = running("a");
    again.metadata.resource_version = Some("9".to_owned());
    cache.pod(Change::Apply(again));
    assert!(!seen.has_changed().unwrap());
    cache.pod(Change::Delete(running("a")));
    assert!(seen.borrow().gone);
}

#[tokio::test]
async fn a_record_that_goes_is_told_to_those_who_wait_for_a_start() {
    let cache = cache();
    let mut arrivals = cache.arrivals.subscribe();
    let record = PartialObjectMeta::<Secret>::default();
    cache.record(Change::Apply(record.clone()));
    assert!(!arrivals.has_changed().unwrap());
    cache.record(Change::Delete(record));
    assert!(arrivals.has_changed().unwrap());
    arrivals.mark_unchanged();
    cache.admit(&created("a"));
    assert!(arrivals.has_changed().unwrap());
}

#[tokio::test]
async fn a_refused_start_is_told_to_those_who_wait_for_it() {
    let cache = cache();
    let arrivals = cache.arrivals.subscribe();
    let mut record = PartialObjectMeta::<Secret>::default();
    let refused = r#"{"neverStarted":"exceeded quota"}"#.to_owned();
    record.metadata.annotations = Some([(names::OUTCOME.to_owned(), refused)].into());
    cache.record(Change::Apply(record));
    assert!(arrivals.has_changed().unwrap());
}

#[test]
fn pauses_grow_to_five_seconds_whatever_half_successes_there_are() {
    let mut again = Again::default();
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        longest = longest.max(again.next().unwrap());
        again.reset();
    }
    assert!(longest > Duration::from_secs(3) && longest <= LONGEST_PAUSE);
}
