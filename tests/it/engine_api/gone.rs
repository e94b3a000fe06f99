//! Clients that go away during a compile, and compiles that an earlier process left (ADR 0006).

use std::time::Duration;

use peitho::names::CompileKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bodies::tar;
use super::cluster::Away;
use super::world::{Answer, SOON, World, is_silent, read_exactly, read_head};
use crate::once::once;

/// Long enough for the next request of a test on a busy machine.
const GRACE: Duration = Duration::from_millis(400);

/// Whether nothing comes for longer than [`GRACE`].
async fn is_silent_beyond_the_grace(stream: &mut TcpStream) -> bool {
    for _ in 0..4 {
        if !is_silent(stream).await {
            return false;
        }
    }
    true
}

impl World {
    async fn start(&self, id: &str) {
        let started = self.ask("POST", &format!("/containers/{id}/start")).await;
        assert_eq!(started.status, 204, "{started:?}");
    }

    /// Opens `wait`, and returns when the server has read the request.
    async fn waiting(&self, id: &str) -> TcpStream {
        let wait = self
            .open(&format!(
                "POST /containers/{id}/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        // Requests are read in the order of their connections, all on one thread.
        self.ask("GET", "/_ping").await;
        wait
    }

    /// Waits until `count` compiles were ended.
    async fn discarded(&self, count: usize) -> Vec<CompileKey> {
        let mut discarded = self.cluster.discarded.subscribe();
        let ended = discarded.wait_for(|discarded| discarded.len() >= count);
        timeout(SOON, ended).await.unwrap().unwrap().clone()
    }

    /// Files of uploads in the store.
    fn uploads(&self) -> usize {
        std::fs::read_dir(self.directory.join("ingest"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().metadata().unwrap().len() > 0)
            .count()
    }
}

/// A peer must hear of it, however long the API server is away.
#[tokio::test]
async fn a_start_is_refused_while_the_earlier_run_cannot_be_removed() {
    let world = World::compiling(4, GRACE).await;
    world.cluster.away.send_replace(Away::Untold);
    let first = world.builder().await;
    world.start(&first).await;
    let key = world.compile().await;
    let wait = world.waiting(&first).await;
    world.compiles.exited(&key, 1).await.unwrap();
    assert_eq!(code(wait).await, r#"{"StatusCode":1,"Error":null}"#);
    // Over is over, also while its pod is there; the agent may say again how it ended.
    assert!(world.compiles.input(&key).is_err());
    assert!(world.compiles.append_log(&key, 0, b"late").await.is_err());
    let late = world.store.ingest().await.unwrap();
    assert!(world.compiles.put_output(&key, late).await.is_err());
    world.compiles.exited(&key, 1).await.unwrap();

    let second = world.builder().await;
    let start = format!("/containers/{second}/start");
    let refused = timeout(SOON, world.ask("POST", &start)).await.unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(
        refused.message().contains("connection refused"),
        "{refused:?}"
    );
    assert_eq!(world.discarded(0).await, []);

    world.cluster.away.send_replace(Away::No);
    assert_eq!(world.discarded(1).await, [key]);
    world.cluster.compile.send_replace(None);
    let third = world.builder().await;
    world.start(&third).await;
    assert_eq!(world.compile().await, key);
}

/// Protocol rule 10: a builder that is stopped has no more to say, though the run goes on for another.
#[tokio::test]
async fn attach_ends_with_the_builder_also_where_the_run_goes_on() {
    let world = World::compiling(4, Duration::from_secs(600)).await;
    let (stopped, stays) = (world.builder().await, world.builder().await);
    let attach = format!(
        "POST /v1.44/containers/{stopped}/attach?logs=1&stderr=1&stdout=1&stream=1 HTTP/1.1\r\nHost: x\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    let mut attached = world.open(&attach).await;
    let (_, mut output) = read_head(&mut attached).await;
    world.start(&stopped).await;
    world.start(&stays).await;
    let mut wait = world.waiting(&stays).await;
    let key = world.compile().await;
    world.compiles.append_log(&key, 0, b"one").await.unwrap();
    assert_eq!(read_exactly(&mut attached, 3).await, b"one");
    assert!(is_silent(&mut attached).await);
    // Written before the stop, read or not.
    world.compiles.append_log(&key, 3, b"two").await.unwrap();
    let remove = format!("/containers/{stopped}?force=1");
    assert_eq!(world.ask("DELETE", &remove).await.status, 204);
    world.compiles.append_log(&key, 6, b"three").await.unwrap();
    timeout(SOON, attached.read_to_end(&mut output))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output, b"two");
    assert!(is_silent(&mut wait).await);
    world.compiles.exited(&key, 0).await.unwrap();
    assert_eq!(code(wait).await, r#"{"StatusCode":0,"Error":null}"#);
}

async fn code(mut wait: TcpStream) -> String {
    Answer::read(&mut wait).await.body
}

#[tokio::test]
async fn a_compile_ends_when_its_client_has_left_and_nothing_stays() {
    let world = World::compiling(4, GRACE).await;
    let id = world.builder().await;
    let input = format!("/containers/{id}/archive?path=%2Fchaincode%2Finput");
    world.send("PUT", &input, &tar(&[("a", b"b")])).await;
    assert_eq!(world.uploads(), 1);
    world.start(&id).await;
    let key = world.compile().await;
    drop(world.waiting(&id).await);
    assert_eq!(world.discarded(1).await, [key]);
    assert!(world.compiles.input(&key).is_err());
    // Its peer comes no more: the builder is forgotten as well.
    let wait = format!("/containers/{id}/wait");
    let forgotten = async || (world.ask("POST", &wait).await.status == 404).then_some(());
    once("the builder is forgotten", forgotten).await;
    assert_eq!(world.uploads(), 0);
}

#[tokio::test]
async fn a_client_that_stays_keeps_the_compile_of_one_that_left() {
    let world = World::compiling(4, GRACE).await;
    let (first, second) = (world.builder().await, world.builder().await);
    world.start(&first).await;
    world.start(&second).await;
    let leaves = world.waiting(&first).await;
    let mut stays = world.waiting(&second).await;
    let key = world.compile().await;
    drop(leaves);
    assert!(is_silent_beyond_the_grace(&mut stays).await);
    world.compiles.exited(&key, 3).await.unwrap();
    assert_eq!(code(stays).await, r#"{"StatusCode":3,"Error":null}"#);
}

#[tokio::test]
async fn a_client_that_comes_back_within_the_grace_finds_its_compile() {
    let world = World::compiling(4, GRACE).await;
    let id = world.builder().await;
    world.start(&id).await;
    let key = world.compile().await;
    drop(world.waiting(&id).await);
    let mut wait = world.waiting(&id).await;
    assert!(is_silent_beyond_the_grace(&mut wait).await);
    world.compiles.exited(&key, 0).await.unwrap();
    assert_eq!(code(wait).await, r#"{"StatusCode":0,"Error":null}"#);
}

#[tokio::test]
async fn a_compile_that_is_started_and_never_waited_for_ends() {
    let world = World::compiling(4, GRACE).await;
    let id = world.builder().await;
    world.start(&id).await;
    let key = world.compile().await;
    assert_eq!(world.discarded(1).await, [key]);
    let late = world.ask("POST", &format!("/containers/{id}/wait")).await;
    assert_eq!(late.status, 500);
    assert!(late.message().contains("nobody waited"), "{late:?}");
}

#[tokio::test]
async fn a_client_that_leaves_while_its_compile_is_queued_leaves_the_queue() {
    let world = World::compiling(1, GRACE).await;
    let runs = world.builder_of("first").await;
    world.start(&runs).await;
    let mut wait = world.waiting(&runs).await;
    let running = world.compile().await;
    let queued = world.builder_of("second").await;
    world.start(&queued).await;
    drop(world.waiting(&queued).await);
    let discarded = world.discarded(1).await;
    assert!(!discarded.contains(&running) && is_silent(&mut wait).await);
    assert_eq!(world.compile().await, running);
}

/// Protocol rule 11: fsouza sends FIN on attach right after the 101.
#[tokio::test]
async fn a_half_close_on_attach_is_no_departure() {
    let world = World::compiling(4, GRACE).await;
    let id = world.builder().await;
    let attach = format!(
        "POST /containers/{id}/attach?logs=1&stderr=1&stdout=1&stream=1 HTTP/1.1\r\nHost: x\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    let mut attached = world.open(&attach).await;
    read_head(&mut attached).await;
    attached.shutdown().await.unwrap();
    world.start(&id).await;
    let mut wait = world.waiting(&id).await;
    let key = world.compile().await;
    assert!(is_silent_beyond_the_grace(&mut attached).await && is_silent(&mut wait).await);
    world.compiles.exited(&key, 0).await.unwrap();
    assert_eq!(code(wait).await, r#"{"StatusCode":0,"Error":null}"#);
}

#[tokio::test]
async fn what_an_earlier_process_left_is_discarded_unless_somebody_asked_for_it() {
    let world = World::compiling(4, Duration::from_secs(600)).await;
    let id = world.builder().await;
    world.start(&id).await;
    let wait = world.waiting(&id).await;
    let asked_for = world.compile().await;
    let forgotten = "ab".repeat(32).parse().unwrap();
    *world.cluster.left.lock().unwrap() = vec![asked_for, forgotten];
    world.compiles.collect();
    assert_eq!(world.discarded(1).await, [forgotten]);
    world.compiles.exited(&asked_for, 0).await.unwrap();
    assert_eq!(code(wait).await, r#"{"StatusCode":0,"Error":null}"#);
    assert_eq!(world.discarded(2).await, [forgotten, asked_for]);
}
