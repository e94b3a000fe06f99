//! Launches that are followed: what is heard of them, whoever waits besides.

use std::sync::Arc;

use futures::StreamExt as _;
use peitho::runtime::{Error, Exit, Found, Launch, Runtime, State};

use super::life::{FOREVER, ready};
use super::subject::{Order, Subject, soon};

async fn follow(runtime: &Arc<dyn Runtime>, order: &Order) -> Launch {
    let launch = soon(Arc::clone(runtime).follow(order.key())).await;
    launch.unwrap().expect("there is a launch")
}

async fn next(launch: &mut Launch) -> Option<Found> {
    soon(launch.course.next()).await
}

/// The rest of what is heard: a launch that ended before it was seen to run may leave that out.
async fn end(launch: &mut Launch) -> Found {
    let mut found = next(launch).await.expect("its end is heard");
    if found.state == State::Running {
        found = next(launch).await.expect("its end is heard");
    }
    assert!(next(launch).await.is_none(), "nothing comes after the end");
    found
}

pub(super) async fn to_its_end(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "sleep 0.3; exit 4").await;
    let key = order.key().clone();
    let unknown = soon(Arc::clone(&runtime).follow(&key)).await;
    assert!(matches!(unknown.err(), Some(Error::NotFound(_))));
    runtime.create(&order.spec).await.unwrap();
    let none = soon(Arc::clone(&runtime).follow(&key)).await.unwrap();
    assert!(none.is_none(), "nothing was launched");

    // Nobody waits for it.
    let order = order.started(&*runtime).await;
    let mut first = follow(&runtime, &order).await;
    assert_eq!(follow(&runtime, &order).await.mark, first.mark);
    let found = end(&mut first).await;
    assert_eq!(found.state, State::Exited(Exit { code: 4 }));
    assert_eq!(found.spec, order.spec);

    // Another launch is another one, and who waits for it changes nothing.
    let order = order.started(&*runtime).await;
    let mut second = follow(&runtime, &order).await;
    assert_ne!(second.mark, first.mark);
    assert_eq!(order.exit(&*runtime).await, 4);
    assert_eq!(
        end(&mut second).await.state,
        State::Exited(Exit { code: 4 })
    );
    order.removed(&*runtime).await;
}

pub(super) async fn through_its_removal(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "sleep 1000")
        .await
        .launched(&*runtime)
        .await;
    let mut launch = follow(&runtime, &order).await;
    let found = next(&mut launch).await.unwrap();
    assert_eq!(found.state, State::Running);
    order.removed(&*runtime).await;
    let State::Exited(Exit { code }) = end(&mut launch).await.state else {
        panic!("it ran");
    };
    assert_eq!(code, 137);
}

pub(super) async fn of_an_earlier_process(subject: &dyn Subject) {
    let first = subject.anew().await;
    let order = Order::script(subject, &format!("echo ready; {FOREVER}"))
        .await
        .launched(&*first)
        .await;
    ready(&*first, &order).await;
    drop(first);
    let second = subject.anew().await;
    let mut launch = follow(&second, &order).await;
    let found = next(&mut launch).await.unwrap();
    assert_eq!((found.state, &found.spec), (State::Running, &order.spec));
    soon(second.stop(order.key())).await.unwrap();
    let code = subject.code_when_told();
    let found = end(&mut launch).await;
    assert_eq!(found.state, State::Exited(Exit { code }));
    order.removed(&*second).await;
}
