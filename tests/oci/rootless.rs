//! Containers of an ordinary user. The cases run in a process of their own that is one: a copy of this test that `setpriv`
//! starts, with the program and a directory that such a user can reach.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Command, Stdio};

use peitho::runtime::oci::host::State;

use crate::world::{PROGRAM, World, exited, kill};

/// `nobody` of Debian.
const NOBODY: u32 = 65534;

/// On what kind of host a case runs.
#[derive(PartialEq)]
enum Kind {
    /// This one.
    AsItIs,
    /// One that allows no user namespaces: a user namespace with the users of this host, for which and for those below it
    /// the setting counts.
    Refusing,
}

/// Runs the test `name` as an ordinary user, in `TMPDIR` of its own; `false` is said to that process itself.
fn is_root(name: &str, host: Kind) -> bool {
    if std::env::var_os(PROGRAM).is_some() {
        assert!(!rustix::process::geteuid().is_root());
        return false;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (test, program) = (folder.path().join("test"), folder.path().join("peitho"));
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_peitho"), &program).unwrap();
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    let run = format!(
        "exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all {} --exact {name} --nocapture",
        test.display()
    );
    let mut command = match host {
        Kind::AsItIs => Command::new("sh"),
        Kind::Refusing => {
            let mut command = Command::new("unshare");
            command.args(["--user", "sh"]);
            command
        }
    };
    // A shell that begins before the namespace has users is not root in it; the one that it becomes is.
    let refuse = match host {
        Kind::AsItIs => "",
        Kind::Refusing => "echo 0 > /proc/sys/user/max_user_namespaces &&",
    };
    let mut alone = command
        .arg("-c")
        .arg(format!("echo ready; read go; exec sh -c '{refuse} {run}'"))
        .env(PROGRAM, &program)
        .env("TMPDIR", &own)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs util-linux");
    let mut ready = [0; 6];
    alone
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    if host == Kind::Refusing {
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", alone.id()), "0 0 65535").unwrap();
        }
    }
    alone.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let alone = alone.wait_with_output().unwrap();
    let told = [alone.stdout, alone.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(
        alone.status.success() && told.contains("1 passed"),
        "{told}"
    );
    true
}

#[tokio::test]
async fn an_ordinary_user_runs_containers() {
    if is_root("rootless::an_ordinary_user_runs_containers", Kind::AsItIs) {
        return;
    }
    let mut world = World::new().await;
    let mut plan = world.shell(
        "id -u; echo x > /file && cat /file; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; \
         ls /sys/class/net | grep -c ^lo$; unshare -U true 2>/dev/null || echo no",
    );
    // The image's user does not exist in a namespace of one.
    plan.user = "chaincode".to_owned();
    plan.memory = Some(64 * 1024 * 1024);
    let expected = "0\nx\nNoNewPrivs:\t1\nSeccomp:\t2\n1\nno\n";
    assert_eq!(world.output("sees", &plan).await, expected);

    let mut nothing = world.shell("");
    nothing.args = vec!["no-such-program".to_owned()];
    let reason = world.refusal("nothing", &nothing).await;
    assert!(reason.contains("not found in $PATH"), "{reason}");
    world.host().remove(&world.id("nothing")).await.unwrap();

    let (killed, orphan) = (world.id("killed"), world.id("orphan"));
    // Directories that only their owner's owner can remove.
    let script = "mkdir -p /shut/in; chmod 0 /shut/in /shut; echo up; exec sleep 1000";
    for id in [&killed, &orphan] {
        world.host().start(id, &world.shell(script)).await.unwrap();
        world.says(id, "up").await;
    }
    world.host().kill(&killed).await.unwrap();
    assert_eq!(world.host().state(&killed), Some(State::Ended(exited(137))));
    world.host().remove(&killed).await.unwrap();
    let shim = world.shim(&orphan);
    world.close();
    kill(shim);
    world.reopen().await;
    assert_eq!(world.host().ended(&orphan).await, Some(exited(137)));
    world.host().remove(&orphan).await.unwrap();
    world.assert_gone();
}

#[tokio::test]
async fn a_kernel_that_refuses_is_told_with_the_remedy() {
    if is_root(
        "rootless::a_kernel_that_refuses_is_told_with_the_remedy",
        Kind::Refusing,
    ) {
        return;
    }
    let world = World::new().await;
    assert_eq!(
        world.refusal("refused", &world.shell("exit 0")).await,
        "the kernel allows no further user namespace, which a container without root needs: raise the number by \
         `sysctl -w user.max_user_namespaces=15000`, or run Peitho as root"
    );
    world.host().remove(&world.id("refused")).await.unwrap();
    world.assert_gone();
}
