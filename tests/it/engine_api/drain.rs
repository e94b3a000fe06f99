//! How a listener ends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::world::{SOON, World, read_head};

#[tokio::test]
async fn idle_connections_are_closed_and_open_requests_dropped_after_the_grace() {
    let world = World::new().await;
    let mut unused = world.connect().await;
    let mut idle = world.open("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_head(&mut idle).await;
    let mut waiting = world
        .open("POST /containers/cc/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await;
    // The listener has all three by the time that it answers a fourth.
    world.ask("GET", "/_ping").await;
    world.stop.cancel();
    let mut rest = Vec::new();
    for stream in [&mut unused, &mut idle, &mut waiting] {
        timeout(SOON, stream.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
    }
    timeout(SOON, world.serving).await.unwrap().unwrap();
    let refused = tokio::net::TcpStream::connect(world.address).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_request_that_ends_within_the_grace_is_answered() {
    let world = World::new().await;
    let mut body = world
        .open("PUT /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        .await;
    world.ask("GET", "/_ping").await;
    world.stop.cancel();
    body.write_all(b"abc").await.unwrap();
    let (head, _) = read_head(&mut body).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}
