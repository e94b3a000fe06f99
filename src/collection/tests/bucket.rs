//! The passes that meet others, and the check, in a bucket of a real server of S3.

use super::damage::damage_is_told_and_moved_and_never_served;
use super::passes::{
    a_ref_that_comes_during_a_pass_counts_at_the_next,
    passes_of_two_processes_take_nothing_from_builds,
};
use super::*;
use crate::store::fixture;

/// A move is two steps there, and the grace has to be longer than both. Real ones are five minutes and more.
const SHORT: Duration = Duration::from_secs(5);

async fn world() -> World {
    let root = tempfile::tempdir().unwrap();
    let (s3, objects) = fixture::bucket(root.path()).await;
    World::of(objects, s3, root).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ref_that_comes_during_a_pass_of_a_bucket_counts() {
    a_ref_that_comes_during_a_pass_counts_at_the_next(&world().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_over_a_bucket_take_nothing_from_builds() {
    passes_of_two_processes_take_nothing_from_builds(&world().await, SHORT, 40).await;
}

/// By a Peitho without copies: one that has some mends the bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_a_bucket_is_told() {
    let world = world().await;
    let elsewhere = world.elsewhere().await;
    damage_is_told_and_moved_and_never_served(&world, &elsewhere).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_this_machine_mends_the_bucket() {
    let world = world().await;
    let layer = world.put(b"layer").await;
    world.image("dev-peer0-basic", layer).await;
    fs::remove_file(world.blob(&layer)).unwrap();
    let findings = checked(&world.store, Depth::Lengths).await;
    assert_eq!((findings.images, findings.troubles.len()), (1, 1));
    assert!(
        findings.troubles[0].contains("the copy that this machine has"),
        "{findings:?}"
    );
    let elsewhere = world.elsewhere().await;
    let findings = checked(&elsewhere, Depth::Contents).await;
    assert_eq!(findings.troubles, Vec::<String>::new());
}
