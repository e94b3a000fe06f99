//! Processes that are killed where nobody expects it.

use std::time::{Duration, Instant};

use peitho::runtime::oci::host::State;

use crate::world::{World, exited, kill};

#[tokio::test]
async fn a_container_whose_shim_is_killed_is_gone_at_once() {
    let world = World::new().await;
    let id = world.id("orphan");
    world
        .host()
        .start(&id, &world.shell("echo up; exec sleep 1000"))
        .await
        .unwrap();
    world.says(&id, "up").await;
    kill(world.shim(&id));
    assert_eq!(world.host().ended(&id).await, Some(exited(137)));
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}

#[tokio::test]
async fn a_container_whose_shim_was_killed_while_nobody_looked_is_gone_when_the_host_opens() {
    let mut world = World::new().await;
    let id = world.id("orphan");
    world
        .host()
        .start(&id, &world.shell("echo up; exec sleep 1000"))
        .await
        .unwrap();
    world.says(&id, "up").await;
    let shim = world.shim(&id);
    world.close();
    kill(shim);
    world.reopen().await;
    assert_eq!(world.host().state(&id), Some(State::Ended(exited(137))));
    world.assert_clean();
    assert_eq!(world.printed(&id).await, "up\n");
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}

/// At any moment of a start: before the runtime knows the container, while it makes it, after.
#[tokio::test]
async fn a_start_whose_shim_is_killed_leaves_nothing() {
    let world = World::new().await;
    for step in 0..40 {
        let id = world.id(&format!("step{step}"));
        let plan = world.shell("exec sleep 1000");
        let killing = async {
            while !world.launch(&id).join("shim.lock").exists() {
                tokio::task::yield_now().await;
            }
            let shim = world.shim(&id);
            let until = Instant::now() + Duration::from_millis(3) * step;
            while Instant::now() < until {
                tokio::task::yield_now().await;
            }
            kill(shim);
        };
        let (started, ()) = tokio::join!(world.host().start(&id, &plan), killing);
        let ending = world.host().ended(&id).await;
        assert!(ending.is_some(), "step {step}: {started:?}");
        world.host().remove(&id).await.unwrap();
        world.assert_gone();
    }
}

#[tokio::test]
async fn a_shim_that_hangs_is_killed_with_its_container() {
    let world = World::new().await;
    let id = world.id("hangs");
    world
        .host()
        .start(&id, &world.shell("echo up; exec sleep 1000"))
        .await
        .unwrap();
    world.says(&id, "up").await;
    let pid = rustix::process::Pid::from_raw(world.shim(&id)).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    world.host().kill(&id).await.unwrap();
    assert_eq!(world.host().state(&id), Some(State::Ended(exited(137))));
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}
