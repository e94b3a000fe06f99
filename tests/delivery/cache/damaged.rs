//! Parts and records that are damaged, gone, or another release's.

use std::fs;

use axum::extract::Request;
use axum::middleware::Next;

use super::trouble::architecture;
use super::*;

#[tokio::test]
async fn a_damaged_part_is_told_and_mended() {
    let mut place = Place::new().await;
    let script = format!("{} >CACHE/a; echo b >CACHE/b", noise(300_000));
    place.compile(&script).await;
    let blob = place.increment().await;
    let path = place.world.directory.path().join("store/blobs/sha256");
    let path = path.join(blob.digest.hex());
    let whole = fs::read(&path).unwrap();
    for damage in ["a byte", "cut"] {
        let mut content = whole.clone();
        match damage {
            "a byte" => content[150_000] ^= 1,
            _ => content.truncate(200_000),
        }
        fs::write(&path, content).unwrap();
        let script = "ls CACHE; echo mended >CACHE/c";
        let cold = place.compile(script).await;
        let told = match damage {
            "a byte" => "peitho agent: compiles without the compiler's cache: ",
            // Its length tells, before anybody is told of it.
            _ => "",
        };
        assert!(cold.log.starts_with(told), "{}", cold.log);
        let lines = usize::from(!told.is_empty());
        assert_eq!(
            cold.log.lines().count(),
            lines,
            "nothing is left: {}",
            cold.log
        );
        assert_eq!(cold.code, 0);
        assert_eq!(place.compile("ls CACHE").await.log, "c\n", "{damage}");
        // And once more.
        let tenant = Tenant::default_tenant();
        for name in place.increments("default").await {
            let removed = place.world.store.remove_ref(RefKind::Cache, &tenant, &name);
            removed.await.unwrap();
        }
        fs::write(&path, &whole).unwrap();
        let record = serde_json::json!({"blob": blob, "extent": "whole", "made": 1, "worth": 1});
        let name = format!("{}/{}/0", Digest::of(b"builder"), architecture());
        let put = place
            .world
            .store
            .put_ref(RefKind::Cache, &tenant, &name, &record);
        put.await.unwrap();
    }
}

/// Nor does the run's end.
#[tokio::test]
async fn no_command_waits_until_a_damaged_part_is_told() {
    let mut place = Place::new().await;
    place.compile(&format!("{} >CACHE/a", noise(300_000))).await;
    let blob = place.increment().await;
    let blobs = place.world.directory.path().join("store/blobs/sha256");
    let path = blobs.join(blob.digest.hex());
    let mut content = fs::read(&path).unwrap();
    content[150_000] ^= 1;
    fs::write(&path, content).unwrap();
    let told = Arc::new(Notify::new());
    let held = Arc::clone(&told);
    let hold = move |request: Request, next: Next| {
        let held = Arc::clone(&held);
        async move {
            if request.method() == http::Method::DELETE {
                held.notified().await;
            }
            next.run(request).await
        }
    };
    let router = place.world.router().await;
    let router = router.layer(axum::middleware::from_fn(hold));
    let server = place.world.serve_as(any_port(), router).await;
    let (mut args, asked) = place.begun("default", "ls CACHE; echo b >CACHE/b").await;
    args.place.address = server.url.clone();
    let running = tokio::spawn(run(args, CancellationToken::new()));
    let ended = end(&asked).await;
    assert!(matches!(ended, End::Exited { code: 0, .. }), "{ended:?}");
    told.notify_one();
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(place.compile("ls CACHE").await.log, "b\n");
}

#[tokio::test]
async fn a_part_that_is_gone_is_no_trouble() {
    let mut place = Place::new().await;
    place.compile("echo a >CACHE/a").await;
    let blob = place.increment().await;
    let path = place.world.directory.path().join("store/blobs/sha256");
    fs::remove_file(path.join(blob.digest.hex())).unwrap();
    let cold = place.compile("ls CACHE; echo b >CACHE/b").await;
    assert_eq!((cold.code, cold.log.as_str()), (0, ""));
    assert_eq!(place.compile("ls CACHE").await.log, "b\n");
}

/// Two releases beside one store have use for what they wrote each. What is damaged has none.
#[tokio::test]
async fn the_record_of_another_release_stays() {
    let mut place = Place::new().await;
    let tenant = Tenant::default_tenant();
    let name = format!("{}/{}/0", Digest::of(b"builder"), architecture());
    let strange = serde_json::json!({"parts": ["of another shape"]});
    let put = (place.world.store).put_ref(RefKind::Cache, &tenant, &name, &strange);
    put.await.unwrap();
    let refs = place
        .world
        .directory
        .path()
        .join("store/refs/v1/cache/default");
    let damaged = refs.join(format!("{}.json", Digest::of(b"damaged").hex()));
    fs::write(&damaged, "no record").unwrap();
    assert_eq!(place.compile("ls CACHE; echo a >CACHE/a").await.log, "");
    assert!(!damaged.exists());
    assert_eq!(place.compile("ls CACHE").await.log, "a\n");
    let there = place
        .world
        .store
        .get_ref::<serde_json::Value>(RefKind::Cache, &tenant, &name);
    assert_eq!(there.await.unwrap(), Some(strange));
}
