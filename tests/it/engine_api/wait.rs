//! `wait` on chaincode: when its head goes out, and what it says at the end.

use peitho::runtime::{Exit, State};

use super::world::{Answer, World, header, is_silent, read_head};

const HEAD: &str = "POST /containers/cc/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn the_status_is_free_until_the_process_runs() {
    let world = World::new().await;
    let mut stream = world.open(HEAD).await;
    assert!(is_silent(&mut stream).await);
    world.cluster.state.send_replace(State::Starting);
    let refused = State::NeverStarted("no node has room".into());
    world.cluster.state.send_replace(refused);
    let answer = Answer::read(&mut stream).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.message(), "no node has room");
}

#[tokio::test]
async fn the_head_comes_with_the_process_and_the_code_with_its_end() {
    let world = World::new().await;
    let mut stream = world.open(HEAD).await;
    world.cluster.state.send_replace(State::Running);
    let (head, rest) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(header(&head, "content-type"), Some("application/json"));
    assert_eq!(header(&head, "content-length"), None);
    assert!(rest.is_empty() && is_silent(&mut stream).await);
    world
        .cluster
        .state
        .send_replace(State::Exited(Exit { code: 7 }));
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut rest)
        .await
        .unwrap();
    assert!(rest.contains(r#"{"StatusCode":7,"Error":null}"#), "{rest}");
}

#[tokio::test]
async fn what_is_over_is_answered_at_once() {
    let world = World::new().await;
    world
        .cluster
        .state
        .send_replace(State::Exited(Exit { code: 3 }));
    let answer = world
        .ask("POST", "/v1.44/containers/cc/wait?condition=next-exit")
        .await;
    assert_eq!(answer.body, r#"{"StatusCode":3,"Error":null}"#);
    assert_eq!(answer.header("content-type"), Some("application/json"));
}
