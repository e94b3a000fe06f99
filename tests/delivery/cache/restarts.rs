//! A Peitho that ends while a cache is on its way, and starts anew: whoever wants the same again joins the run that goes on.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use tokio::sync::Notify;

use super::*;

#[tokio::test]
async fn a_compile_whose_cache_breaks_off_with_its_server_is_joined_at_the_next() {
    let mut place = Place::new().await;
    place
        .compile(&format!("{} >CACHE/large", noise(300_000)))
        .await;
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let silent = move || async move {
        told.notify_one();
        let first = futures::stream::iter([Ok::<_, std::io::Error>(MAGIC.to_vec())]);
        Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending()))
    };
    let spoilt = Router::new().route("/compile/{key}/cache/{digest}", get(silent));
    let router = spoilt.fallback_service(place.world.router().await);
    let first = place.world.serve_as(any_port(), router).await;
    let tenant = Tenant::default_tenant();
    let builder = Some(Digest::of(b"builder"));
    let source = tar(&[("cut", 0o644, b"")]);
    let (key, _asked) = place.world.ordered(&tenant, builder, Some(&source)).await;
    let mut args = place.args(key, "ls CACHE; echo compiled", "cut");
    args.place.address = first.url.clone();
    let agent = tokio::spawn(run(args, CancellationToken::new()));
    begun.notified().await;
    let mut anew = place.world.restarted().await;
    let (same, one) = anew.ordered(&tenant, builder, Some(&source)).await;
    assert_eq!(same, key);
    let two = anew.asked(&tenant, builder, Some(&source)).await;
    let _second = anew.serve(first.stop().await).await;
    for joined in [&one, &two] {
        assert!(matches!(end(joined).await, End::Exited { code: 0, .. }));
        let log = whole_log(joined).await;
        let without = "peitho agent: compiles without the compiler's cache: ";
        assert!(log.starts_with(without), "{log}");
        assert!(log.ends_with("\ncompiled\n"), "{log}");
        assert_eq!(log.lines().count(), 2, "{log}");
    }
    assert_eq!(agent.await.unwrap().unwrap(), 0);
    assert_eq!(place.increments("default").await.len(), 1);
}

/// Who wants the same again after a crash joins a run that has told already how it ended, to a Peitho that is gone.
#[tokio::test]
async fn a_peitho_that_started_anew_is_told_once_more() {
    let mut place = Place::new().await;
    let (first, begun) = place.serve_without_taking().await;
    let tenant = Tenant::default_tenant();
    let builder = Some(Digest::of(b"builder"));
    let source = tar(&[("twice", 0o644, b"")]);
    let (key, asked) = place.world.ordered(&tenant, builder, Some(&source)).await;
    let mut args = place.args(key, "echo x >CACHE/x; echo failed; exit 3", "twice");
    args.place.address = first.url.clone();
    let agent = tokio::spawn(run(args, CancellationToken::new()));
    let failed = End::Exited {
        code: 3,
        output: None,
    };
    assert_eq!(end(&asked).await, failed);
    begun.notified().await;
    let mut anew = place.world.restarted().await;
    let (same, joined) = anew.ordered(&tenant, builder, Some(&source)).await;
    assert_eq!(same, key);
    let _second = anew.serve(first.stop().await).await;
    assert_eq!(end(&joined).await, failed);
    assert_eq!(whole_log(&joined).await, "failed\n");
    assert_eq!(agent.await.unwrap().unwrap(), 3);
}
