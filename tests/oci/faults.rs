//! Processes that are killed where nobody expects it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use peitho::runtime::oci::host::{Error, Host, State};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::once::once;
use crate::world::{World, exited, kill, program, runtime};

#[tokio::test]
async fn a_container_whose_shim_is_killed_is_gone_at_once() {
    let world = World::new().await;
    let id = world.running("orphan").await;
    kill(world.shim(&id));
    assert_eq!(world.host().ended(&id).await, Some(exited(137)));
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}

#[tokio::test]
async fn a_container_whose_shim_was_killed_while_nobody_looked_is_gone_when_the_host_opens() {
    let mut world = World::new().await;
    let id = world.running("orphan").await;
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
            let lock = world.launch(&id).join("shim.lock");
            once("the shim begins", async || lock.exists().then_some(())).await;
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
    let id = world.running("hangs").await;
    let pid = rustix::process::Pid::from_raw(world.shim(&id)).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    world.host().kill(&id).await.unwrap();
    assert_eq!(world.host().state(&id), Some(State::Ended(exited(137))));
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}

#[tokio::test]
async fn a_directory_has_one_host() {
    let world = World::new().await;
    let second = Host::open(
        world.directory(),
        &runtime(),
        &program(),
        std::path::Path::new("/"),
    )
    .await;
    assert!(matches!(second, Err(Error::InUse(_))), "{:?}", second.err());
}

/// As for a Peitho that itself runs in a container: the kernel puts no overlay onto an overlay.
#[tokio::test]
async fn where_no_overlay_can_be_mounted_the_layers_are_copied() {
    let outer = tempfile::tempdir().unwrap();
    let at = |name: &str| outer.path().join(name);
    for name in ["lower", "upper", "work", "seen"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower").display(),
        at("upper").display(),
        at("work").display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    mount(
        "overlay",
        at("seen"),
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .unwrap();
    let mounted = Mounted(at("seen"));
    {
        let world = World::on(tempfile::tempdir_in(&mounted.0).unwrap()).await;
        let mut plan = world
            .shell("cat /layer; ls -l /bin/sh | wc -l; echo x > /new && rm /layer && echo wrote");
        let layer = world.folder("layer");
        std::fs::write(layer.join("layer"), "upper\n").unwrap();
        plan.lower.insert(0, layer);
        assert_eq!(world.run("copied", &plan).await.1, "upper\n1\nwrote\n");
        let id = world.running("orphan").await;
        // A mount of the shim's own would be seen by the shim alone.
        assert!(world.launch(&id).join("bundle/rootfs/bin/busybox").exists());
        kill(world.shim(&id));
        assert_eq!(world.host().ended(&id).await, Some(exited(137)));
        world.host().remove(&id).await.unwrap();
        world.assert_gone();
    }
}

/// Unmounted when dropped, also by a case that fails.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
