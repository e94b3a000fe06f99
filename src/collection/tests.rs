//! Passes over a real store in a directory, and those that meet others in a bucket of a real server of S3 too. Time is the files':
//! what is to be old is dated back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;

use super::*;
use crate::config;
use crate::image::Base;
use crate::image_spec::Layer;
use crate::names::ImageName;
use crate::store::{Blob, Patience, Verdict};

mod bucket;
mod caches;
mod damage;
mod passes;
mod results;

const GRACE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    /// Where the files of its objects are.
    objects: PathBuf,
    store: Store,
    tenant: Tenant,
    config: config::Store,
    root: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self::of(root.path().to_owned(), config::S3::default(), root).await
    }

    async fn of(objects: PathBuf, s3: config::S3, root: tempfile::TempDir) -> Self {
        let mut config = config::Store {
            directory: Some(root.path().to_owned()),
            ..config::Store::default()
        };
        config.s3 = s3;
        Self {
            objects,
            store: opened(&config).await,
            tenant: Tenant::default_tenant(),
            config,
            root,
        }
    }

    /// The store as another process opens it, for a bucket one of another machine.
    async fn elsewhere(&self) -> Store {
        let mut config = self.config.clone();
        if config.bucket().is_some() {
            let other = format!("other-{:016x}", rand::random::<u64>());
            config.directory = Some(self.root.path().join(other));
        }
        opened(&config).await
    }

    fn path(&self, place: &str) -> PathBuf {
        self.objects.join(place)
    }

    fn blob(&self, blob: &Blob) -> PathBuf {
        self.path("blobs/sha256").join(blob.digest.hex())
    }

    async fn put(&self, content: &[u8]) -> Blob {
        put(&self.store, content).await
    }

    /// A blob that was there long ago.
    async fn put_old(&self, content: &[u8]) -> Blob {
        let blob = self.put(content).await;
        date_back(&self.blob(&blob), DAY);
        blob
    }

    async fn image(&self, name: &str, layer: Blob) -> Image {
        let image = image(name, layer);
        put_image(&self.store, &self.tenant, &image).await;
        image
    }

    async fn remove(&self, image: &Image) {
        let name = image.name.full();
        let removed = (self.store).remove_ref(RefKind::Image, &self.tenant, &name);
        assert!(removed.await.unwrap());
    }

    fn record(&self, kind: &str, name: &str) -> PathBuf {
        let hex = Digest::of(name.as_bytes()).hex();
        self.path(&format!("refs/v1/{kind}/default/{hex}.json"))
    }

    async fn result(&self, name: &str, output: Blob, log: Blob, unused_for: Duration) {
        let kept = json!({"output": output, "log": log});
        let put = self
            .store
            .put_ref(RefKind::Compile, &self.tenant, name, &kept);
        put.await.unwrap();
        date_back(&self.record("compile", name), unused_for);
    }

    async fn collect(&self) -> Collected {
        let rules = rules(GRACE);
        let told = pass(&self.store, &rules, Doing::Tell).await.unwrap();
        let done = pass(&self.store, &rules, Doing::Collect).await.unwrap();
        assert_eq!(told, done, "what was told is what was done");
        done
    }

    fn trash(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("trash")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// As if what is in the trash had come there a day ago.
    fn age_trash(&self) {
        for path in self.trash() {
            let name = path.file_name().unwrap().to_str().unwrap();
            let parts: Vec<_> = name.split('.').collect();
            let since: u64 = parts[1].parse().unwrap();
            let name = format!("{}.{}.{}", parts[0], since - DAY.as_secs(), parts[2]);
            fs::rename(&path, path.with_file_name(name)).unwrap();
        }
    }
}

async fn opened(config: &config::Store) -> Store {
    let opened = Store::configured(config, config::Surrounding::Machine, Patience::OfServer);
    opened.await.unwrap()
}

async fn checked(store: &Store, depth: Depth) -> Findings {
    let findings = check(store, depth).await;
    assert!(findings.unfinished.is_none(), "{findings:?}");
    findings
}

async fn put(store: &Store, content: &[u8]) -> Blob {
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(content).await.unwrap();
    store.commit(ingest).await.unwrap()
}

fn image(name: &str, layer: Blob) -> Image {
    let name: ImageName = name.parse().unwrap();
    Image {
        id: layer.digest,
        base: Base {
            name: "base:1".parse().unwrap(),
            config: None,
            digest: None,
            facts: Default::default(),
        },
        layer: Layer {
            blob: layer,
            diff_id: layer.digest,
            destination: "/usr/local/bin".to_owned(),
            entries: Vec::new(),
        },
        env: Vec::new(),
        labels: BTreeMap::new(),
        manifest: None,
        pushed: None,
        builder: None,
        name,
    }
}

async fn put_image(store: &Store, tenant: &Tenant, image: &Image) {
    let name = image.name.full();
    let put = store.put_ref(RefKind::Image, tenant, &name, image);
    put.await.unwrap();
}

fn rules(grace: Duration) -> Rules {
    Rules {
        grace,
        results: u64::MAX,
        caches: u64::MAX,
        wiped: None,
        unused: None,
        built: None,
        in_use: HashSet::new(),
    }
}

fn date_back(path: &Path, by: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

fn sum(blobs: u64, bytes: u64) -> Sum {
    Sum { blobs, bytes }
}

#[tokio::test]
async fn what_nothing_names_goes_by_the_second_pass_and_the_rest_stays() {
    let world = World::new().await;
    let (named, unnamed) = (
        world.put_old(b"named").await,
        world.put_old(b"unnamed").await,
    );
    let fresh = world.put(b"fresh").await;
    let launched = world.put_old(b"launched").await;
    world.image("dev-peer0-basic", named).await;
    let mut rules = rules(GRACE);
    rules.in_use.insert(launched.digest);
    let collect = || pass(&world.store, &rules, Doing::Collect);

    let first = collect().await.unwrap();
    assert_eq!((first.aside, first.gone), (sum(1, 7), sum(0, 0)));
    assert!(!world.blob(&unnamed).exists());
    assert_eq!(collect().await.unwrap(), Collected::default(), "not yet");
    world.age_trash();
    let second = collect().await.unwrap();
    assert_eq!((second.aside, second.gone), (sum(0, 0), sum(1, 7)));
    assert_eq!(world.trash(), Vec::<PathBuf>::new());
    assert_eq!(world.store.judge(&unnamed).await.unwrap(), Verdict::Missing);
    for blob in [named, fresh, launched] {
        assert!(world.blob(&blob).exists());
    }
}

#[tokio::test]
async fn an_image_stays_however_old_it_is_until_it_is_removed() {
    let world = World::new().await;
    let layer = world.put_old(b"layer").await;
    let image = world.image("dev-peer0-basic", layer).await;
    date_back(&world.record("image", &image.name.full()), 1000 * DAY);
    assert_eq!(world.collect().await, Collected::default());
    world.remove(&image).await;
    assert_eq!(world.collect().await.aside, sum(1, 5));
}

#[tokio::test]
async fn images_go_by_age_where_that_is_ordered() {
    let world = World::new().await;
    let (old, new) = (world.put_old(b"old").await, world.put_old(b"new").await);
    let (old, _) = (
        world.image("dev-old", old).await,
        world.image("dev-new", new).await,
    );
    date_back(&world.record("image", &old.name.full()), DAY);
    let order = |tenant: Option<&Tenant>| Rules {
        built: Some(Old {
            than: DAY,
            tenant: tenant.cloned(),
        }),
        ..rules(GRACE)
    };
    let other: Tenant = "other".parse().unwrap();
    let told = pass(&world.store, &order(Some(&other)), Doing::Tell).await;
    assert_eq!(told.unwrap(), Collected::default());
    let told = pass(&world.store, &order(None), Doing::Tell).await.unwrap();
    let done = pass(&world.store, &order(Some(&world.tenant)), Doing::Collect).await;
    assert_eq!(told, done.unwrap());
    assert_eq!(told.images, [(world.tenant.clone(), old.name)]);
    assert_eq!(told.aside, sum(1, 3));
    let left = world.store.list_refs(RefKind::Image, &world.tenant).await;
    assert_eq!(left.unwrap(), ["docker.io/library/dev-new:latest"]);
}

/// One is built again, as by a peer of 1.4, between the reading and the removal.
#[tokio::test]
async fn an_image_that_was_built_again_is_not_removed_by_age() {
    let world = World::new().await;
    let (again, old) = (world.put_old(b"again").await, world.put_old(b"old").await);
    let image = world.image("dev-again", again).await;
    world.image("dev-old", old).await;
    let all = Old {
        than: Duration::ZERO,
        tenant: None,
    };
    let read = Images::read(&world.store, Some(&all)).await.unwrap();
    put_image(&world.store, &world.tenant, &image).await;
    let going = Going {
        images: read.leaving,
        ..Going::default()
    };
    let mut named = HashSet::new();
    let (gone, ended) = going.remove(&world.store, &mut named).await;
    ended.unwrap();
    let old: ImageName = "dev-old".parse().unwrap();
    assert_eq!(gone.told().images, [(world.tenant.clone(), old)]);
    assert_eq!(named, HashSet::from([again.digest]));
    assert!(world.record("image", &image.name.full()).exists());
}

#[tokio::test]
async fn a_reader_in_between_brings_a_blob_back() {
    let world = World::new().await;
    let blob = world.put_old(b"read").await;
    world.collect().await;
    assert_eq!(world.trash().len(), 1);
    assert!(world.store.open_blob(&blob.digest).await.unwrap().is_some());
    assert_eq!(world.trash().len(), 0);
    assert!(world.blob(&blob).exists());
}

/// The bytes are committed as present a moment before they are moved, and named a moment after.
#[tokio::test]
async fn a_ref_that_comes_between_the_passes_counts() {
    let world = World::new().await;
    let blob = world.put_old(b"layer").await;
    assert_eq!(world.collect().await.aside, sum(1, 5));
    world.image("dev-peer0-basic", blob).await;
    world.age_trash();
    assert_eq!(world.collect().await.back, sum(1, 5));
    assert!(world.blob(&blob).exists());
    assert_eq!(world.collect().await, Collected::default());
}

#[tokio::test]
async fn the_same_bytes_may_be_committed_while_they_are_in_the_trash() {
    let world = World::new().await;
    let blob = world.put_old(b"again").await;
    world.collect().await;
    assert_eq!(world.put(b"again").await, blob);
    world.image("dev-peer0-basic", blob).await;
    world.age_trash();
    assert_eq!(world.collect().await.back, sum(1, 5));
    assert!(world.store.holds(&blob).await.unwrap());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_collection() {
    let world = World::new().await;
    let blob = world.put_old(b"whose").await;
    let image = world.image("dev-peer0-basic", blob).await;
    let record = world.record("image", &image.name.full());
    for damage in [
        "",
        "{\"name\": 1}",
        "{\"name\": \"dev-peer0-basic\", \"value\": 1}",
    ] {
        fs::write(&record, damage).unwrap();
        let error = pass(&world.store, &rules(GRACE), Doing::Collect)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error}");
        let place = record.strip_prefix(&world.objects).unwrap();
        assert!(
            error.to_string().contains(place.to_str().unwrap()),
            "{error}"
        );
        assert!(world.blob(&blob).exists());
    }
    // In quarantine too: its layer may be wanted.
    checked(&world.store, Depth::Lengths).await;
    let error = pass(&world.store, &rules(GRACE), Doing::Collect)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("quarantine/refs/v1/image"),
        "{error}"
    );
    fs::remove_dir_all(world.path("quarantine")).unwrap();
    assert_eq!(world.collect().await.aside, sum(1, 5));
}
