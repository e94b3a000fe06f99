//! A bucket that is to take the place of a directory with a store in it.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_populated_directory_is_not_passed_over_for_an_empty_bucket() {
    let world = World::new(Backend::Bucket).await;
    let before = Store::open(world.directory()).await.unwrap();
    let tenant = tenant("a");
    let put = before.put_ref(RefKind::Image, &tenant, "n", &1);
    put.await.unwrap();
    drop(before);
    let error = world.try_open().await.unwrap_err().to_string();
    for part in [
        world.directory().to_str().unwrap(),
        &world.config.s3.bucket,
        "aws s3 sync",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(world.objects(), Vec::<String>::new(), "it is not marked");

    // Once it was brought there, or was in use before, the start only warns.
    drop(world.open_elsewhere().await);
    world.open().await;
}
