use futures::FutureExt as _;

use super::*;

fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

fn class(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn work(name: &str) -> Work {
    Work {
        key: CompileKey::new(class(name)),
        command: vec![name.to_owned()],
    }
}

fn traits(of_tenant: &str, of: &str) -> Traits {
    Traits {
        tenant: tenant(of_tenant),
        room: format!("namespace of {of_tenant}"),
        class: class(of),
    }
}

/// One of `tenant` that fits `of`, whose agent has asked.
fn waiting(spares: &Spares, of_tenant: &str, of: &str) -> (SpareId, Admitted) {
    let id = SpareId::random();
    let admitted = spares.admit(id, traits(of_tenant, of)).unwrap();
    assert!(spares.work(&id).now_or_never().is_none());
    (id, admitted)
}

#[tokio::test]
async fn a_spare_serves_one_compile_and_then_no_other() {
    let spares = Spares::new(1);
    let (id, mut admitted) = waiting(&spares, "a", "go");
    let taken = spares.take(&class("go")).unwrap();
    assert!(spares.take(&class("go")).is_none());
    let heard = async {
        let heard = spares.work(&id).await.unwrap().unwrap();
        spares.accept(&id, &heard.key).unwrap();
        // Where the answer was lost.
        spares.accept(&id, &heard.key).unwrap();
        heard
    };
    let (given, heard) = tokio::join!(taken.give(work("one")), heard);
    assert!(given);
    assert_eq!(heard, work("one"));
    assert_eq!(admitted.ended().await, Fate::Taken);
    drop(admitted);
    assert!(spares.take(&class("go")).is_none());
    assert!(spares.work(&id).await.is_err());
    assert!(spares.accept(&id, &work("another").key).is_err());
    drop(taken);
    assert!(spares.accept(&id, &work("one").key).is_err());
    // Its run is over, and what it had is still to be removed.
    assert_eq!(spares.of_compile(&work("one").key), Some(id));
    spares.forget_compile(&work("one").key);
    assert_eq!(spares.of_compile(&work("one").key), None);
    let counts = Counts {
        waiting: 0,
        taken: 1,
        missed: 0,
    };
    assert_eq!(spares.counts(), counts);
}

/// Or it would have the room before who was there first.
#[tokio::test]
async fn none_comes_and_none_waits_on_while_somebody_lacks_room() {
    let spares = Spares::new(3);
    let entered = || {
        spares
            .admit(SpareId::random(), traits("c", "java"))
            .is_some()
    };
    let (_, mut waits) = waiting(&spares, "a", "node");
    let (_, mut held) = waiting(&spares, "b", "go");
    let taken = spares.take(&class("go")).unwrap();
    for short in [spares.short(), spares.short()] {
        assert!(!entered());
        drop(short);
    }
    drop(taken);
    // The one that was taken waits on, now that there is room.
    assert_eq!(waits.ended().now_or_never(), Some(Fate::Over));
    assert_eq!(held.ended().now_or_never(), None);
    let taken = spares.take(&class("go")).unwrap();
    let short = spares.short();
    drop(taken);
    assert_eq!(held.ended().now_or_never(), Some(Fate::Over));
    drop(short);
    assert!(entered());
    // Nor when the server goes away.
    let (_, mut held) = waiting(&spares, "d", "rust");
    let taken = spares.take(&class("rust")).unwrap();
    spares.close();
    drop(taken);
    assert_eq!(held.ended().now_or_never(), Some(Fate::Over));
}

#[tokio::test]
async fn one_that_does_not_fit_or_has_not_asked_is_not_taken() {
    let spares = Spares::new(2);
    let (_, _other) = waiting(&spares, "a", "node");
    let id = SpareId::random();
    let _starting = spares.admit(id, traits("b", "go")).unwrap();
    assert!(spares.take(&class("go")).is_none());
    assert!(spares.work(&id).now_or_never().is_none());
    assert!(spares.take(&class("go")).is_some());
}

#[tokio::test]
async fn one_that_was_not_given_away_waits_on() {
    let spares = Spares::new(1);
    let (_, _admitted) = waiting(&spares, "a", "go");
    drop(spares.take(&class("go")));
    assert_eq!(spares.counts().taken, 0);
    assert!(spares.take(&class("go")).is_some());
}

#[tokio::test]
async fn an_agent_that_does_not_hear_in_time_hears_nothing_any_more() {
    let spares = Spares::new(1);
    let (id, mut admitted) = waiting(&spares, "a", "go");
    let taken = spares.take(&class("go")).unwrap();
    assert!(!taken.give(work("one")).await);
    assert!(spares.accept(&id, &work("one").key).is_err());
    assert_eq!(spares.work(&id).await, Err(UnknownSpare(id)));
    assert_eq!(admitted.ended().await, Fate::Over);
}

#[tokio::test]
async fn a_server_that_goes_away_holds_no_question_open() {
    let spares = Spares::new(1);
    let (id, admitted) = waiting(&spares, "a", "go");
    let taken = spares.take(&class("go")).unwrap();
    let mut open = std::pin::pin!(spares.work(&id));
    assert!((&mut open).now_or_never().is_none());
    spares.close();
    assert_eq!(open.await, Ok(None));
    assert_eq!(spares.work(&id).await, Ok(None));
    drop(taken);
    drop(admitted);
    assert!(spares.admit(SpareId::random(), traits("a", "go")).is_none());
}

#[tokio::test]
async fn those_that_wait_go_with_the_server_and_are_waited_for() {
    let spares = Spares::new(2);
    let (id, mut admitted) = waiting(&spares, "a", "go");
    let (_, _used) = waiting(&spares, "b", "go of b");
    let _taken = spares.take(&class("go of b")).unwrap();
    spares.close();
    assert_eq!(admitted.ended().await, Fate::Over);
    assert_eq!(spares.work(&id).await, Err(UnknownSpare(id)));
    let mut gone = std::pin::pin!(spares.gone());
    assert!((&mut gone).now_or_never().is_none());
    assert_eq!(spares.left(), [id]);
    drop(admitted);
    gone.await;
    assert_eq!(spares.left(), []);
}

#[tokio::test]
async fn a_tenant_has_one_and_all_have_no_more_than_there_may_be() {
    let spares = Spares::new(2);
    let (_, mut first) = waiting(&spares, "a", "go");
    let again = spares.admit(SpareId::random(), traits("a", "go"));
    assert!(again.is_none());
    let (_, mut second) = waiting(&spares, "a", "node");
    assert_eq!(first.ended().await, Fate::Over);
    drop(first);
    let (_, mut third) = waiting(&spares, "b", "go of b");
    assert!(second.ended().now_or_never().is_none());
    let (_, mut fourth) = waiting(&spares, "c", "go of c");
    assert_eq!(second.ended().await, Fate::Over);
    assert!(third.ended().now_or_never().is_none());
    assert!(fourth.ended().now_or_never().is_none());
    assert!(
        Spares::default()
            .admit(SpareId::random(), traits("a", "go"))
            .is_none()
    );
}

#[tokio::test]
async fn idle_ones_go_unless_a_compile_is_about_to_have_them() {
    let spares = Spares::new(1);
    let (_, mut admitted) = waiting(&spares, "a", "go");
    let taken = spares.take(&class("go")).unwrap();
    assert!(admitted.withdrawn().now_or_never().is_none());
    drop(taken);
    assert_eq!(admitted.withdrawn().await, Fate::Over);
    assert!(spares.take(&class("go")).is_none());
}

#[tokio::test]
async fn what_an_earlier_process_gave_away_is_told_to_its_agent() {
    let spares = Spares::new(0);
    let id = SpareId::random();
    assert!(spares.work(&id).await.is_err());
    let taken = spares.adopt(id, traits("a", "one"), work("one")).unwrap();
    assert_eq!(spares.work(&id).await, Ok(Some(work("one"))));
    spares.accept(&id, &work("one").key).unwrap();
    drop(taken);
    assert!(spares.work(&id).await.is_err());
}

#[tokio::test]
async fn named_and_dropped_waits_no_more() {
    let spares = Spares::new(1);
    let (id, mut admitted) = waiting(&spares, "a", "go");
    let taken = spares.take(&class("go")).unwrap();
    taken.name();
    assert!(admitted.withdrawn().now_or_never().is_none());
    assert!(spares.work(&id).now_or_never().is_none());
    drop(taken);
    assert!(spares.take(&class("go")).is_none());
    assert_eq!(admitted.ended().await, Fate::Over);
    assert_eq!(spares.work(&id).await, Err(UnknownSpare(id)));
}

#[tokio::test]
async fn one_that_nothing_names_after_all_waits_on() {
    let spares = Spares::new(1);
    let (_, _admitted) = waiting(&spares, "a", "go");
    let taken = spares.take(&class("go")).unwrap();
    taken.name();
    taken.unname();
    drop(taken);
    assert!(spares.take(&class("go")).is_some());
}

#[tokio::test]
async fn an_error_of_the_maker_does_not_end_what_was_accepted() {
    let spares = Spares::new(1);
    let (id, admitted) = waiting(&spares, "a", "go");
    let taken = spares.take(&class("go")).unwrap();
    taken.name();
    let accepted = async {
        let heard = spares.work(&id).await.unwrap().unwrap();
        spares.accept(&id, &heard.key).unwrap();
    };
    let (given, ()) = tokio::join!(taken.give(work("one")), accepted);
    assert!(given);
    assert_eq!(admitted.end(), Fate::Taken);
    drop(admitted);
    assert_eq!(spares.accept(&id, &work("one").key), Ok(()));
}

#[tokio::test]
async fn an_error_of_the_maker_ends_what_nobody_has_accepted() {
    let spares = Spares::new(1);
    let (id, admitted) = waiting(&spares, "a", "go");
    let taken = spares.take(&class("go")).unwrap();
    taken.name();
    assert_eq!(admitted.end(), Fate::Over);
    assert!(!taken.give(work("one")).await);
    assert!(spares.accept(&id, &work("one").key).is_err());
    assert_eq!(spares.counts().taken, 0);
}

#[tokio::test]
async fn those_make_way_whose_room_it_is_and_are_waited_for() {
    let spares = Spares::new(4);
    let (_, mut here) = waiting(&spares, "a", "go");
    let (_, mut elsewhere) = waiting(&spares, "b", "go of b");
    let (id, has_one) = waiting(&spares, "c", "go of c");
    let taken = spares.take(&class("go of c")).unwrap();
    taken.name();
    let mut going = spares.give_way("namespace of a");
    assert_eq!(going.len(), 1);
    assert_eq!(here.ended().await, Fate::Over);
    assert!(elsewhere.ended().now_or_never().is_none());
    let mut gone = std::pin::pin!(going.remove(0).gone());
    assert!((&mut gone).now_or_never().is_none());
    // Of one that is still being removed a second compile is told too.
    assert_eq!(spares.give_way("namespace of a").len(), 1);
    drop(here);
    gone.await;
    assert!(spares.give_way("namespace of a").is_empty());
    // What a compile is about to have stays.
    assert!(spares.give_way("namespace of c").is_empty());
    assert!(!has_one.is_over() && spares.work(&id).now_or_never().is_none());
}

#[tokio::test]
async fn what_is_being_removed_here_is_not_adopted() {
    let spares = Spares::new(1);
    let (id, admitted) = waiting(&spares, "a", "go");
    assert_eq!(admitted.end(), Fate::Over);
    let adopted = spares.adopt(id, traits("a", "one"), work("one"));
    assert!(adopted.is_none());
    drop(admitted);
    let adopted = spares.adopt(id, traits("a", "one"), work("one"));
    assert!(adopted.is_some());
}

#[tokio::test]
async fn an_agent_that_reports_has_heard() {
    let spares = Spares::default();
    let of = |name: &str| {
        let id = SpareId::random();
        (id, spares.adopt(id, traits("a", name), work(name)).unwrap())
    };
    let (_, reporting) = of("one");
    let (_, silent) = of("two");
    spares.note_report(&work("one").key);
    assert!(reporting.heard().await);
    assert!(silent.heard().now_or_never().is_none());
}
