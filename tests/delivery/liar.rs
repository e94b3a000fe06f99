//! Outputs that the agent would never send: whoever has the token of a compile runs the code of strangers.

use axum::body::{Body, Bytes};
use futures::stream;
use http::StatusCode;
use peitho::compile::End;
use peitho::grant::Grant;

use crate::pull_api::{Caller, json};
use crate::tars::{archive, file, member, refused_by_all};
use crate::world::{World, gzip, names, tar};

#[tokio::test]
async fn an_output_that_no_agent_sends_is_refused_and_does_not_stay() {
    let mut world = World::new().await;
    let (key, run) = world.compile(None).await;
    let caller = Caller::new(&world, &Grant::Compile { key }).await;
    let path = format!("/compile/{key}/output");
    let ingest = world.scratch("store/ingest");
    let before = names(&ingest);
    for (_, tar, said) in refused_by_all() {
        for body in [tar.clone(), gzip(&tar)] {
            let response = caller.send("PUT", &path, body).await;
            assert_eq!(
                response.status(),
                StatusCode::UNPROCESSABLE_ENTITY,
                "{said}"
            );
            let answer = json(response).await;
            assert_eq!(answer["errors"][0]["code"], "OUTPUT_INVALID", "{said}");
            let message = answer["errors"][0]["message"].as_str().unwrap();
            assert!(message.contains(said), "{said}: {message}");
            assert_eq!(names(&ingest), before, "{said}");
        }
    }
    // One that breaks off.
    let pieces = [
        Ok(Bytes::from_static(b"half of a")),
        Err(std::io::Error::other("gone")),
    ];
    let body = Body::from_stream(stream::iter(pieces));
    let response = caller.send("PUT", &path, body).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(names(&ingest), before);
    assert!(names(&world.scratch("store/blobs/sha256")).is_empty());
    assert!(run.end.borrow().is_none());

    // The true one is taken after all that: with a link inside, and one that points out and stays a link.
    let output = archive(&[
        file("node_modules/tool/cli.js", b"js"),
        member(
            tar::EntryType::Symlink,
            "node_modules/.bin/tool",
            "../tool/cli.js",
        ),
        member(tar::EntryType::Symlink, "python", "/usr/bin/python3"),
    ]);
    let response = caller.send("PUT", &path, output.clone()).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let response = caller
        .send("PUT", &format!("/compile/{key}/exit"), "{\"code\":0}")
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let mut end = run.end.clone();
    let end = end.wait_for(Option::is_some).await.unwrap().clone();
    let Some(End::Exited {
        code: 0,
        output: Some(blob),
    }) = end
    else {
        panic!("{end:?}");
    };
    assert_eq!(blob.size, output.len() as u64);
}

/// What was sent is kept with a success only, and only the last of it.
#[tokio::test]
async fn a_failed_compile_leaves_nothing_however_much_it_sent() {
    let mut world = World::new().await;
    let (key, run) = world.compile(None).await;
    let caller = Caller::new(&world, &Grant::Compile { key }).await;
    let ingest = world.scratch("store/ingest");
    let before = names(&ingest);
    for content in [&b"one"[..], b"two", b"three"] {
        let output = tar(&[("chaincode", 0o755, content)]);
        let response = caller
            .send("PUT", &format!("/compile/{key}/output"), output)
            .await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(names(&ingest).len(), before.len() + 1, "one is held");
    }
    let response = caller
        .send("PUT", &format!("/compile/{key}/exit"), "{\"code\":1}")
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(names(&ingest), before);
    assert!(names(&world.scratch("store/blobs/sha256")).is_empty());
    let mut end = run.end.clone();
    let end = end.wait_for(Option::is_some).await.unwrap().clone();
    assert!(
        matches!(
            end,
            Some(End::Exited {
                code: 1,
                output: None
            })
        ),
        "{end:?}"
    );
}
