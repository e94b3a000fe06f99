//! Containers from their beginning to their end.

use std::sync::Arc;

use futures::future::join_all;
use peitho::names::{ContainerId, ContainerKey};
use peitho::runtime::{Error, Exit, Outcome, Runtime, State};

use super::subject::{Order, Subject, soon};

/// Ends when it is told to, with the code that shells have for that, and at once: it has a second.
pub(super) const FOREVER: &str = "trap 'exit 143' TERM; sleep 1000 & wait";

pub(super) async fn from_create_to_remove(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "sleep 1000").await;
    let key = order.key();
    runtime.create(&order.spec).await.unwrap();
    let found = runtime.find(key).await.unwrap().unwrap();
    assert_eq!((found.state, &found.spec), (State::Created, &order.spec));
    let by_id = runtime.find_id(&key.tenant, &order.spec.id).await.unwrap();
    assert_eq!(by_id.as_ref(), Some(key));
    let other = ContainerId::random();
    assert_eq!(runtime.find_id(&key.tenant, &other).await.unwrap(), None);

    assert_eq!(soon(runtime.start(key)).await.unwrap(), Outcome::Done);
    assert_eq!(
        soon(runtime.wait_running(key)).await.unwrap(),
        State::Running
    );
    assert_eq!(soon(runtime.start(key)).await.unwrap(), Outcome::Already);
    let found = runtime.find(key).await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.spec),
        (State::Running, order.spec.clone())
    );

    assert_eq!(soon(runtime.stop(key)).await.unwrap(), Outcome::Done);
    assert_eq!(soon(runtime.stop(key)).await.unwrap(), Outcome::Already);
    let exit = soon(runtime.wait_exit(key)).await.unwrap();
    let found = runtime.find(key).await.unwrap().unwrap();
    assert_eq!(found.state, State::Exited(exit));
    order.removed(&*runtime).await;
    assert_eq!(
        runtime.find_id(&key.tenant, &order.spec.id).await.unwrap(),
        None
    );
}

pub(super) async fn exit_codes(subject: &dyn Subject) {
    let runtime = subject.runtime();
    for code in [0, 1, 7, 255] {
        let script = format!("exit {code}");
        let order = Order::script(subject, &script)
            .await
            .launched(&*runtime)
            .await;
        assert_eq!(order.exit(&*runtime).await, code);
        assert_eq!(order.exit(&*runtime).await, code, "told again");
        let state = soon(runtime.wait_running(order.key())).await.unwrap();
        assert_eq!(state, State::Exited(Exit { code }));
        order.removed(&*runtime).await;
    }
    // A shell that is process 1 of its namespace cannot kill itself.
    let order = Order::script(subject, "sh -c 'kill -9 $$'; exit $?")
        .await
        .launched(&*runtime)
        .await;
    assert_eq!(order.exit(&*runtime).await, 137);
    order.removed(&*runtime).await;
}

pub(super) async fn of_two_tenants(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let one = Order::script(subject, &format!("echo one; {FOREVER}")).await;
    let mut other = Order::script(subject, "echo other; exit 6").await;
    other.spec.key = ContainerKey {
        tenant: "other-org".parse().unwrap(),
        name: one.key().name.clone(),
    };
    let one = one.launched(&*runtime).await;
    ready(&*runtime, &one).await;
    let tenants = [&one.key().tenant, &other.key().tenant].map(Clone::clone);
    let by_id = runtime.find_id(&tenants[1], &one.spec.id).await.unwrap();
    assert_eq!(by_id, None);
    assert!(runtime.find(other.key()).await.unwrap().is_none());
    let absent = runtime.stop(other.key()).await.unwrap_err();
    assert!(matches!(absent, Error::NotFound(_)), "{absent:?}");

    let other = other.launched(&*runtime).await;
    assert_eq!(other.exit(&*runtime).await, 6);
    assert_eq!(other.output(&*runtime).await, "other\n");
    let by_id = runtime.find_id(&tenants[0], &other.spec.id).await.unwrap();
    assert_eq!(by_id, None);
    other.removed(&*runtime).await;

    let found = runtime.find(one.key()).await.unwrap().unwrap();
    assert_eq!(found.state, State::Running);
    soon(runtime.stop(one.key())).await.unwrap();
    assert_eq!(one.output(&*runtime).await, "one\n");
    one.removed(&*runtime).await;
}

pub(super) async fn deaf(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let script = "trap '' TERM; while :; do sleep 0.1; done";
    let order = Order::script(subject, script)
        .await
        .launched(&*runtime)
        .await;
    soon(runtime.wait_running(order.key())).await.unwrap();
    assert_eq!(
        soon(runtime.stop(order.key())).await.unwrap(),
        Outcome::Done
    );
    assert_eq!(order.exit(&*runtime).await, 137);
    order.removed(&*runtime).await;
}

pub(super) async fn obedient(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let script = format!("echo ready; {FOREVER}");
    let order = Order::script(subject, &script)
        .await
        .launched(&*runtime)
        .await;
    ready(&*runtime, &order).await;
    assert_eq!(
        soon(runtime.stop(order.key())).await.unwrap(),
        Outcome::Done
    );
    assert_eq!(order.exit(&*runtime).await, subject.code_when_told());
    order.removed(&*runtime).await;
}

pub(super) async fn started_again(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "echo one more; exit 4")
        .await
        .launched(&*runtime)
        .await;
    assert_eq!(order.exit(&*runtime).await, 4);
    // Not within one second: logs are told apart by the second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(
        soon(runtime.start(order.key())).await.unwrap(),
        Outcome::Done
    );
    assert_eq!(order.exit(&*runtime).await, 4);
    order.removed(&*runtime).await;
}

pub(super) async fn waits_before_the_start(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "sleep 0.3; exit 5").await;
    runtime.create(&order.spec).await.unwrap();
    let key = order.key().clone();
    let waiting = {
        let (runtime, key) = (Arc::clone(&runtime), key.clone());
        tokio::spawn(async move {
            let running = runtime.wait_running(&key).await;
            (running, runtime.wait_exit(&key).await)
        })
    };
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    runtime.start(&key).await.unwrap();
    let (running, exit) = soon(waiting).await.unwrap();
    assert!(
        matches!(running, Ok(State::Running | State::Exited(_))),
        "{running:?}"
    );
    assert_eq!(exit.unwrap(), Exit { code: 5 });
    order.removed(&*runtime).await;
}

pub(super) async fn adopted(subject: &dyn Subject) {
    let first = subject.anew().await;
    let script = format!("echo ready; {FOREVER}");
    let order = Order::script(subject, &script)
        .await
        .launched(&*first)
        .await;
    ready(&*first, &order).await;
    drop(first);
    let second = subject.anew().await;
    let found = second.find(order.key()).await.unwrap().unwrap();
    assert_eq!((found.state, &found.spec), (State::Running, &order.spec));
    assert_eq!(second.start(order.key()).await.unwrap(), Outcome::Already);
    // Each create has an id of its own; an order that comes twice is the same order.
    let mut other = order.spec.clone();
    other.id = ContainerId::random();
    assert!(matches!(second.create(&other).await, Err(Error::Exists(_))));
    assert_eq!(soon(second.stop(order.key())).await.unwrap(), Outcome::Done);
    assert_eq!(order.exit(&*second).await, subject.code_when_told());
    order.removed(&*second).await;
}

pub(super) async fn ended_meanwhile(subject: &dyn Subject) {
    let first = subject.anew().await;
    let order = Order::script(subject, "sleep 0.5; exit 6")
        .await
        .launched(&*first)
        .await;
    drop(first);
    // Known from another one, which goes before there is the one that is asked.
    soon(subject.runtime().wait_exit(order.key()))
        .await
        .unwrap();
    let second = subject.anew().await;
    let found = second.find(order.key()).await.unwrap().unwrap();
    assert_eq!(found.state, State::Exited(Exit { code: 6 }));
    assert_eq!(order.exit(&*second).await, 6);
    order.removed(&*second).await;
}

pub(super) async fn removed_while_it_runs(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let mut order = Order::script(subject, "sleep 1000")
        .await
        .launched(&*runtime)
        .await;
    let key = order.key().clone();
    soon(runtime.wait_running(&key)).await.unwrap();
    let waiting = {
        let (runtime, key) = (Arc::clone(&runtime), key.clone());
        tokio::spawn(async move { runtime.wait_exit(&key).await })
    };
    // It has to be there first.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    order.removed(&*runtime).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap(), Exit { code: 137 });
    order.spec.id = ContainerId::random();
    runtime.create(&order.spec).await.unwrap();
    let found = runtime.find(&key).await.unwrap().unwrap();
    assert_eq!(found.state, State::Created);
    order.removed(&*runtime).await;
}

pub(super) async fn removed_before_the_start(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "true").await;
    runtime.create(&order.spec).await.unwrap();
    let waiting = {
        let (runtime, key) = (Arc::clone(&runtime), order.key().clone());
        tokio::spawn(async move { runtime.wait_exit(&key).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    order.removed(&*runtime).await;
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NeverStarted(_)), "{error:?}");
}

pub(super) async fn name_taken(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "true").await;
    runtime.create(&order.spec).await.unwrap();
    let mut second = order.spec.clone();
    second.id = ContainerId::random();
    assert!(matches!(
        runtime.create(&second).await,
        Err(Error::Exists(_))
    ));
    let found = runtime.find(order.key()).await.unwrap().unwrap();
    assert_eq!(found.spec.id, order.spec.id, "the first one stands");
    order.removed(&*runtime).await;
}

pub(super) async fn many_creators(subject: &dyn Subject) {
    let order = Order::script(subject, "true").await;
    let [one, other] = subject.two().await;
    let creators = (0..8).map(|number| {
        let runtime = if number % 2 == 0 { &one } else { &other };
        let mut spec = order.spec.clone();
        spec.id = ContainerId::random();
        async move { (runtime.create(&spec).await, spec.id) }
    });
    let done = join_all(creators).await;
    let winners: Vec<_> = done.iter().filter(|(result, _)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{done:?}");
    let losers = done
        .iter()
        .filter(|(result, _)| matches!(result, Err(Error::Exists(_))));
    assert_eq!(losers.count(), 7, "{done:?}");
    let found = one.find(order.key()).await.unwrap().unwrap();
    assert_eq!(found.spec.id, winners[0].1);
    order.removed(&*one).await;
}

pub(super) async fn many_at_once(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let runs = (0..12).map(|number| {
        let runtime = Arc::clone(&runtime);
        async move {
            let script = format!("echo I am {number}; exit {number}");
            let order = Order::script(subject, &script)
                .await
                .launched(&*runtime)
                .await;
            assert_eq!(order.exit(&*runtime).await, number);
            assert_eq!(order.output(&*runtime).await, format!("I am {number}\n"));
            order.removed(&*runtime).await;
        }
    });
    join_all(runs).await;
}

pub(super) async fn tenants(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let one = Order::script(subject, "sleep 1000").await;
    let mut two = Order::script(subject, "exit 9").await;
    two.spec.key = one.spec.key.clone();
    two.spec.key.tenant = "org2".parse().unwrap();
    let (one, two) = (one.launched(&*runtime).await, two.launched(&*runtime).await);
    assert_eq!(two.exit(&*runtime).await, 9);
    assert_eq!(
        soon(runtime.wait_running(one.key())).await.unwrap(),
        State::Running
    );
    let id = &two.spec.id;
    assert_eq!(runtime.find_id(&one.key().tenant, id).await.unwrap(), None);
    two.removed(&*runtime).await;
    assert!(runtime.find(one.key()).await.unwrap().is_some());
    one.removed(&*runtime).await;
}

/// Waits until `order` has written its first line.
pub(super) async fn ready(runtime: &dyn Runtime, order: &Order) {
    use futures::StreamExt as _;
    let mut logs = soon(runtime.logs(order.key())).await.unwrap();
    soon(logs.next()).await.unwrap().unwrap();
}
