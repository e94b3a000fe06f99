//! What containers were made of stays in the store, also when its image was removed.

use std::fs::File;
use std::time::{Duration, SystemTime};

use peitho::collection::Service;
use peitho::names::{Digest, Tenant};
use peitho::store::{Blob, RefKind, Store};
use serde_json::json;
use tokio::sync::watch;

use super::bodies::{IMAGE, complete};
use super::world::World;
use crate::once::once;

#[tokio::test]
async fn the_layer_of_a_container_outlives_its_image() {
    let world = World::new().await;
    let built = world
        .send("POST", &format!("/build?t={IMAGE}"), &complete())
        .await;
    assert_eq!(built.status, 200, "{built:?}");
    let order = json!({"Image": IMAGE}).to_string();
    // The cluster of these tests has it already, and notes the order all the same.
    world
        .send("POST", "/containers/create?name=cc", order.as_bytes())
        .await;
    let removed = world
        .ask("DELETE", &format!("/images/{IMAGE}?force=1"))
        .await;
    assert_eq!(removed.status, 200, "{removed:?}");

    let blobs = world.directory.join("blobs/sha256");
    let count = || std::fs::read_dir(&blobs).unwrap().count();
    for blob in std::fs::read_dir(&blobs).unwrap() {
        let blob = File::options()
            .write(true)
            .open(blob.unwrap().path())
            .unwrap();
        blob.set_modified(SystemTime::now() - Duration::from_secs(7200))
            .unwrap();
    }
    let collecting = |tenants: &[&str]| Service {
        store: world.store.clone(),
        containers: world.state.containers.clone(),
        tenants: tenants
            .iter()
            .map(|it| it.parse::<Tenant>().unwrap())
            .collect(),
        every: Duration::from_secs(3600),
        results: u64::MAX,
        caches: u64::MAX,
        gained: watch::channel(0).1,
    };
    // Where nobody can tell what containers there are, nothing goes.
    let all = count();
    *world.cluster.lists.lock().unwrap() = false;
    let failed = collecting(&["default", "org1"])
        .collect()
        .await
        .unwrap_err();
    let failed = failed.to_string();
    assert!(
        failed.starts_with("what containers were made of is not known"),
        "{failed}"
    );
    assert_eq!(count(), all);
    *world.cluster.lists.lock().unwrap() = true;
    collecting(&["default", "org1"]).collect().await.unwrap();
    assert_eq!(count(), 1);
    // Who has no such container would let it go.
    collecting(&["org1"]).collect().await.unwrap();
    assert_eq!(count(), 0);
    // And who has it brings it back.
    collecting(&["default", "org1"]).collect().await.unwrap();
    assert_eq!(count(), 1);
}

/// A part of a compiler's cache, the only one of its builder, that was used so many seconds ago.
async fn kept(world: &World, builder: &str, unused: u64) -> Blob {
    let blob = committed(world, &[builder.as_bytes(), &[0; 1000]].concat()).await;
    let name = format!("{builder}/amd64/0");
    let kept = json!({"blob": blob, "extent": "whole", "made": 1});
    recorded(world, (RefKind::Cache, "cache"), &name, &kept, unused).await;
    blob
}

async fn committed(world: &World, bytes: &[u8]) -> Blob {
    let mut ingest = world.store.ingest().await.unwrap();
    ingest.append(bytes).await.unwrap();
    world.store.commit(ingest).await.unwrap()
}

/// A record of that kind, whose directory has this name, as if it was used so many seconds ago.
async fn recorded(
    world: &World,
    (kind, directory): (RefKind, &str),
    name: &str,
    value: &serde_json::Value,
    unused: u64,
) {
    let tenant = Tenant::default_tenant();
    let put = world.store.put_ref(kind, &tenant, name, value);
    put.await.unwrap();
    let hex = Digest::of(name.as_bytes()).hex();
    let record = format!("refs/v1/{directory}/default/{hex}.json");
    let record = File::options()
        .write(true)
        .open(world.directory.join(record))
        .unwrap();
    record
        .set_modified(SystemTime::now() - Duration::from_secs(unused))
        .unwrap();
}

/// The builders of which something is kept, once these are so many.
async fn once_kept(store: &Store, count: usize) -> Vec<String> {
    let what = format!("parts of so many compilers' caches are kept: {count}");
    once(&what, async || {
        let tenant = Tenant::default_tenant();
        let mut there = store.list_refs(RefKind::Cache, &tenant).await.unwrap();
        there.sort();
        (there.len() == count).then_some(there)
    })
    .await
}

#[tokio::test]
async fn what_compilers_keep_does_not_outgrow_its_limit_between_two_collections() {
    let world = World::new().await;
    kept(&world, "a", 300).await;
    let b = kept(&world, "b", 200).await;
    // Results were used before all of them, and have no part in this.
    let result = json!({"log": committed(&world, b"log").await});
    recorded(
        &world,
        (RefKind::Compile, "compile"),
        "result",
        &result,
        9000,
    )
    .await;
    let (brought, gained) = watch::channel(0);
    let collecting = Service {
        store: world.store.clone(),
        containers: world.state.containers.clone(),
        tenants: [Tenant::default_tenant()].into(),
        every: Duration::from_secs(3600),
        results: u64::MAX,
        caches: 1500,
        gained,
    };
    let collecting = tokio::spawn(collecting.run());
    // The first pass, as there is none for an hour then.
    assert_eq!(once_kept(&world.store, 1).await, ["b/amd64/0"]);
    kept(&world, "c", 100).await;
    brought.send_replace(1001);
    assert_eq!(once_kept(&world.store, 1).await, ["c/amd64/0"]);
    // At once: its bytes do not wait in the trash.
    let blob = world.directory.join("blobs/sha256").join(b.digest.hex());
    let gone = async || (!blob.exists()).then_some(());
    once("the bytes of what is beyond the limit are gone", gone).await;
    let tenant = Tenant::default_tenant();
    let results = world.store.list_refs(RefKind::Compile, &tenant).await;
    assert_eq!(results.unwrap(), ["result"]);
    collecting.abort();
}
