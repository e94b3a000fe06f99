//! Orders for one container that overlap: a stop finds the process of a start that came before it, as on Docker.

use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{Either, select};
use peitho::runtime::{Outcome, State};

use crate::conformance::Machine;
use crate::conformance_cases::Subject as _;
use crate::conformance_cases::subject::{Order, soon};
use crate::once::once;

const FOREVER: &str = "while :; do sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_start_before_it() {
    let machine = Machine::start().await;
    let runtime = machine.runtime();
    let order = Order::script(&machine, FOREVER).await;
    let key = order.key();
    runtime.create(&order.spec).await.unwrap();
    let stopped = async {
        let starting = async || {
            let state = runtime.find(key).await.unwrap().unwrap().state;
            (state == State::Starting).then_some(())
        };
        once("the start begins", starting).await;
        runtime.stop(key).await
    };
    let both = async { tokio::join!(Arc::clone(&runtime).start(key), stopped) };
    let (started, stopped) = soon(both).await;
    assert_eq!(started.unwrap().outcome, Outcome::Done);
    assert_eq!(stopped.unwrap(), Outcome::Done);
    assert!(order.exit(&*runtime).await > 128);
    order.removed(&*runtime).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_start_that_nobody_waits_for() {
    let machine = Machine::start().await;
    let runtime = machine.runtime();
    let order = Order::script(&machine, FOREVER).await;
    let key = order.key();
    runtime.create(&order.spec).await.unwrap();
    {
        let mut start = pin!(Arc::clone(&runtime).start(key));
        let begun = once("the shim begins", async || {
            machine.has_shim(key).then_some(())
        });
        // It goes on only where it is polled.
        match select(start.as_mut(), pin!(begun)).await {
            Either::Left(_) => panic!("it is over already"),
            Either::Right(((), _)) => {}
        }
        assert!(start.now_or_never().is_none(), "it is over already");
    }
    assert_eq!(soon(runtime.stop(key)).await.unwrap(), Outcome::Done);
    assert!(order.exit(&*runtime).await > 128);
    order.removed(&*runtime).await;
}
