//! A store of ten thousand images: the bounds of its start, its collection and its memory. They are those of a slow machine and a
//! program that is not optimised; `make bench` has the figures that are promised.

use std::fs;
use std::time::{Duration, Instant};

use peitho::names::{Digest, Tenant};
use peitho::store::{RefKind, Store};
use serde_json::json;

use crate::kubernetes;
use crate::program::Place;

const IMAGES: usize = 10_000;
/// A check or a collection that reads each record once for each image would take hours.
const LONGEST: Duration = Duration::from_secs(60);
/// A program that is not optimised has 59 MiB.
const MOST_KIB: u64 = 128 << 10;

/// One record is written by the store itself, and tells what the others look like: ten thousand syncs would take minutes.
async fn fill(place: &Place) {
    let directory = place.path().join("store");
    let store = Store::open(&directory).await.unwrap();
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(b"layer").await.unwrap();
    let layer = store.commit(ingest).await.unwrap();
    let value = |name: &str| {
        json!({
            "name": name, "id": layer.digest, "base": {"name": "docker.io/library/base:1", "config": null},
            "layer": {"blob": layer, "diffId": layer.digest, "destination": "/usr/local/bin", "entries": []},
            "env": [], "labels": {}, "manifest": null,
        })
    };
    let name = |number: usize| format!("docker.io/library/dev-peer0-basic_{number}:latest");
    let tenant = Tenant::default_tenant();
    let first = name(0);
    let written = value(&first);
    let put = store.put_ref(RefKind::Image, &tenant, &first, &written);
    put.await.unwrap();
    let records = directory.join("refs/v1/image/default");
    let place_of = |name: &str| records.join(format!("{}.json", Digest::of(name.as_bytes()).hex()));
    let as_written = |name: &str| json!({"name": name, "value": value(name)}).to_string();
    let read = fs::read(place_of(&first)).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&read).unwrap();
    assert_eq!(read.to_string(), as_written(&first));
    for number in 1..IMAGES {
        let name = name(number);
        fs::write(place_of(&name), as_written(&name)).unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_images_are_checked_and_collected_within_bounds() {
    let place = Place::new();
    fill(&place).await;
    // Nobody is there, so that the start waits once the store is checked.
    let server = kubernetes::nobody();
    let kubeconfig = kubernetes::kubeconfig(&format!("server: 'https://{server}'"), "token: t");
    place.file("kubeconfig", kubeconfig);
    let arguments = place.serve(&["kubernetes.kubeconfig=kubeconfig"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let mut running = place.start(&arguments);
    running.line_with("waiting for the Kubernetes API server");
    let (took, peak) = (begun.elapsed(), running.peak_kib());
    assert!(took < LONGEST && peak < MOST_KIB, "{took:?}, {peak} KiB");
    drop(running);

    let store = format!("store.directory={}", place.path().join("store").display());
    let begun = Instant::now();
    let pruned = place.run(&["prune", "--set", &store]);
    let took = begun.elapsed();
    assert!(
        pruned.stdout.ends_with("all of this is gone\n"),
        "{}",
        pruned.stderr
    );
    assert!(took < LONGEST, "{took:?}");
    let records = place.path().join("store/refs/v1/image/default");
    assert_eq!(fs::read_dir(records).unwrap().count(), IMAGES);
}
