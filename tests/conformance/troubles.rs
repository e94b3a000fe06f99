//! What cannot be, and how it is told.

use peitho::names::{ContainerId, Digest};
use peitho::runtime::{Error, State};

use super::subject::{Order, Subject, failed_launch, soon, start};

pub(super) async fn no_such_command(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let mut order = Order::script(subject, "").await;
    order.spec.args = vec!["no-such-command".to_owned()];
    failed_launch(&runtime, &order, "no-such-command").await;
    // Who waits or reads hears of it as well.
    let error = soon(runtime.wait_exit(order.key())).await.unwrap_err();
    assert!(matches!(error, Error::NeverStarted(_)), "{error:?}");
    let state = soon(runtime.wait_running(order.key())).await;
    assert!(matches!(state, Ok(State::NeverStarted(_))), "{state:?}");
    let logs = soon(runtime.logs(order.key())).await;
    assert!(matches!(logs.err(), Some(Error::NeverStarted(_))));
    order.removed(&*runtime).await;
}

pub(super) async fn no_such_image(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let mut order = Order::script(subject, "true").await;
    order.spec.base = subject.missing();
    let name = subject.missing();
    failed_launch(&runtime, &order, name.repository()).await;
    // The peer removes whatever there may be, and tries again.
    match soon(runtime.remove(order.key())).await {
        Ok(_) | Err(Error::NotFound(_)) => {}
        Err(error) => panic!("{error:?}"),
    }
    order.spec.base = subject.base();
    let order = order.launched(&runtime).await;
    assert_eq!(order.exit(&*runtime).await, 0);
    order.removed(&*runtime).await;
}

pub(super) async fn no_such_container(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "true").await;
    let key = order.key();
    assert!(runtime.find(key).await.unwrap().is_none());
    let id = ContainerId::random();
    assert_eq!(runtime.find_id(&key.tenant, &id).await.unwrap(), None);
    let answers = [
        start(&runtime, key).await.err(),
        runtime.stop(key).await.err(),
        runtime.remove(key).await.err(),
        runtime.wait_running(key).await.err(),
        runtime.wait_exit(key).await.err(),
        runtime.logs(key).await.err(),
        runtime.put_files(key, Vec::new()).await.err(),
    ];
    for answer in answers {
        assert!(matches!(answer, Some(Error::NotFound(_))), "{answer:?}");
    }
}

pub(super) async fn no_such_layer(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let mut order = Order::script(subject, "true").await;
    let digest = Digest::of(b"nobody has this");
    (order.spec.layer.blob.digest, order.spec.layer.diff_id) = (digest, digest);
    failed_launch(&runtime, &order, "layer").await;
    match soon(runtime.remove(order.key())).await {
        Ok(_) | Err(Error::NotFound(_)) => {}
        Err(error) => panic!("{error:?}"),
    }
}
