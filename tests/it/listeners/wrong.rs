//! Plain clients that meet TLS, and the other way round.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::log::Log;
use super::pki::{Authority, Files, TlsClient};
use crate::engine_api::client::SOON;
use crate::engine_api::world::World;

#[tokio::test]
async fn a_plain_client_learns_that_tls_is_spoken() {
    let log = Log::begin();
    let server = Authority::new("servers");
    let files = Files::new(&server.server("peitho"));
    let (speech, _) = files.tls(&[]);
    let world = World::speaking(speech).await;
    for _ in 0..2 {
        let answer = world.ask("GET", "/_ping").await;
        assert_eq!(answer.status, 400);
        let message = answer.message();
        assert_eq!(
            message,
            "this address speaks TLS, and the client began with plain HTTP: use TLS"
        );
    }
    // With a body that is still on its way, the answer is not lost by a reset.
    let answer = world.send("POST", "/build", &vec![0; 300_000]).await;
    assert_eq!(answer.status, 400);
    // A line for each client, not for each of its tries.
    let told = log.lines_with("the client began with plain HTTP");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains(" WARN ") && told[0].contains("remote=127.0.0.1:"));
}

/// Go knows an answer by its first five bytes: `http: server gave HTTP response to HTTPS client`.
#[tokio::test]
async fn a_client_with_tls_gets_an_answer_that_go_knows() {
    let log = Log::begin();
    let world = World::new().await;
    let hello = |server: &Authority| TlsClient::new(server, None);
    let server = Authority::new("servers");
    let refused = hello(&server).connect(world.connect().await).await;
    assert!(refused.is_err());
    let mut raw = world.connect().await;
    raw.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        .await
        .unwrap();
    let mut received = Vec::new();
    let read = timeout(SOON, raw.read_to_end(&mut received)).await;
    read.unwrap().unwrap();
    let text = String::from_utf8(received).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(text.contains("this address speaks plain HTTP"), "{text}");
    assert_eq!(log.lines_with("the client began with TLS").len(), 1);
}
