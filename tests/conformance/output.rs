//! What processes print.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use peitho::names::Digest;

use super::subject::{Order, Subject, collected, soon, start};

pub(super) async fn from_the_start(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let lag = subject.lag().as_secs();
    let script = format!("echo first; echo second >&2; sleep {lag}; echo third; printf end");
    let order = Order::script(subject, &script)
        .await
        .launched(&runtime)
        .await;
    // While it runs: what is there comes at once.
    let mut logs = soon(runtime.logs(order.key())).await.unwrap();
    let mut text = String::new();
    while !text.contains("first\n") {
        let part = soon(logs.next()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&part).unwrap());
    }
    assert!(!text.contains("third"), "{text}");
    text.push_str(&String::from_utf8(soon(collected(logs)).await).unwrap());
    assert!(
        text.contains("second\n") && text.ends_with("third\nend"),
        "{text:?}"
    );
    assert_eq!(order.exit(&*runtime).await, 0);
    // And once more, after the end.
    let again = order.output(&*runtime).await;
    assert!(
        again.contains("first\n") && again.ends_with("third\nend"),
        "{again:?}"
    );
    order.removed(&*runtime).await;
}

pub(super) async fn slow_reader(subject: &dyn Subject) {
    let runtime = subject.runtime();
    // 41 MB in lines of 41 bytes, each with its number.
    let script = "awk 'BEGIN { for (i = 0; i < 1000000; i++) printf \"%040d\\n\", i }'";
    let order = Order::script(subject, script)
        .await
        .launched(&runtime)
        .await;
    let mut logs = soon(runtime.logs(order.key())).await.unwrap();
    let mut read = Vec::new();
    let mut pauses = 0;
    while let Some(part) = soon(logs.next()).await {
        read.extend_from_slice(&part.unwrap());
        if read.len() / (4 << 20) > pauses {
            pauses += 1;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    let mut expected = Vec::with_capacity(41_000_000);
    for number in 0..1_000_000 {
        expected.extend_from_slice(format!("{number:040}\n").as_bytes());
    }
    assert_eq!(read.len(), expected.len());
    assert_eq!(Digest::of(&read), Digest::of(&expected));
    assert!(pauses >= 9, "{pauses}");
    assert_eq!(order.exit(&*runtime).await, 0);
    order.removed(&*runtime).await;
}

pub(super) async fn before_the_start(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "echo here; exit 2").await;
    runtime.create(&order.spec).await.unwrap();
    let reading = {
        let (runtime, key) = (Arc::clone(&runtime), order.key().clone());
        tokio::spawn(async move { collected(runtime.logs(&key).await.unwrap()).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!reading.is_finished());
    start(&runtime, order.key()).await.unwrap();
    assert_eq!(soon(reading).await.unwrap(), b"here\n");
    assert_eq!(order.exit(&*runtime).await, 2);
    order.removed(&*runtime).await;
}

pub(super) async fn adopted(subject: &dyn Subject) {
    let first = subject.anew().await;
    let script = "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.5; done";
    let order = Order::script(subject, script).await.launched(&first).await;
    let mut logs = soon(first.logs(order.key())).await.unwrap();
    soon(logs.next()).await.unwrap().unwrap();
    drop((logs, first));
    let second = subject.anew().await;
    let expected: String = (1..7).map(|i| format!("line {i}\n")).collect();
    assert_eq!(order.output(&*second).await, expected);
    order.removed(&*second).await;
}
