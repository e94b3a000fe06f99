//! What a process finds around it.

use peitho::runtime::Error;

use super::layers::Member::{Directory, File, Symlink};
use super::layers::{DESTINATION, layer};
use super::subject::{Order, Subject, file, start};

pub(super) async fn files(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let script = "answer; cat /etc/hyperledger/fabric/client.key; stat -c '%a %n' /etc/hyperledger/fabric/*; \
                  stat -c %a /usr/local/bin/answer; cat /opt/other/peer.crt";
    let order = Order::script(subject, script).await;
    runtime.create(&order.spec).await.unwrap();
    let key = order.key();
    let keys = vec![
        file(
            "/etc/hyperledger/fabric/client.key",
            0o100_600,
            b"the key\n",
        ),
        file(
            "/etc/hyperledger/fabric/client.crt",
            0o644,
            b"replaced below\n",
        ),
    ];
    runtime.put_files(key, keys).await.unwrap();
    let more = vec![
        file(
            "/etc/hyperledger/fabric/client.crt",
            0o644,
            b"the certificate\n",
        ),
        file("/opt/other/peer.crt", 0o644, b"the peer's\n"),
    ];
    runtime.put_files(key, more).await.unwrap();
    start(&runtime, key).await.unwrap();
    let [of_crt, of_key] = [0o644, 0o600].map(|uploaded| subject.mode(uploaded));
    assert_eq!(
        order.output(&*runtime).await,
        format!(
            "the answer is 42\nthe key\n{of_crt:o} /etc/hyperledger/fabric/client.crt\n{of_key:o} \
             /etc/hyperledger/fabric/client.key\n755\nthe peer's\n"
        )
    );
    assert_eq!(order.exit(&*runtime).await, 0);
    order.removed(&*runtime).await;
}

/// What npm makes of a Node chaincode, in small: twice, with few names at the top, and with a link among them.
pub(super) async fn tree(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let cli = "#!/bin/sh\ncat \"$(dirname \"$(readlink -f \"$0\")\")/words\"\n";
    // Longer than a header of tar has room for.
    let long = format!("lib/{}", "name".repeat(50));
    let few = [
        Directory("lib"),
        File(&long, 0o644, ""),
        Directory("lib/tool"),
        File("lib/tool/cli", 0o755, cli),
        File("lib/tool/words", 0o640, "by a link to a program\n"),
        Directory("modules"),
        Directory("modules/.bin"),
        Symlink("modules/.bin/tool", "../tool/cli"),
        Symlink("modules/tool", "../lib/tool"),
        Symlink("modules/outside", "/etc/hostname"),
    ];
    let many = [few.as_slice(), &[Symlink("current", "modules")]].concat();
    for (members, way) in [(few.as_slice(), "modules"), (&many, "current")] {
        let script = format!(
            "cd {DESTINATION}; {way}/.bin/tool; cat {way}/tool/words; readlink {way}/outside; stat -c %a lib/tool/cli; \
             find lib | wc -l"
        );
        let mut order = Order::script(subject, &script).await;
        order.spec.layer = layer(subject.store(), members).await;
        let order = order.launched(&runtime).await;
        assert_eq!(
            order.output(&*runtime).await,
            "by a link to a program\nby a link to a program\n/etc/hostname\n755\n5\n"
        );
        order.removed(&*runtime).await;
    }
}

pub(super) async fn files_after_the_start(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let order = Order::script(subject, "sleep 1000")
        .await
        .launched(&runtime)
        .await;
    let late = vec![file("/etc/late", 0o644, b"late")];
    let error = runtime.put_files(order.key(), late).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    order.removed(&*runtime).await;
    let gone = vec![file("/etc/late", 0o644, b"late")];
    let error = runtime.put_files(order.key(), gone).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
}

pub(super) async fn literal(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let mut order = Order::script(subject, "printf '%s\\n' \"$A\" \"$B\" \"$1\" \"$2\"").await;
    order
        .spec
        .args
        .extend(["$0", "$(A) $$ 'é\" \\ =", "{\"a\": 1}"].map(str::to_owned));
    order.spec.env.extend(
        [
            ("A", "earlier"),
            ("B", "$(A) $$ x=y"),
            ("A", "later = last"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let order = order.launched(&runtime).await;
    assert_eq!(
        order.output(&*runtime).await,
        "later = last\n$(A) $$ x=y\n$(A) $$ 'é\" \\ =\n{\"a\": 1}\n"
    );
    order.removed(&*runtime).await;
}

pub(super) async fn entrypoint(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let mut order = Order::script(subject, "").await;
    order.spec.entrypoint = Some(vec!["sh".to_owned(), "-c".to_owned()]);
    order.spec.args = vec!["pwd; id -u".to_owned()];
    order.spec.working_dir = Some("/usr/local".to_owned());
    order.spec.user = Some(1234);
    let order = order.launched(&runtime).await;
    assert_eq!(order.output(&*runtime).await, "/usr/local\n1234\n");
    order.removed(&*runtime).await;
    let order = Order::script(subject, "id -u")
        .await
        .launched(&runtime)
        .await;
    assert_eq!(
        order.output(&*runtime).await,
        format!("{}\n", subject.root())
    );
    order.removed(&*runtime).await;
}

pub(super) async fn memory(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let limit: u64 = 64 << 20;
    let mut order = Order::script(subject, &format!("cat {}", subject.memory_limit())).await;
    order.spec.host.memory = Some(limit);
    order.spec.host.cpu_millis = Some(500);
    let order = order.launched(&runtime).await;
    assert_eq!(order.output(&*runtime).await.trim(), limit.to_string());
    order.removed(&*runtime).await;
    let mut hungry = Order::script(subject, "exec tail /dev/zero").await;
    hungry.spec.host.memory = Some(limit);
    let hungry = hungry.launched(&runtime).await;
    assert_eq!(hungry.exit(&*runtime).await, 137);
    hungry.removed(&*runtime).await;
}

pub(super) async fn extra_hosts(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let mut order = Order::script(subject, "grep orderer /etc/hosts").await;
    order.spec.host.extra_hosts = vec![("orderer.example.com".to_owned(), "10.1.2.3".to_owned())];
    let order = order.launched(&runtime).await;
    let line = order.output(&*runtime).await;
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["10.1.2.3", "orderer.example.com"]
    );
    order.removed(&*runtime).await;
}

pub(super) async fn read_only_root(subject: &dyn Subject) {
    let runtime = subject.runtime();
    // Whoever it is, it may write to one of these on a root that is not read-only.
    let script = "answer; for file in /here /etc/passwd /tmp/here; do \
                  touch $file 2>/dev/null && echo $file is writable; done; true";
    let mut order = Order::script(subject, script).await;
    order.spec.host.read_only_root = true;
    assert_eq!(order.spec.layer.destination, DESTINATION);
    let order = order.launched(&runtime).await;
    assert_eq!(order.output(&*runtime).await, "the answer is 42\n");
    assert_eq!(order.exit(&*runtime).await, 0);
    order.removed(&*runtime).await;
}

pub(super) async fn no_new_privileges(subject: &dyn Subject) {
    let runtime = subject.runtime();
    let script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
    let order = Order::script(subject, script)
        .await
        .launched(&runtime)
        .await;
    let text = order.output(&*runtime).await;
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["NoNewPrivs:", "1", "Seccomp:", "2"], "{text}");
    order.removed(&*runtime).await;
}
