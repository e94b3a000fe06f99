//! Passes over a real store in a directory. Time is the files': what is to be old is dated back.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::json;

use super::*;
use crate::image::Base;
use crate::image_spec::Layer;
use crate::names::ImageName;
use crate::store::{Blob, Verdict};

mod damage;
mod results;

const GRACE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    directory: tempfile::TempDir,
    store: Store,
    tenant: Tenant,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        Self {
            directory,
            store,
            tenant: Tenant::default_tenant(),
        }
    }

    fn path(&self, place: &str) -> PathBuf {
        self.directory.path().join(place)
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

/// The ref comes after the refs were read, and before the pass acts.
#[tokio::test]
async fn a_ref_that_comes_during_a_pass_counts_at_the_next() {
    let world = World::new().await;
    let (place, trashed) = (
        world.put_old(b"place").await,
        world.put_old(b"trashed").await,
    );
    let survey = world.store.survey().await.unwrap();
    let named = HashSet::from([place.digest]);
    let plan = survey.plan(&named, &HashSet::new(), GRACE);
    world.store.carry_out(plan).await.unwrap();
    world.age_trash();

    let survey = world.store.survey().await.unwrap();
    let plan = survey.plan(&HashSet::new(), &HashSet::new(), GRACE);
    assert_eq!((plan.aside(), plan.gone()), (sum(1, 5), sum(1, 7)));
    for blob in [place, trashed] {
        world.image(&format!("dev-{}", blob.size), blob).await;
        assert!(world.store.holds(&blob).await.unwrap());
    }
    world.store.carry_out(plan).await.unwrap();
    world.collect().await;
    for blob in [place, trashed] {
        assert!(world.blob(&blob).exists(), "{blob:?}");
    }
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

/// Two processes collect without any grace, as fast as they can, and others build: what was told to be held is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_of_two_processes_take_nothing_from_builds() {
    const BUILDS: usize = 150;
    const ENOUGH: u64 = BUILDS as u64 / 8;
    let world = World::new().await;
    let (stop, stopped) = tokio::sync::watch::channel(());
    let moved = Arc::<AtomicU64>::default();
    let collecting: Vec<_> = (0..2)
        .map(|_| {
            let (path, stopped) = (world.directory.path().to_owned(), stopped.clone());
            let moved = Arc::clone(&moved);
            tokio::spawn(async move {
                let store = Store::open(&path).await.unwrap();
                while !stopped.has_changed().unwrap() {
                    let rules = rules(Duration::ZERO);
                    let collected = pass(&store, &rules, Doing::Collect).await;
                    moved.fetch_add(collected.unwrap().aside.blobs, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut kept = VecDeque::new();
    // Until they were really in each other's way, which takes longer on a busy machine. A pass reads all that is kept, so that
    // is little.
    for number in 0..100 * BUILDS {
        // Every other one has bytes that were there before, and that nothing names just now.
        let content = format!("layer {}", number / 2);
        let name = format!("dev-{number}");
        let layer = world.put(content.as_bytes()).await;
        let built = world.image(&name, layer).await;
        match world.store.holds(&layer).await.unwrap() {
            true => kept.push_back(built),
            false => world.remove(&built).await,
        }
        let of_least_use = match kept.len() as u64 > 2 * ENOUGH {
            true => kept.pop_front(),
            false if number % 4 == 1 => kept.pop_back(),
            false => None,
        };
        if let Some(image) = of_least_use {
            world.remove(&image).await;
        }
        let is_disturbed = moved.load(Ordering::Relaxed) >= ENOUGH && kept.len() as u64 >= ENOUGH;
        if number >= BUILDS && is_disturbed {
            break;
        }
    }
    stop.send(()).unwrap();
    for pass in collecting {
        pass.await.unwrap();
    }
    // What the last of the two left in the trash.
    pass(&world.store, &rules(Duration::ZERO), Doing::Collect)
        .await
        .unwrap();
    for image in &kept {
        let judged = world.store.judge(&image.layer.blob).await.unwrap();
        assert_eq!(judged, Verdict::Sound, "{}", image.name);
    }
    let (kept, moved) = (kept.len() as u64, moved.load(Ordering::Relaxed));
    assert!(kept >= ENOUGH && moved >= ENOUGH, "{kept}, {moved}");
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
        let place = record.strip_prefix(world.directory.path()).unwrap();
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
