//! `POST /build`: when it answers, what it says, and what a cut body leaves.

use std::collections::BTreeSet;
use std::ffi::OsString;

use tokio::io::AsyncWriteExt;

use super::bodies::{DOCKERFILE, IMAGE, complete, context};
use super::world::{Answer, World, is_silent};
use crate::once::once;

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
    let directory = world.directory.join("ingest");
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect()
}

#[tokio::test]
async fn a_complete_body_becomes_an_image() {
    let world = World::new().await;
    let inspect = format!("/v1.44/images/{IMAGE}/json");
    let missing = world.ask("GET", &inspect).await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.message(), format!("No such image: {IMAGE}:latest"));
    let target = format!("/v1.44/build?networkmode=host&rm=0&t={IMAGE}");
    let built = world.send("POST", &target, &complete()).await;
    assert_eq!(built.status, 200, "{built:?}");
    assert_eq!(built.header("content-type"), Some("application/json"));
    let lines: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&built.body)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let id = lines.iter().find_map(|line| line["aux"]["ID"].as_str());
    let inspected = world.ask("GET", &inspect).await;
    assert_eq!(inspected.status, 200);
    let inspected: serde_json::Value = serde_json::from_str(&inspected.body).unwrap();
    assert_eq!(inspected["Id"].as_str(), id);
}

/// The gzip and the tar of a failed compile are whole; only the program is missing.
#[tokio::test]
async fn a_body_without_a_program_is_refused() {
    let world = World::new().await;
    let body = context(&[("Dockerfile", DOCKERFILE)]);
    let refused = world
        .send("POST", &format!("/build?t={IMAGE}"), &body)
        .await;
    assert_eq!(refused.status, 400);
    assert!(refused.message().contains("binpackage.tar"), "{refused:?}");
    let inspected = world.ask("GET", &format!("/images/{IMAGE}/json")).await;
    assert_eq!(inspected.status, 404);
}

/// What was sent completely is built, whether or not the peer waits for it (design D19).
#[tokio::test]
async fn a_client_that_leaves_after_its_body_has_its_image() {
    let world = World::new().await;
    let body = complete();
    let head = format!(
        "POST /build?t={IMAGE} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = world.open(&head).await;
    stream.write_all(&body).await.unwrap();
    drop(stream);
    let inspect = format!("/images/{IMAGE}/json");
    let built = async || (world.ask("GET", &inspect).await.status == 200).then_some(());
    once("the image is built", built).await;
}
