use futures::FutureExt as _;

use super::*;

fn event(id: usize) -> Event {
    Event {
        kind: Kind::Container,
        action: Action::Start,
        id: id.to_string(),
        attributes: BTreeMap::new(),
    }
}

fn id(heard: &Heard) -> String {
    match heard {
        Heard::Event(dated) => dated.event.id.clone(),
        Heard::Lost(count) => format!("{count} lost"),
    }
}

/// All that can be had without waiting.
fn ready(stream: &mut BoxStream<'static, Heard>) -> Vec<String> {
    let next = || stream.next().now_or_never().flatten();
    std::iter::from_fn(next).map(|it| id(&it)).collect()
}

#[tokio::test]
async fn a_tenant_hears_of_its_own() {
    let events = Events::default();
    let (one, other) = (Tenant::default_tenant(), "org1".parse().unwrap());
    let mut heard = events.listen(&one, Extent::default());
    events.tell(&one, event(1));
    events.tell(&other, event(2));
    assert_eq!(ready(&mut heard), ["1"]);
    let since = Some(Timestamp::UNIX_EPOCH);
    let past = Extent { since, until: None };
    assert_eq!(ready(&mut events.listen(&other, past)), ["2"]);
}

#[tokio::test]
async fn the_last_ones_are_kept_and_none_has_the_time_of_another() {
    let (events, tenant) = (Events::default(), Tenant::default_tenant());
    for number in 0..KEPT + 10 {
        events.tell(&tenant, event(number));
    }
    let all = Extent {
        since: Some(Timestamp::UNIX_EPOCH),
        until: Some(Timestamp::now() + Duration::from_millis(1)),
    };
    let kept: Vec<_> = events.listen(&tenant, all).collect().await;
    assert_eq!(kept.len(), KEPT);
    let at = |index: usize| match &kept[index] {
        Heard::Event(dated) => dated.at,
        Heard::Lost(_) => panic!("lost"),
    };
    assert!((1..KEPT).all(|index| at(index - 1) < at(index)));
    // Both ends belong to it, and an end that is past ends it.
    let some = Extent {
        since: Some(at(3)),
        until: Some(at(5)),
    };
    let some: Vec<_> = events.listen(&tenant, some).collect().await;
    let ids: Vec<_> = some.iter().map(id).collect();
    assert_eq!(ids, ["13", "14", "15"]);
}

#[tokio::test]
async fn a_slow_listener_hears_how_many_it_lost() {
    let (events, tenant) = (Events::default(), Tenant::default_tenant());
    let mut heard = events.listen(&tenant, Extent::default());
    for number in 0..KEPT + 10 {
        events.tell(&tenant, event(number));
    }
    // What is lost, and then each that was kept.
    let all: Vec<_> = heard.by_ref().take(KEPT + 1).collect().await;
    let first: Vec<_> = all[..2].iter().map(id).collect();
    assert_eq!(first, ["10 lost", "10"]);
    assert_eq!(id(&all[KEPT]), (KEPT + 9).to_string());
    events.tell(&tenant, event(7));
    assert_eq!(ready(&mut heard), ["7"]);
}
