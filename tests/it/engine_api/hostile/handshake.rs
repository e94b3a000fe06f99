//! Handshakes of attach that are nearly those of peers: an answer, or the end of the connection, and never a stream that the
//! client did not ask for.

use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::super::world::{SOON, World, header, read_head};
use crate::mutation::{corpus, inputs};

/// Each is a connection.
const CASES: u32 = 400;

#[test]
fn a_handshake_of_any_kind_is_answered_or_closed() {
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    // One that is not started: its output goes on, to as many as ask for it.
    let builder = runtime.block_on(world.builder());
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        // Each may wait for what does not come.
        max_shrink_iters: 0,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&inputs(handshakes(&builder)), |request| {
        runtime.block_on(judge(&world, &request));
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    // As they are, they get far: a property of refusals alone would hold of anything.
    let mut own = handshakes(&builder);
    own.retain(|it| String::from_utf8_lossy(it).contains(&builder));
    let upgraded = own
        .iter()
        .filter(|it| runtime.block_on(is_upgraded(&world, it)));
    assert_eq!((upgraded.count(), own.len()), (6, 9));
    let ping = runtime.block_on(world.ask("GET", "/_ping"));
    assert_eq!(ping.status, 200);
}

/// Those of the corpus, for this container.
fn handshakes(id: &str) -> Vec<Vec<u8>> {
    let handshakes = corpus("attach").into_iter().map(|handshake| {
        let text = String::from_utf8(handshake).unwrap();
        text.replace("/cc/", &format!("/{id}/")).into_bytes()
    });
    handshakes.collect()
}

async fn judge(world: &World, request: &[u8]) {
    let mut stream = world.connect().await;
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    if peeked(&mut stream).await == 0 {
        return;
    }
    let (mut head, rest) = read_head(&mut stream).await;
    if head.starts_with("HTTP/1.1 100 ") {
        // The client had asked for it, and there is more.
        head = read_head(&mut (&rest[..]).chain(&mut stream)).await.0;
    }
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "101" {
        let asked = String::from_utf8_lossy(request).to_ascii_lowercase();
        assert!(asked.contains("upgrade:") && asked.contains("connection:"));
        assert_eq!(header(&head, "connection"), Some("Upgrade"));
        assert_eq!(header(&head, "upgrade"), Some("tcp"));
        return;
    }
    assert!(head.starts_with("HTTP/1.") && status.len() == 3, "{head}");
    // Without an upgrade the output of a container that runs on is an answer that goes on.
    if header(&head, "content-type") != Some("application/vnd.docker.raw-stream") {
        let mut rest = Vec::new();
        let ended = timeout(SOON, stream.read_to_end(&mut rest)).await;
        ended.expect("the connection ends").ok();
    }
}

/// Whether this ends in a stream.
async fn is_upgraded(world: &World, request: &[u8]) -> bool {
    let mut stream = world.connect().await;
    stream.write_all(request).await.unwrap();
    let head = read_head(&mut stream).await.0;
    head.starts_with("HTTP/1.1 101 ") || head.starts_with("HTTP/1.1 100 ")
}

/// How many bytes are there as soon as there are any, or the connection has ended.
async fn peeked(stream: &mut TcpStream) -> usize {
    let peeked = timeout(SOON, stream.peek(&mut [0; 1])).await;
    // A server that closed before it had read all resets the connection.
    peeked.expect("an answer, or the end").unwrap_or(0)
}
