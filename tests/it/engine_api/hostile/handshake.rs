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
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&inputs(corpus("attach")), |request| {
        runtime.block_on(judge(&world, &request));
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    let ping = runtime.block_on(world.ask("GET", "/_ping"));
    assert_eq!(ping.status, 200);
}

async fn judge(world: &World, request: &[u8]) {
    let mut stream = world.connect().await;
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    if peeked(&mut stream).await == 0 {
        return;
    }
    let (head, _) = read_head(&mut stream).await;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "101" {
        let asked = String::from_utf8_lossy(request).to_ascii_lowercase();
        assert!(asked.contains("upgrade:") && asked.contains("connection:"));
        assert_eq!(header(&head, "connection"), Some("Upgrade"));
        assert_eq!(header(&head, "upgrade"), Some("tcp"));
        return;
    }
    assert!(head.starts_with("HTTP/1.1 ") && status.len() == 3, "{head}");
    // Without an upgrade the output of a container that runs on is an answer that goes on.
    if header(&head, "content-type") != Some("application/vnd.docker.raw-stream") {
        let mut rest = Vec::new();
        let ended = timeout(SOON, stream.read_to_end(&mut rest)).await;
        ended.expect("the connection ends").ok();
    }
}

/// How many bytes are there as soon as there are any, or the connection has ended.
async fn peeked(stream: &mut TcpStream) -> usize {
    let peeked = timeout(SOON, stream.peek(&mut [0; 1])).await;
    // A server that closed before it had read all resets the connection.
    peeked.expect("an answer, or the end").unwrap_or(0)
}
