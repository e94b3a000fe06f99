//! `peitho prune` and the lists of `peitho images`, by the real program over a store that the library filled.

use std::fs;

use peitho::config::Surrounding;
use peitho::names::{Digest, Tenant};
use peitho::store::{Blob, Patience, RefKind, Store};
use serde_json::{Value, json};

use crate::images;
use crate::program::{Ended, Place};

const IMAGE: &str = "dev-peer0-basic_1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// Runs it over the store of `place`.
fn peitho(place: &Place, line: &str) -> Ended {
    let store = place.path().join("store");
    let variables = [("PEITHO_STORE__DIRECTORY", store.to_str().unwrap())];
    let words: Vec<&str> = line.split(' ').collect();
    let ended = place.run_with(&words, &variables);
    assert_eq!(ended.stderr, "", "{line}");
    ended
}

/// A store with an image, the result of a compile, and a blob that nothing needs.
struct Filled {
    place: Place,
    store: Store,
    layer: Blob,
    unnamed: Blob,
}

impl Filled {
    async fn new() -> Self {
        let place = Place::new();
        let store = Store::open(&place.path().join("store")).await.unwrap();
        let (layer, output) = (put(&store, b"layer").await, put(&store, b"output").await);
        let unnamed = put(&store, b"unnamed").await;
        let tenant = Tenant::default_tenant();
        let image = json!({
            "name": format!("docker.io/library/{IMAGE}:latest"),
            "id": layer.digest,
            "base": {"name": "docker.io/hyperledger/fabric-baseos:2.5", "config": null, "digest": Digest::of(b"base")},
            "layer": {"blob": layer, "diffId": layer.digest, "destination": "/usr/local/bin", "entries": []},
            "env": [], "labels": {"org.hyperledger.fabric.version": "2.5.16"}, "manifest": null,
            "builder": {"name": "docker.io/hyperledger/fabric-ccenv:2.5", "digest": Digest::of(b"builder")},
        });
        let name = format!("docker.io/library/{IMAGE}:latest");
        let put = store.put_ref(RefKind::Image, &tenant, &name, &image);
        put.await.unwrap();
        let result = json!({"log": output, "output": output});
        let put = store.put_ref(RefKind::Compile, &tenant, "key", &result);
        put.await.unwrap();
        Self {
            place,
            store,
            layer,
            unnamed,
        }
    }

    fn has(&self, blob: &Blob) -> bool {
        let path = self.place.path().join("store/blobs/sha256");
        path.join(blob.digest.hex()).exists()
    }
}

async fn put(store: &Store, content: &[u8]) -> Blob {
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(content).await.unwrap();
    store.commit(ingest).await.unwrap()
}

#[tokio::test]
async fn without_a_server_what_nothing_needs_goes_at_once() {
    let filled = Filled::new().await;
    // This test is a server until here.
    let (layer, unnamed) = (filled.layer, filled.unnamed);
    let Filled { place, store, .. } = filled;
    drop(store);
    let told = peitho(&place, "prune --dry-run");
    assert_eq!(
        told.stdout,
        "results of compiles: 0, 0.0 kB\nparts of compilers' caches: 0, 0.0 kB\nblobs that nothing needs: 1, 0.0 kB\nall of this would go\n"
    );
    let blobs = place.path().join("store/blobs/sha256");
    assert!(blobs.join(unnamed.digest.hex()).exists());
    let done = peitho(&place, "prune");
    assert!(
        done.stdout.ends_with("all of this is gone\n"),
        "{}",
        done.stdout
    );
    assert!(!blobs.join(unnamed.digest.hex()).exists());
    assert!(blobs.join(layer.digest.hex()).exists());
    assert_eq!(
        fs::read_dir(place.path().join("store/trash"))
            .unwrap()
            .count(),
        0
    );
    let again = peitho(&place, "prune");
    assert!(
        again.stdout.contains("needs: 0, 0.0 kB"),
        "{}",
        again.stdout
    );

    // The result goes by age, the image by age and order.
    let done = peitho(&place, "prune --older-than 0s --tenant other");
    assert!(done.stdout.contains("compiles: 0"), "{}", done.stdout);
    let done = peitho(&place, "prune --older-than 0s");
    assert!(done.stdout.contains("compiles: 1"), "{}", done.stdout);
    assert!(blobs.join(layer.digest.hex()).exists());
    let done = peitho(&place, "prune --images --older-than 0s");
    let told = format!("image {IMAGE}:latest of the tenant default\n");
    assert!(done.stdout.starts_with(&told), "{}", done.stdout);
    assert!(
        done.stdout.contains("install the package again"),
        "{}",
        done.stdout
    );
    assert_eq!(fs::read_dir(&blobs).unwrap().count(), 0);
}

/// The image is gone, though its layer cannot be moved to the trash.
#[tokio::test]
async fn what_went_before_an_error_is_told() {
    let Filled { place, store, .. } = Filled::new().await;
    drop(store);
    let trash = place.path().join("store/trash");
    fs::write(&trash, "no directory").unwrap();
    let directory = format!("store.directory={}", place.path().join("store").display());
    let order = [
        "prune",
        "--images",
        "--older-than",
        "0s",
        "--set",
        &directory,
    ];
    let ended = place.run(&order);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Not a directory"), "{}", ended.stderr);
    let told = format!(
        "image {IMAGE}:latest of the tenant default\nresults of compiles: 1, 0.0 kB\nparts of compilers' caches: 0, 0.0 kB\nthis much is gone; "
    );
    assert!(ended.stdout.starts_with(&told), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("install the package again"),
        "{}",
        ended.stdout
    );
    fs::remove_file(trash).unwrap();
    peitho(&place, "prune");
    let blobs = place.path().join("store/blobs/sha256");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
}

#[tokio::test]
async fn caches_are_wiped_by_one_command_also_beside_a_server() {
    let filled = Filled::new().await;
    let part = put(&filled.store, b"part").await;
    let tenants: [Tenant; 2] = ["default", "org1"].map(|name| name.parse().unwrap());
    let kept = json!({"blob": part, "extent": "whole", "made": 1, "worth": 1});
    for tenant in &tenants {
        let name = "sha256:builder/amd64/1";
        let put = filled.store.put_ref(RefKind::Cache, tenant, name, &kept);
        put.await.unwrap();
    }
    let left = async |tenant| {
        let listed = filled.store.list_refs(RefKind::Cache, tenant).await;
        listed.unwrap().len()
    };
    let told = peitho(&filled.place, "prune").stdout;
    assert!(told.contains("caches: 0, 0.0 kB"), "{told}");
    let told = peitho(&filled.place, "prune --caches --dry-run").stdout;
    assert!(told.contains("caches: 2, 0.0 kB"), "{told}");
    assert_eq!(left(&tenants[1]).await, 1);
    peitho(&filled.place, "prune --caches --tenant org1");
    assert_eq!((left(&tenants[0]).await, left(&tenants[1]).await), (1, 0));
    peitho(&filled.place, "prune --caches");
    assert_eq!(left(&tenants[0]).await, 0);
}

#[tokio::test]
async fn beside_a_server_records_go_and_blobs_stay_for_it() {
    let filled = Filled::new().await;
    let order = "prune --images --older-than 0s";
    let told = peitho(&filled.place, &format!("{order} --dry-run"));
    let done = peitho(&filled.place, order);
    for (stdout, verb) in [(told.stdout, "would go"), (done.stdout, "are gone")] {
        let line = format!(
            "blobs that no record names: 3, 0.0 kB\nrecords {verb}; of the blobs, those that no container and no install needs go by the next two collections of a server, since another process has the store open\n"
        );
        assert!(stdout.contains(&line), "{stdout}");
    }
    assert!(filled.has(&filled.unnamed) && filled.has(&filled.layer));
    let tenant = Tenant::default_tenant();
    let left = filled.store.list_refs(RefKind::Image, &tenant).await;
    assert_eq!(left.unwrap(), Vec::<String>::new());
}

/// Nobody can tell there who else has it open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_bucket_records_go_and_blobs_wait_for_a_server() {
    let started = tokio::task::spawn_blocking(|| {
        let server = testbed::S3::start().unwrap();
        let objects = server.make_bucket("images").unwrap();
        (server, objects)
    });
    let (server, objects) = started.await.unwrap();
    let place = Place::new();
    let secret = place.file("secret", testbed::S3::SECRET_KEY);
    let mut config = peitho::config::Store {
        directory: Some(place.path().join("other")),
        ..Default::default()
    };
    config.s3 = peitho::config::S3 {
        bucket: "images".to_owned(),
        endpoint: Some(server.endpoint()),
        access_key_id: Some(testbed::S3::ACCESS_KEY.to_owned()),
        secret_access_key_file: Some(secret),
        ..Default::default()
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = Store::configured(&config, Surrounding::Machine, Patience::OfCommand);
    let store = store.await.unwrap();
    let output = put(&store, b"output").await;
    let kept = json!({"log": output, "output": output});
    let tenant = Tenant::default_tenant();
    let put = store.put_ref(RefKind::Compile, &tenant, "key", &kept);
    put.await.unwrap();
    drop(store);

    let endpoint = server.endpoint();
    let access_key = format!("store.s3.accessKeyId={}", testbed::S3::ACCESS_KEY);
    let ended = place.run(&[
        "prune",
        "--older-than",
        "0s",
        "--set",
        "store.directory=own",
        "--set",
        "store.s3.bucket=images",
        "--set",
        &format!("store.s3.endpoint={endpoint}"),
        "--set",
        &access_key,
        "--set",
        "store.s3.secretAccessKeyFile=secret",
    ]);
    assert_eq!(ended.stderr, "");
    assert!(
        ended
            .stdout
            .ends_with("of a server that uses the bucket, and without one they stay\n"),
        "{}",
        ended.stdout
    );
    let blob = format!("blobs/sha256/{}", output.digest.hex());
    assert!(objects.join(blob).exists());
    let records = fs::read_dir(objects.join("refs/v1/compile/default"));
    assert_eq!(records.map_or(0, Iterator::count), 0);
}

#[tokio::test]
async fn images_tell_where_they_come_from() {
    let filled = Filled::new().await;
    let wide = peitho(&filled.place, "images -o wide").stdout;
    let line = wide.lines().nth(1).unwrap();
    let columns: Vec<_> = line
        .split("   ")
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    assert_eq!(
        columns[..2],
        [format!("{IMAGE}:latest"), "default".to_owned()]
    );
    let short = |of: &[u8]| Digest::of(of).hex()[..12].to_owned();
    let origin = [
        "0123456789ab".to_owned(),
        "2.5.16".to_owned(),
        "hyperledger/fabric-baseos:2.5".to_owned(),
        short(b"base"),
        "hyperledger/fabric-ccenv:2.5".to_owned(),
        short(b"builder"),
    ];
    assert_eq!(columns[5..], origin, "{wide}");
    let plain = peitho(&filled.place, "images").stdout;
    assert!(
        plain.starts_with("NAME") && !plain.contains("BUILDER"),
        "{plain}"
    );

    let all: Value = serde_json::from_str(&peitho(&filled.place, "images -o json").stdout).unwrap();
    assert_eq!(all[0]["tenant"], "default");
    assert_eq!(all[0]["builderDigest"], Digest::of(b"builder").to_string());
    assert_eq!(all[0]["packageHash"].as_str().unwrap().len(), 64);

    let sound = peitho(&filled.place, "images verify");
    assert_eq!(
        (sound.code, &*sound.stdout),
        (Some(0), "images: 1, troubles: 0\n")
    );
    let layer = filled
        .place
        .path()
        .join("store/blobs/sha256")
        .join(filled.layer.digest.hex());
    fs::write(layer, "lager").unwrap();
    let damaged = peitho(&filled.place, "images verify");
    assert_eq!(damaged.code, Some(1));
    assert!(
        damaged.stdout.ends_with("images: 1, troubles: 2\n"),
        "{}",
        damaged.stdout
    );
    assert!(
        damaged.stdout.contains("has lost its layer"),
        "{}",
        damaged.stdout
    );
    assert_eq!(
        peitho(&filled.place, "images verify").stdout,
        "images: 0, troubles: 0\n"
    );
}

#[tokio::test]
async fn a_base_is_removed_by_its_name_and_what_stands_on_it_is_told() {
    const BASE: &str = "hyperledger/fabric-baseos:2.5";
    let filled = Filled::new().await;
    let archive = images::archive(&json!([BASE, "another/base:1"]));
    filled.place.file("bases.tar", archive);
    peitho(&filled.place, "images import bases.tar");
    let done = peitho(&filled.place, &format!("images rm {BASE}"));
    let lines: Vec<_> = done.stdout.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{BASE} is held no longer; ")),
        "{lines:?}"
    );
    let note = format!("note: {IMAGE}:latest of the tenant default stands on it: ");
    assert!(lines[1].starts_with(&note), "{lines:?}");
    let listed = peitho(&filled.place, "images").stdout;
    assert!(
        !listed.contains(BASE) && listed.contains("another/base:1"),
        "{listed}"
    );
    let done = peitho(&filled.place, "images rm another/base:1");
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);

    let store = format!(
        "store.directory={}",
        filled.place.path().join("store").display()
    );
    let refused = filled.place.run(&["images", "rm", BASE, "--set", &store]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("holds no base image"),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_is_dangerous_needs_an_age() {
    let place = Place::new();
    for line in [
        "prune --images",
        "prune --tenant org1",
        "prune --older-than soon",
    ] {
        let ended = place.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(ended.code, Some(2), "{line}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("older-than"),
            "{line}: {}",
            ended.stderr
        );
    }
    let ended = place.run(&["prune", "--set", "store.directory=none"]);
    assert_eq!(ended.stderr, "error: there is no store in none\n");
}
