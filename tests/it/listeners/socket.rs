//! The Engine API on a Unix socket, with what fsouza sends there: an empty `Host` (protocol §7.1).

use std::time::Duration;

use peitho::engine_api::metrics::Requests;
use peitho::engine_api::{Tenants, router};
use peitho::listener::{self, Drain, Speech};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::engine_api::attach::{ALL, attach};
use crate::engine_api::client::{Answer, SOON, is_silent, read_head};
use crate::engine_api::world::World;

#[tokio::test]
async fn a_socket_serves_all_of_it_and_goes_with_its_listener() {
    let mut world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("peitho.sock");
    let bound = listener::bind_socket(&path).unwrap();
    let drain = Drain {
        stop: world.stop.clone(),
        grace: Duration::from_millis(100),
    };
    let router = router(world.state.clone(), Tenants::default(), Requests::default());
    let serving = tokio::spawn(listener::serve(bound, Speech::default(), router, drain));

    let mut ping = UnixStream::connect(&path).await.unwrap();
    let head = b"GET /v1.44/_ping HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n";
    ping.write_all(head).await.unwrap();
    assert_eq!(Answer::read(&mut ping).await.status, 200);

    let mut attached = UnixStream::connect(&path).await.unwrap();
    let request = attach("", ALL).replace("Host: x", "Host: ");
    attached.write_all(request.as_bytes()).await.unwrap();
    let (head, _) = read_head(&mut attached).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    attached.shutdown().await.unwrap();
    assert!(is_silent(&mut attached).await);
    world.writes(b"one");
    world.ends();
    let mut frames = Vec::new();
    let read = timeout(SOON, attached.read_to_end(&mut frames)).await;
    read.unwrap().unwrap();
    assert_eq!(frames, b"\x01\0\0\0\0\0\0\x03one");

    world.stop.cancel();
    timeout(SOON, serving).await.unwrap().unwrap();
    assert!(!path.exists());
}
