//! What a process sees and may do: files, names, users, capabilities, system calls.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use peitho::runtime::oci::host::{Access, Bind, Root};

use crate::world::World;

#[tokio::test]
async fn the_environment_is_dockers() {
    let world = World::new().await;
    let mut plan = world
        .shell("echo \"$PATH|$HOME|$A|$HOSTNAME|$(hostname)|$(pwd)|$$\"; exec env | grep -c ^A=");
    plan.env = [("A", "1"), ("B", "x=y"), ("A", "2 3")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    plan.working_dir = "/made/here".to_owned();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let hostname = hostname.trim();
    let expected = format!(
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|/root|2 3|{hostname}|{hostname}|/made/here|1\n1\n"
    );
    assert_eq!(world.output("environment", &plan).await, expected);
}

#[tokio::test]
async fn users_are_those_of_the_image() {
    let world = World::new().await;
    for (name, user, expected) in [
        ("root", "", "uid=0(root) gid=0(root) groups=0(root)\n"),
        (
            "named",
            "chaincode",
            "uid=500(chaincode) gid=501(chaincode) groups=7(extra),501(chaincode)\n",
        ),
        ("numbers", "1234:99", "uid=1234 gid=99 groups=99\n"),
    ] {
        let mut plan = world.shell("id; echo $HOME >&2");
        plan.user = user.to_owned();
        let printed = world.output(name, &plan).await;
        assert!(printed.starts_with(expected), "{user}: {printed}");
    }
}

#[tokio::test]
async fn capabilities_and_filters_are_dockers() {
    let world = World::new().await;
    let status =
        "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status";
    // What `docker run` shows for the same.
    let expected = |effective: &str, bounding: &str| {
        format!(
            "CapInh:\t0000000000000000\nCapPrm:\t{effective}\nCapEff:\t{effective}\nCapBnd:\t{bounding}\n\
             CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
        )
    };
    let fourteen = "00000000a80425fb";
    assert_eq!(
        world.output("root", &world.shell(status)).await,
        expected(fourteen, fourteen)
    );
    let mut plan = world.shell(status);
    plan.user = "chaincode".to_owned();
    assert_eq!(
        world.output("user", &plan).await,
        expected("0000000000000000", fourteen)
    );
    plan.added_capabilities = vec!["SYS_TIME".to_owned()];
    plan.user = String::new();
    let fifteen = "00000000aa0425fb";
    assert_eq!(
        world.output("added", &plan).await,
        expected(fifteen, fifteen)
    );
}

#[tokio::test]
async fn system_calls_that_docker_refuses_are_refused() {
    let world = World::new().await;
    // A user namespace needs no capability: the filter alone refuses it.
    let script = "for call in 'unshare -U true' 'mount -t tmpfs none /tmp' 'chroot / true'; do \
                  $call 2>/dev/null && echo yes || echo no; done";
    assert_eq!(
        world.output("root", &world.shell(script)).await,
        "no\nno\nyes\n"
    );
    let mut plan = world.shell(script);
    plan.user = "chaincode".to_owned();
    assert_eq!(world.output("user", &plan).await, "no\nno\nno\n");
}

#[tokio::test]
async fn the_hosts_insides_are_masked() {
    let world = World::new().await;
    let script = "for file in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do \
                  test ! -e $file || cat $file | wc -c; done | sort -u; \
                  (echo 1 > /proc/sys/kernel/domainname) 2>/dev/null || echo ro; \
                  mkdir $(ls -d /sys/fs/cgroup/memory 2>/dev/null || echo /sys/fs/cgroup)/x 2>/dev/null || echo ro; \
                  echo /proc/[0-9]*; ls /sys/firmware | wc -l";
    let printed = world.output("masked", &world.shell(script)).await;
    // Of all processes the shell itself.
    assert_eq!(printed, "0\nro\nro\n/proc/1\n0\n");
}

#[tokio::test]
async fn the_root_is_written_to_unless_ordered_otherwise() {
    let world = World::new().await;
    let script = "(echo x > /bin/new) 2>/dev/null && echo wrote; rm /etc/group 2>/dev/null && echo removed; exit 0";
    let mut plan = world.shell(script);
    assert_eq!(world.output("writable", &plan).await, "wrote\nremoved\n");
    // The layers are as before.
    assert_eq!(world.output("again", &plan).await, "wrote\nremoved\n");
    plan.root = Root::ReadOnly;
    assert_eq!(world.output("read-only", &plan).await, "");
}

#[tokio::test]
async fn upper_layers_cover_lower_ones() {
    let world = World::new().await;
    let layer = world.folder("layer, with:odd\\name");
    fs::create_dir_all(layer.join("usr/local/bin")).unwrap();
    fs::write(
        layer.join("usr/local/bin/chaincode"),
        "#!/bin/sh\necho I am $0\n",
    )
    .unwrap();
    fs::set_permissions(
        layer.join("usr/local/bin/chaincode"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let mut plan = world.shell("");
    plan.lower.insert(0, layer);
    plan.args = vec!["chaincode".to_owned()];
    assert_eq!(
        world.output("layers", &plan).await,
        "I am /usr/local/bin/chaincode\n"
    );
}

#[tokio::test]
async fn files_and_directories_of_the_host_are_bound() {
    let world = World::new().await;
    let folder = world.folder("files");
    fs::write(folder.join("client.key"), "secret\n").unwrap();
    fs::set_permissions(folder.join("client.key"), fs::Permissions::from_mode(0o444)).unwrap();
    let shared = world.folder("shared");
    let mut plan = world.shell(
        "cat /etc/hyperledger/fabric/client.key; (echo x > /etc/hyperledger/fabric/client.key) 2>/dev/null || echo ro; \
         echo done > /shared/result",
    );
    let bind = |source, destination: &str, access| Bind {
        source,
        destination: destination.into(),
        access,
    };
    plan.binds = vec![
        bind(
            folder.join("client.key"),
            "/etc/hyperledger/fabric/client.key",
            Access::ReadOnly,
        ),
        bind(shared.clone(), "/shared", Access::ReadWrite),
    ];
    assert_eq!(world.output("binds", &plan).await, "secret\nro\n");
    assert_eq!(fs::read_to_string(shared.join("result")).unwrap(), "done\n");
    // The same where the root cannot be written to and has no such directories.
    plan.root = Root::ReadOnly;
    assert_eq!(world.output("read-only", &plan).await, "secret\nro\n");
}

#[tokio::test]
async fn names_resolve_as_ordered_on_top_of_the_host() {
    let world = World::new().await;
    let mut plan = world.shell(
        "tail -n 1 /etc/hosts; grep -v '^#' /etc/resolv.conf | tail -n 2; wc -l < /etc/hostname",
    );
    plan.hosts = vec![("peer0.org1".to_owned(), "10.1.2.3".to_owned())];
    plan.dns = vec!["9.9.9.9".to_owned()];
    plan.dns_search = vec!["org1".to_owned(), "example".to_owned()];
    assert_eq!(
        world.output("names", &plan).await,
        "10.1.2.3\tpeer0.org1\nnameserver 9.9.9.9\nsearch org1 example\n1\n"
    );
}

#[tokio::test]
async fn the_network_is_the_hosts() {
    let world = World::new().await;
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let printed = world
        .output(
            "network",
            &world.shell("for n in net pid mnt ipc uts; do readlink /proc/self/ns/$n; done"),
        )
        .await;
    let seen: Vec<&str> = printed.lines().collect();
    assert_eq!(seen[0], own.to_str().unwrap());
    for (name, seen) in ["pid", "mnt", "ipc", "uts"].iter().zip(&seen[1..]) {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(*seen, own.to_str().unwrap());
    }
}
