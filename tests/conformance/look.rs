//! What people see of containers: lists, lives, and output by the line.

use futures::TryStreamExt as _;
use jiff::Timestamp;
use peitho::runtime::{Exit, Extent, Found, Line, LineQuery, Place, Runtime, State};

use super::subject::{Order, Subject, soon};

/// How far the clocks of a test and of who runs its containers may be apart; some tell whole seconds.
const APART: i64 = 2;

pub(super) async fn listed(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let before = Timestamp::now();
    let created = Order::script(subject, "true").await;
    runtime.create(&created.spec).await.unwrap();
    let running = Order::script(subject, "sleep 1000")
        .await
        .launched(&runtime)
        .await;
    soon(runtime.wait_running(running.key())).await.unwrap();
    // dockerd notes a start when the process runs already: one that ends at once has ended before.
    let ended = Order::script(subject, "sleep 1; exit 5")
        .await
        .launched(&runtime)
        .await;
    assert_eq!(ended.exit(&*runtime).await, 5);
    let mut other = Order::script(subject, "true").await;
    other.spec.key.tenant = "other".parse().unwrap();
    runtime.create(&other.spec).await.unwrap();

    let found = found(&*runtime, &created).await;
    assert_eq!(
        (&found.spec, &found.state),
        (&created.spec, &State::Created)
    );
    assert!(is_about(found.life.created, before), "{:?}", found.life);
    assert_eq!((found.life.started, found.life.finished), (None, None));

    let found = self::found(&*runtime, &running).await;
    assert_eq!(found.state, State::Running);
    assert!(is_about(found.life.started, before), "{:?}", found.life);
    assert_ne!(found.life.place, Place::Unknown);

    let found = self::found(&*runtime, &ended).await;
    assert_eq!(found.state, State::Exited(Exit { code: 5 }));
    assert!(
        found.life.started <= found.life.finished,
        "{:?}",
        found.life
    );
    assert!(is_about(found.life.finished, before), "{:?}", found.life);

    let others = runtime.list(other.key_tenant()).await.unwrap();
    let others: Vec<_> = others.into_iter().map(|it| it.spec.key).collect();
    assert_eq!(others, [other.spec.key.clone()]);
    for order in [created, running, ended, other] {
        order.removed(&*runtime).await;
        let left = runtime.list(order.key_tenant()).await.unwrap();
        assert!(left.iter().all(|it| it.spec.key != *order.key()));
    }
}

pub(super) async fn lines(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let before = Timestamp::now();
    // The two outputs come by two ways: what is written to both at once may change places.
    let script = "echo first; sleep 1; echo second >&2; sleep 2; echo third; printf end; sleep 1";
    let order = Order::script(subject, script).await;
    runtime.create(&order.spec).await.unwrap();
    assert_eq!(read(&*runtime, &order, LineQuery::default()).await, []);
    let order = order.started(&runtime).await;
    let follow = LineQuery {
        extent: Extent::Follow,
        ..LineQuery::default()
    };
    soon(runtime.wait_running(order.key())).await.unwrap();
    let followed = read(&*runtime, &order, follow).await;
    assert_eq!(order.exit(&*runtime).await, 0);

    let all = read(&*runtime, &order, LineQuery::default()).await;
    assert_eq!(texts(&all), ["first\n", "second\n", "third\n", "end"]);
    assert_eq!(followed, all);
    let times: Vec<Timestamp> = all.iter().map(|line| line.time.unwrap()).collect();
    assert!(is_about(Some(times[0]), before), "{times:?}");
    let apart = times[2].as_millisecond() - times[0].as_millisecond();
    assert!((1500..10_000).contains(&apart), "{times:?}");

    let tail = LineQuery {
        tail: Some(2),
        ..LineQuery::default()
    };
    assert_eq!(
        texts(&read(&*runtime, &order, tail).await),
        ["third\n", "end"]
    );
    let since = LineQuery {
        since: Some(times[2]),
        ..LineQuery::default()
    };
    let later = read(&*runtime, &order, since).await;
    // A node tells from the second on in which the time is.
    assert!(later.ends_with(&all[2..]), "{later:?}");
    order.removed(&*runtime).await;
}

async fn found(runtime: &dyn Runtime, order: &Order) -> Found {
    let listed = runtime.list(order.key_tenant()).await.unwrap();
    let mut listed = listed.into_iter().filter(|it| it.spec.key == *order.key());
    let listed = listed.next().expect("it is in the list");
    let one = runtime.find(order.key()).await.unwrap().unwrap();
    assert_eq!((&one.state, &one.life), (&listed.state, &listed.life));
    listed
}

async fn read(runtime: &dyn Runtime, order: &Order, query: LineQuery) -> Vec<Line> {
    let lines = soon(runtime.lines(order.key(), &query)).await.unwrap();
    soon(lines.try_collect()).await.unwrap()
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| std::str::from_utf8(&line.text).unwrap())
        .collect()
}

/// Whether `time` is between `before` and now.
fn is_about(time: Option<Timestamp>, before: Timestamp) -> bool {
    time.is_some_and(|time| {
        let (from, to) = (
            before.as_second() - APART,
            Timestamp::now().as_second() + APART,
        );
        (from..=to).contains(&time.as_second())
    })
}
