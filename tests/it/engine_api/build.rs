//! `POST /build` as far as no image is made: when it answers, and what a cut body leaves.

use std::collections::BTreeSet;
use std::ffi::OsString;

use tokio::io::AsyncWriteExt;

use super::world::{Answer, World, is_silent};

const HEAD: &str = "POST /v1.25/build?networkmode=host&t=net-peer-simple HTTP/1.1\r\nHost: x\r\n\
    Content-Type: application/tar\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Protocol rules 6 and 7: not a byte goes out while the body is open.
#[tokio::test]
async fn nothing_is_answered_before_the_body_ends() {
    let world = World::new().await;
    let mut stream = world.open(HEAD).await;
    stream.write_all(b"3\r\nabc\r\n").await.unwrap();
    assert!(is_silent(&mut stream).await);
    // The server works meanwhile.
    assert_eq!(world.ask("GET", "/_ping").await.status, 200);
}

/// Protocol rule 8: how a peer says that its compile failed.
#[tokio::test]
async fn a_cut_body_is_discarded() {
    let world = World::new().await;
    let before = ingest(&world);
    let mut stream = world.open(HEAD).await;
    stream.write_all(b"3\r\nabc\r\n").await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!(ingest(&world).len(), before.len() + 1);
    stream.shutdown().await.unwrap();
    let answer = Answer::read(&mut stream).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .message()
            .contains("build of net-peer-simple:latest ended without a result"),
        "{answer:?}"
    );
    assert_eq!(ingest(&world), before);
}

/// The files of the store that are no blobs yet; one of them is its lock.
fn ingest(world: &World) -> BTreeSet<OsString> {
    let directory = world.directory.path().join("ingest");
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect()
}
