//! What every driver has to observe in each scenario, judged on dockerd first. The facts are those that a driver prints; where the two
//! engines differ, `differences` says so.

use serde_json::{Value, json};
use testbed::{Driver, Library};

/// A scenario: its name, and what it is in one line of the page.
pub(crate) const SCENARIOS: &[(&str, &str)] = &[
    (
        "build",
        "inspect of a missing image, `/build` held open, the compile in a container of its own (where peers do, after asking it for the \
         version of Go), attached output, the download with links, modes and long names; then the image is there",
    ),
    (
        "car",
        "the same with the plain tar of a package of type CAR",
    ),
    (
        "compile_error",
        "a compile that exits with 2: code and output reach the peer, no image is left",
    ),
    (
        "compile_output",
        "a compile that prints 8 MB, read by fsouza while it runs and by moby only after `wait`",
    ),
    ("no_output", "a compile that succeeds and leaves nothing"),
    (
        "late_attach",
        "a compile container that has ended: `attach` with `logs=1`, and `wait` again",
    ),
    (
        "launch",
        "stop, kill, removal, create; attach beside the upload of TLS files by absolute names; start, wait; output after fsouza's \
         half-close; an exit code; the end of the stream",
    ),
    (
        "relaunch",
        "launches of a name whose process lives, and of one whose process ended; a name that is taken",
    ),
    (
        "failed_start",
        "a program that does not exist: start says so, and the attached stream ends",
    ),
    (
        "pull",
        "`images/create` and inspect by tag, by digest, of a tag that does not exist, of a registry with a login",
    ),
    (
        "connections",
        "ten calls, one of them refused with a body on its way: fsouza opens a connection for each, moby's pool none",
    ),
    (
        "burst",
        "20 chaincodes stopped, killed and removed at once, as a peer does that ends: all within 5 s",
    ),
    (
        "life",
        "34 s in which nothing happens: `wait` with its heartbeats and the attached stream stay, moby's pool lets go",
    ),
];

/// The chaincode that all drivers bring, as an archive shows it.
const CHAINCODE: &str = "f 0755 chaincode 592";

/// The facts of a scenario.
pub(crate) fn facts(scenario: &str, driver: &Driver) -> Value {
    let is_moby = driver.library == Library::Moby;
    match scenario {
        "build" => json!({
            "before": "not found",
            "result": "ok",
            "probe": if ["F6", "F7"].contains(&driver.family) { "1.24.0" } else { "" },
            // fsouza does not show it.
            "stat": if is_moby { "directory ." } else { "" },
            "files": [
                "d 0750 node_modules",
                "d 0755 a*140",
                "d 0755 node_modules/.bin",
                "f 0600 private 8",
                "f 0644 a*140/b*140 0",
                CHAINCODE,
                "l node_modules/.bin/cc -> ../../chaincode",
            ],
            "says": true,
            "plain output": true,
            "after": "ok",
            "again": "ok",
        }),
        "car" => json!({"result": "ok", "files": [CHAINCODE], "after": "ok"}),
        "compile_error" => json!({"code": true, "says": true, "plain": true, "image": "not found"}),
        "compile_output" => json!({"result": "ok", "lines": 131_072, "end": true}),
        "no_output" => json!({"result": "ok", "after": "ok"}),
        "late_attach" => json!({"code": 4, "says": true, "code again": 4, "again": "ok"}),
        "launch" => json!({
            "result": "ok",
            "before": ["not found", "not found", "not found"],
            "files": tls_files(driver),
            "format": "%{color}%{time:2006-01-02} [%{module}] a=b -> %{message}",
            "begins": true,
            "goes on": true,
            "lives": true,
            "error stream": true,
            "code": 7,
            "attach ends": true,
            "plain": true,
        }),
        "relaunch" => json!({
            "living": cleared(driver, "ok"),
            "first ended by order": true,
            "wait of the first": "ok",
            "second lives": true,
            "code of the second": 3,
            "ended": cleared(driver, "not running"),
            "taken": "conflict",
            "third lives": true,
            "removed": "not found",
        }),
        "failed_start" => json!({
            "refused": true,
            "names the program": true,
            "attach ends": true,
            "then": cleared(driver, "not running"),
        }),
        "pull" => json!({
            "tag": ["ok", "ok"],
            "digest": ["ok", "ok"],
            "missing tag": ["refused", "not found"],
            "private registry": ["refused", "not found"],
        }),
        "connections" => {
            json!({"refused": "not found", "further connections": if is_moby { 0 } else { 10 }})
        }
        "burst" => json!({"in time": true, "removed": 20, "gone": 20}),
        "life" => json!({"lives": true, "inspect": "ok", "says": true, "code": 5, "after": "ok"}),
        other => panic!("nothing is expected of {other}"),
    }
}

/// What a process reads: mode, length and name of each file.
fn tls_files(driver: &Driver) -> Value {
    let mut files = vec![
        "644 14 /etc/hyperledger/fabric/peer.crt",
        "644 15 /etc/hyperledger/fabric/client.key",
        "644 23 /etc/hyperledger/fabric/client.crt",
    ];
    if driver.family != "F2" {
        files.push("644 28 /etc/hyperledger/fabric/client_pem.crt");
        files.push("644 6 /etc/hyperledger/fabric/client_pem.key");
    }
    json!(files)
}

/// The answers to stop, kill and removal of a container. fsouza makes one error of 304 to a stop and 409 to a kill; to moby 304 is success.
fn cleared(driver: &Driver, stop: &str) -> Value {
    match driver.library {
        Library::Fsouza => json!([stop, "not running", "ok"]),
        Library::Moby => json!(["ok", "conflict", "ok"]),
    }
}
