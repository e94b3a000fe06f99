//! The life of a container: start, end, adoption, removal.

use std::fs;

use futures::future::join_all;
use peitho::runtime::oci::host::{Ending, StartError, State};
use rustix::process::Signal;

use crate::once::once;
use crate::world::{World, exited};

#[tokio::test]
async fn exit_codes_are_the_processes_own() {
    let world = World::new().await;
    for (name, script, code) in [
        ("zero", "exit 0", 0),
        ("three", "exit 3", 3),
        ("last", "exit 255", 255),
        ("signal", "sh -c 'kill -TERM $$'; exit $?", 143),
    ] {
        assert_eq!(
            world.run(name, &world.shell(script)).await.0,
            exited(code),
            "{script}"
        );
    }
    world.assert_gone();
}

#[tokio::test]
async fn a_command_that_is_not_there_is_told_in_the_runtimes_words() {
    let world = World::new().await;
    let id = world.id("nothing");
    let mut plan = world.shell("");
    plan.args = vec!["no-such-program".to_owned()];
    let reason = world.refusal("nothing", &plan).await;
    // Those of runc and of crun.
    let words = [
        "exec: \"no-such-program\": executable file not found in $PATH",
        "executable file `no-such-program` not found in $PATH: No such file or directory",
    ];
    assert!(
        words.iter().any(|words| reason.ends_with(words)),
        "{reason}"
    );
    // At once, before anything is removed.
    world.assert_clean();
    let ending = Ending::NeverStarted { reason };
    assert_eq!(world.host().state(&id), Some(State::Ended(ending.clone())));
    assert_eq!(world.host().ended(&id).await, Some(ending));
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}

#[tokio::test]
async fn a_start_says_what_is_wrong_with_the_order() {
    let world = World::new().await;
    let mut plan = world.shell("");
    plan.user = "ghost".to_owned();
    assert_eq!(
        world.refusal("user", &plan).await,
        "unable to find user ghost: no matching entries in passwd file"
    );
    let mut plan = world.shell("");
    plan.added_capabilities = vec!["FLY".to_owned()];
    assert_eq!(
        world.refusal("capability", &plan).await,
        "unknown capability: \"FLY\""
    );
    let mut plan = world.shell("");
    plan.lower = vec![world.folder("x").join("gone")];
    let reason = world.refusal("layer", &plan).await;
    assert!(
        reason.ends_with("x/gone: No such file or directory (os error 2)"),
        "{reason}"
    );
    world.assert_clean();
}

#[tokio::test]
async fn a_launch_is_started_once() {
    let world = World::new().await;
    let id = world.id("once");
    world
        .host()
        .start(&id, &world.shell("exec sleep 1000"))
        .await
        .unwrap();
    let again = world.host().start(&id, &world.shell("exit 0")).await;
    assert!(matches!(again, Err(StartError::Started(_))), "{again:?}");
    assert_eq!(world.host().state(&id), Some(State::Running));
    // What its owner keeps beside the launch stays, and the name is free for the next.
    let kept = world.host().directory(&id).join("record.json");
    fs::write(&kept, "{}").unwrap();
    world.host().clear(&id).await.unwrap();
    assert_eq!(world.host().state(&id), None);
    assert!(kept.exists());
    world.assert_clean();
    world
        .host()
        .start(&id, &world.shell("exit 4"))
        .await
        .unwrap();
    assert_eq!(world.host().ended(&id).await, Some(exited(4)));
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}

#[tokio::test]
async fn kill_ends_all_processes_and_comes_back_when_they_are_gone() {
    let world = World::new().await;
    let id = world.id("deaf");
    let script = "trap '' TERM INT; sleep 1000 & sleep 1000 & echo up; wait; wait";
    world.host().start(&id, &world.shell(script)).await.unwrap();
    world.says(&id, "up").await;
    world.host().kill(&id).await.unwrap();
    assert_eq!(world.host().state(&id), Some(State::Ended(exited(137))));
    world.host().kill(&id).await.unwrap();
    world.host().remove(&id).await.unwrap();
    world.host().remove(&id).await.unwrap();
    world.host().kill(&id).await.unwrap();
    assert_eq!(world.host().ended(&id).await, None);
    world.assert_gone();
}

#[tokio::test]
async fn a_signal_reaches_the_process() {
    let world = World::new().await;
    let id = world.id("polite");
    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    world.host().start(&id, &world.shell(script)).await.unwrap();
    world.says(&id, "up").await;
    world.host().signal(&id, Signal::TERM).await.unwrap();
    assert_eq!(world.host().ended(&id).await, Some(exited(7)));
    assert_eq!(world.printed(&id).await, "up\nbye\n");
    world.host().remove(&id).await.unwrap();
}

#[tokio::test]
async fn containers_outlive_their_host_and_are_found_again() {
    let mut world = World::new().await;
    let (lives, ends, ended) = (world.id("lives"), world.id("ends"), world.id("ended"));
    world
        .host()
        .start(&ended, &world.shell("echo old; exit 5"))
        .await
        .unwrap();
    world.host().ended(&ended).await.unwrap();
    let go = world.folder("go");
    let mut waiting =
        world.shell("echo first; until test -e /go/now; do sleep 0.05; done; echo last; exit 6");
    waiting.binds.push(peitho::runtime::oci::host::Bind {
        source: go.clone(),
        destination: "/go".into(),
        access: peitho::runtime::oci::host::Access::ReadOnly,
    });
    world.host().start(&ends, &waiting).await.unwrap();
    world
        .host()
        .start(&lives, &world.shell("echo here; exec sleep 1000"))
        .await
        .unwrap();
    world.says(&ends, "first").await;
    world.close();
    // It ends while nobody looks.
    fs::write(go.join("now"), "").unwrap();
    let ending = world.launch(&ends).join("exit.json");
    let is_noted = async || ending.exists().then_some(());
    once("the shim notes how its container ended", is_noted).await;
    world.reopen().await;
    let mut found = world.host().ids();
    found.sort();
    assert_eq!(found, [ended.clone(), ends.clone(), lives.clone()]);
    assert_eq!(world.host().ended(&ended).await, Some(exited(5)));
    assert_eq!(world.printed(&ended).await, "old\n");
    assert_eq!(world.host().ended(&ends).await, Some(exited(6)));
    assert_eq!(world.printed(&ends).await, "first\nlast\n");
    assert_eq!(world.host().state(&lives), Some(State::Running));
    world.says(&lives, "here").await;
    // And it is still in our hands.
    world.host().kill(&lives).await.unwrap();
    for id in [ended, ends, lives] {
        world.host().remove(&id).await.unwrap();
    }
    world.assert_gone();
}

#[tokio::test]
async fn the_shim_is_out_of_reach_of_signals_to_peithos_group() {
    let world = World::new().await;
    let id = world.id("apart");
    world
        .host()
        .start(&id, &world.shell("exec sleep 1000"))
        .await
        .unwrap();
    let pid = world.shim(&id);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Group and session.
    assert_eq!(fields[2..4], [pid.to_string(), pid.to_string()]);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Threads:\t1\n"), "{status}");
    // Nothing of this process's environment, which may hold secrets.
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(
        environment.starts_with("PATH=") && environment.matches('\0').count() == 1,
        "{environment}"
    );
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}

#[tokio::test]
async fn twenty_at_once() {
    let world = World::new().await;
    let runs = (0..20).map(|number| {
        let world = &world;
        async move {
            let plan = world.shell(&format!("echo {number}; exit {number}"));
            let (ending, printed) = world.run(&format!("n{number}"), &plan).await;
            assert_eq!(ending, exited(number));
            assert_eq!(printed, format!("{number}\n"));
        }
    });
    join_all(runs).await;
    world.assert_gone();
}
