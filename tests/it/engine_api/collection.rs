//! What containers were made of stays in the store, also when its image was removed.

use std::fs::File;
use std::time::{Duration, SystemTime};

use peitho::collection::Service;
use peitho::names::Tenant;
use serde_json::json;

use super::bodies::{IMAGE, complete};
use super::world::World;

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
