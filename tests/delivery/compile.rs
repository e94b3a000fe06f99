//! `agent compile`: small shell scripts instead of compilers, whose output is not the subject.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use peitho::agent::Command;
use peitho::agent::compile::{Args, Error, run};
use peitho::agent::place::Place;
use peitho::compile::End;
use peitho::grant::Grant;
use peitho::names::CompileKey;
use peitho::store::{Blob, Store};
use tokio_util::sync::CancellationToken;

pub(crate) use crate::runs::{end, log as whole_log};
use crate::world::{Server, World, any_port, gzip, names, tar};

/// The arguments in a pod of compile `key` that runs `script`.
pub(crate) fn args(world: &World, server: &Server, key: CompileKey, script: &str) -> Args {
    let script: OsString = script.into();
    Args {
        place: Place {
            address: server.url.clone(),
            credentials: world.credentials(&Grant::Compile { key }),
            spool: world.scratch("spool"),
            cache: world.scratch("home").join(".cache"),
            input: world.scratch("input"),
            output: world.scratch("output"),
        },
        key,
        giving: Duration::from_secs(70),
        taking: Duration::from_secs(10),
        command: vec!["sh".into(), "-c".into(), script],
    }
}

/// A pipe: a script that reads it waits until somebody writes to it.
pub(crate) fn gate(world: &World) -> PathBuf {
    let gate = world.scratch("gate").join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&gate).status();
    assert!(made.unwrap().success());
    gate
}

/// Writes `text` to a [`gate`].
pub(crate) async fn open(gate: PathBuf, text: &'static str) {
    let written = tokio::task::spawn_blocking(move || std::fs::write(gate, text));
    written.await.unwrap().unwrap();
}

/// Runs `script` as a compile of `input`: the agent's code, the log, the end.
async fn compile(input: Option<&[u8]>, script: &str) -> (u8, String, End, World) {
    let mut world = World::new().await;
    let server = world.serve(any_port()).await;
    let (key, asked) = world.compile(input).await;
    let script = script
        .replace("INPUT", world.scratch("input").to_str().unwrap())
        .replace("OUTPUT", world.scratch("output").to_str().unwrap());
    let code = run(
        args(&world, &server, key, &script),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let (log, end) = (whole_log(&asked).await, end(&asked).await);
    (code, log, end, world)
}

pub(crate) async fn members(store: &Store, output: Blob) -> Vec<(PathBuf, Vec<u8>)> {
    use std::io::Read as _;
    let (file, _) = store.open_blob(&output.digest).await.unwrap().unwrap();
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().into_owned(), content)
        })
        .collect()
}

#[tokio::test]
async fn input_goes_in_and_output_comes_out() {
    let input = gzip(&tar(&[("src/main.go", 0o644, b"package main")]));
    let script = "cp INPUT/src/main.go OUTPUT/chaincode && echo done";
    let (code, log, end, world) = compile(Some(&input), script).await;
    assert_eq!((code, log.as_str()), (0, "done\n"));
    let End::Exited {
        code: 0,
        output: Some(output),
    } = end
    else {
        panic!("{end:?}");
    };
    assert_eq!(
        members(&world.store, output).await,
        [(PathBuf::from("chaincode"), b"package main".to_vec())]
    );
    assert_eq!(world.counters.input_bytes(), input.len() as u64);
}

#[tokio::test]
async fn a_failing_compile_gives_its_code_and_all_it_printed_in_order() {
    let script =
        "for i in $(seq 200); do echo out $i; echo err $i >&2; done; touch OUTPUT/x; exit 3";
    let (code, log, end, world) = compile(None, script).await;
    let expected: String = (1..=200).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!(log, expected);
    assert_eq!(code, 3);
    let exited = End::Exited {
        code: 3,
        output: None,
    };
    assert_eq!(end, exited);
    assert_eq!(world.counters.output_bytes(), 0);
}

#[tokio::test]
async fn a_killed_command_is_128_and_the_signal() {
    let (code, _, end, _) = compile(None, "kill -KILL $$").await;
    assert_eq!(code, 137);
    assert!(matches!(end, End::Exited { code: 137, .. }), "{end:?}");
}

#[tokio::test]
async fn five_megabytes_of_log_come_whole() {
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -n 50000");
    let (code, log, _, world) = compile(None, &script).await;
    assert_eq!(code, 0);
    assert_eq!(log.len(), 5_000_000);
    assert!(log.lines().all(|read| read == line));
    assert_eq!(world.counters.log_bytes(), 5_000_000);
}

#[tokio::test]
async fn a_descendant_that_holds_the_pipe_does_not_hold_the_end() {
    let started = Instant::now();
    let (code, log, _, _) = compile(None, "sleep 20 & echo done").await;
    assert_eq!((code, log.as_str()), (0, "done\n"));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn what_the_agent_cannot_do_stands_in_the_log() {
    for (input, script, expected_code, expected) in [
        (
            Some(&b"not a tar"[..]),
            "true",
            125,
            "peitho agent: the input in ",
        ),
        (
            None,
            "mkfifo OUTPUT/fifo",
            125,
            "peitho agent: the output in ",
        ),
        (
            None,
            "truncate -s 1T OUTPUT/sparse",
            125,
            "peitho agent: the output in ",
        ),
    ] {
        let (code, log, end, _) = compile(input, script).await;
        assert_eq!(code, expected_code, "{log}");
        assert!(log.starts_with(expected), "{log}");
        let exited = End::Exited {
            code: 125,
            output: None,
        };
        assert_eq!(end, exited);
    }
}

/// What a compile links to outside of its output stays outside: the agent's token lies there.
#[tokio::test]
async fn links_out_of_the_output_are_not_followed() {
    let script = "ln -s ../credentials OUTPUT/d; ln -s ../credentials/token OUTPUT/t; ln -s /etc/passwd OUTPUT/p; \
        touch OUTPUT/chaincode; cat OUTPUT/t >/dev/null";
    let (code, log, end, world) = compile(None, script).await;
    assert_eq!(code, 0, "{log}");
    let End::Exited {
        output: Some(output),
        ..
    } = end
    else {
        panic!("{end:?}");
    };
    let members = members(&world.store, output).await;
    let expected = ["chaincode", "d", "p", "t"].map(|name| (PathBuf::from(name), Vec::new()));
    assert_eq!(members, expected);
}

#[tokio::test]
async fn a_command_that_is_not_there_is_a_shells_127() {
    let mut world = World::new().await;
    let server = world.serve(any_port()).await;
    let (key, asked) = world.compile(None).await;
    let mut args = args(&world, &server, key, "");
    args.command = vec!["/no/such/compiler".into()];
    assert_eq!(run(args, CancellationToken::new()).await.unwrap(), 127);
    let log = whole_log(&asked).await;
    assert!(
        log.contains("\"/no/such/compiler\" cannot be run: No such file"),
        "{log}"
    );
    assert!(matches!(end(&asked).await, End::Exited { code: 127, .. }));
}

#[tokio::test]
async fn a_restarted_server_is_told_all_again() {
    let mut world = World::new().await;
    let server = world.serve(any_port()).await;
    let (key, asked) = world.compile(None).await;
    let gate = gate(&world);
    let script = format!("echo one; cat {}; echo two", gate.display());
    let agent = tokio::spawn(run(
        args(&world, &server, key, &script),
        CancellationToken::new(),
    ));
    let first = asked.log.reader().next().await.unwrap().unwrap();
    assert_eq!(first, &b"one\n"[..]);

    // Peitho ends; the new one knows nothing of the run until a peer asks for it.
    let address = server.stop().await;
    let mut world = world.restarted().await;
    let _server = world.serve(address).await;
    open(gate, "between\n").await;
    let (joined, asked) = world.compile(None).await;
    assert_eq!(joined, key);
    assert_eq!(whole_log(&asked).await, "one\nbetween\ntwo\n");
    assert!(matches!(
        end(&asked).await,
        End::Exited {
            code: 0,
            output: Some(_)
        }
    ));
    assert_eq!(agent.await.unwrap().unwrap(), 0);
}

/// The agent has nothing to send while Peitho starts anew, and its first word to the new one is how the compile ended.
#[tokio::test]
async fn a_restart_that_the_agent_did_not_notice_loses_no_log() {
    let mut world = World::new().await;
    let server = world.serve(any_port()).await;
    let (key, asked) = world.compile(None).await;
    let gate = gate(&world);
    let script = format!("echo one; cat {} >/dev/null; exit 3", gate.display());
    let agent = tokio::spawn(run(
        args(&world, &server, key, &script),
        CancellationToken::new(),
    ));
    asked.log.reader().next().await.unwrap().unwrap();
    let address = server.stop().await;
    let mut world = world.restarted().await;
    let _server = world.serve(address).await;
    let (_, asked) = world.compile(None).await;
    open(gate, "end").await;
    assert_eq!(whole_log(&asked).await, "one\n");
    assert_eq!(agent.await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn a_lost_connection_doubles_nothing() {
    let mut world = World::new().await;
    let mut server = world.serve(any_port()).await;
    let (key, asked) = world.compile(None).await;
    let agent = tokio::spawn(run(
        args(&world, &server, key, "seq 100000"),
        CancellationToken::new(),
    ));
    // Torn down after each part that arrived, as often as the log lasts.
    let mut reader = asked.log.reader();
    let mut log = Vec::new();
    while let Some(bytes) = reader.next().await.unwrap() {
        log.extend_from_slice(&bytes);
        if !agent.is_finished() {
            let address = server.stop().await;
            server = world.serve(address).await;
        }
    }
    let expected: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
    assert_eq!(String::from_utf8(log).unwrap(), expected);
    assert_eq!(agent.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn sigterm_goes_to_the_command_and_nothing_is_reported() {
    let mut world = World::new().await;
    let server = world.serve(any_port()).await;
    let (key, asked) = world.compile(None).await;
    let told = world.scratch("told");
    let script = format!(
        "trap 'touch {}/term; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
        told.display()
    );
    let command = Command::Compile(args(&world, &server, key, &script));
    let agent = tokio::spawn(peitho::agent::run(command));
    asked.log.reader().next().await.unwrap();
    // All tests of this process get it; only this one listens.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
        .unwrap();
    assert_eq!(agent.await.unwrap(), 143);
    assert_eq!(names(&told), ["term"]);
    assert!(asked.end.borrow().is_none());
}

#[tokio::test]
async fn a_foreign_token_ends_the_agent_at_once() {
    let mut world = World::new().await;
    let server = world.serve(any_port()).await;
    let (key, asked) = world.compile(None).await;
    let args = args(&world, &server, key, "echo secret work");
    std::fs::write(args.place.credentials.join("token"), "e30.AAAA").unwrap();
    let error = run(args, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, Error::Report(_)), "{error}");
    assert!(error.to_string().contains("401"), "{error}");
    assert!(asked.log.is_empty());
}
