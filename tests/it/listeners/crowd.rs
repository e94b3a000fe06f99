//! Clients that connect and say nothing: however many they are, who has something to say is heard.

use peitho::listener::{Crowd, Speech};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::log::Log;
use super::pki::{Authority, Files, TlsClient, VALID, rule};
use crate::engine_api::client::{Answer, SOON, is_silent};
use crate::engine_api::world::World;

/// More than the listener holds at a time.
const CROWD: usize = 60;
/// How many it holds.
const HELD: usize = 40;

const PING: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn strangers_do_not_keep_a_known_client_out() {
    let log = Log::begin();
    let (server, org1) = (Authority::new("servers"), Authority::new("org1-ca"));
    let files = Files::new(&server.server("peitho"));
    let (speech, _) = files.tls(&[(&org1, rule(&["default"], &[]))]);
    let world = World::speaking(held(speech)).await;
    let peer = TlsClient::new(&server, Some(&org1.peer("peer0.org1", VALID)));
    // Of two that come first, one has shown who it is, and says nothing more.
    let mut known = peer.connect(world.connect().await).await.unwrap();
    known.write_all(PING).await.unwrap();
    hear_pong(&mut known).await;
    let mut crowd = connect(&world, CROWD).await;
    let mut late = peer.connect(world.connect().await).await.unwrap();
    for stream in [&mut late, &mut known] {
        stream.write_all(PING).await.unwrap();
        hear_pong(stream).await;
    }
    // Those that wait longest went, and no more of them than had to.
    for stream in &mut crowd[..CROWD - HELD] {
        assert!(has_ended(stream).await);
    }
    assert!(is_silent(crowd.last_mut().unwrap()).await);
    assert!(is_told(&log));
}

#[tokio::test]
async fn nor_do_those_that_never_end_their_request() {
    let log = Log::begin();
    let world = World::speaking(held(Speech::default())).await;
    let mut known = world.connect().await;
    known.write_all(PING).await.unwrap();
    hear_pong(&mut known).await;
    let mut crowd = connect(&world, CROWD).await;
    for stream in &mut crowd {
        // To those that went already it cannot be said.
        stream
            .write_all(b"GET /_ping HTTP/1.1\r\nHost: ")
            .await
            .ok();
    }
    assert!(has_ended(&mut crowd[0]).await);
    let late = world.ask("GET", "/_ping").await;
    assert_eq!(late.status, 200);
    assert!(is_told(&log));
    known.write_all(PING).await.unwrap();
    hear_pong(&mut known).await;
    let last = crowd.last_mut().unwrap();
    last.write_all(b"x\r\n\r\n").await.unwrap();
    hear_pong(last).await;
}

fn held(speech: Speech) -> Speech {
    Speech {
        crowd: Crowd::of(HELD),
        ..speech
    }
}

fn is_told(log: &Log) -> bool {
    !log.lines_with("the one that waits longest is closed")
        .is_empty()
}

async fn connect(world: &World, count: usize) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        crowd.push(world.connect().await);
    }
    crowd
}

async fn hear_pong(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut heard = Vec::new();
    while !heard.ends_with(b"OK") {
        let read = timeout(SOON, stream.read_buf(&mut heard)).await;
        assert!(
            read.expect("an answer").unwrap() > 0,
            "the connection ended"
        );
    }
    assert_eq!(Answer::parse(&heard).unwrap().status, 200);
}

async fn has_ended(stream: &mut TcpStream) -> bool {
    let read = timeout(SOON, stream.read(&mut [0; 1])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}
