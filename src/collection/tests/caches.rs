//! Compilers' caches.

use super::*;

const BUILDER: &str = "sha256:b/amd64";

impl World {
    /// A part of the cache of `tenant` for a builder, used so long ago.
    async fn increment(&self, tenant: &str, name: &str, unused_for: Duration) -> Blob {
        let made = ("new", 1);
        self.increment_made(tenant, name, made, unused_for).await
    }

    async fn increment_made(
        &self,
        tenant: &str,
        name: &str,
        (extent, made): (&str, i64),
        unused_for: Duration,
    ) -> Blob {
        let blob = self.put_old(format!("{tenant} {name}").as_bytes()).await;
        let tenant: Tenant = tenant.parse().unwrap();
        let kept = json!({"blob": blob, "extent": extent, "made": made, "worth": 1});
        let put = self.store.put_ref(RefKind::Cache, &tenant, name, &kept);
        put.await.unwrap();
        date_back(&self.increment_record(&tenant, name), unused_for);
        blob
    }

    fn increment_record(&self, tenant: &Tenant, name: &str) -> PathBuf {
        let hex = Digest::of(name.as_bytes()).hex();
        self.path(&format!("refs/v1/cache/{tenant}/{hex}.json"))
    }

    /// What goes where all of them may have so many bytes.
    async fn held(&self, caches: u64) -> Collected {
        let rules = Rules {
            caches,
            ..rules(GRACE)
        };
        hold_caches(&self.store, &rules).await.unwrap()
    }

    async fn increments(&self, tenant: &str) -> Vec<String> {
        let tenant: Tenant = tenant.parse().unwrap();
        let listed = self.store.list_refs(RefKind::Cache, &tenant).await;
        listed.unwrap()
    }
}

fn named(number: u32) -> String {
    format!("{BUILDER}/{number}")
}

#[tokio::test]
async fn they_go_whole_by_least_recent_use() {
    let world = World::new().await;
    let mut blobs = Vec::new();
    // One part of b's was used long ago, and another one lately: so all of it was.
    for (tenant, number, days) in [("a", 1, 3), ("a", 2, 4), ("b", 1, 9), ("b", 2, 1)] {
        let name = named(number);
        blobs.push(world.increment(tenant, &name, days * DAY).await);
    }
    world.increment("b", "sha256:c/amd64/1", 2 * DAY).await;
    fs::write(world.path("refs/v1/cache/b/damaged.json"), "{").unwrap();
    assert_eq!(world.collect().await, Collected::default());
    let all: u64 = blobs.iter().map(|blob| blob.size).sum::<u64>() + 18;
    let rules = |caches| Rules {
        caches,
        ..rules(GRACE)
    };
    let collected = pass(&world.store, &rules(all - 1), Doing::Collect).await;
    let collected = collected.unwrap();
    assert_eq!(collected.caches, sum(2, blobs[0].size + blobs[1].size));
    assert_eq!(collected.aside, collected.caches);
    assert_eq!(world.increments("a").await, [""; 0]);
    fs::remove_file(world.path("refs/v1/cache/b/damaged.json")).unwrap();
    assert_eq!(world.increments("b").await.len(), 3);
    assert!(world.blob(&blobs[2]).exists());
    let collected = pass(&world.store, &rules(0), Doing::Collect).await;
    assert_eq!(collected.unwrap().caches.blobs, 3);
    assert_eq!(world.increments("b").await, [""; 0]);
}

#[tokio::test]
async fn they_are_wiped_by_order_for_all_or_one() {
    let world = World::new().await;
    for tenant in ["a", "b"] {
        world.increment(tenant, &named(1), DAY).await;
    }
    let order = |than, tenant: Option<&str>| Rules {
        wiped: Some(Old {
            than,
            tenant: tenant.map(|name| name.parse().unwrap()),
        }),
        ..rules(GRACE)
    };
    let collect = async |rules| pass(&world.store, &rules, Doing::Collect).await.unwrap();
    let young = collect(order(2 * DAY, None)).await;
    assert_eq!(young.caches, sum(0, 0));
    let of_a = collect(order(Duration::ZERO, Some("a"))).await;
    assert_eq!(of_a.caches.blobs, 1);
    assert_eq!(world.increments("a").await, [""; 0]);
    assert_eq!(world.increments("b").await.len(), 1);
    assert_eq!(collect(order(DAY, None)).await.caches.blobs, 1);
    assert_eq!(world.increments("b").await, [""; 0]);
}

#[tokio::test]
async fn they_make_room_before_results_do() {
    let world = World::new().await;
    let log = world.put_old(b"").await;
    let output = world.put_old(b"output").await;
    world.result("old", output, log, 4 * DAY).await;
    let used = world.increment("a", &named(1), Duration::ZERO).await;
    let made = make_room(&world.store, &rules(GRACE), used.size).await;
    let made = made.unwrap();
    assert_eq!((made.caches, made.results), (sum(1, used.size), sum(0, 0)));
    assert_eq!(made.gone, made.caches);
    assert!(!world.blob(&used).exists() && world.blob(&output).exists());
    let made = make_room(&world.store, &rules(GRACE), 1).await.unwrap();
    assert_eq!((made.caches, made.results), (sum(0, 0), sum(1, 6)));
}

#[tokio::test]
async fn they_are_held_to_their_limit_at_once_and_no_result_goes_for_that() {
    let world = World::new().await;
    let log = world.put_old(b"").await;
    let output = world.put_old(b"output").await;
    world.result("old", output, log, 4 * DAY).await;
    let shared = world.increment("a", &named(1), 3 * DAY).await;
    world.result("shares", shared, log, 4 * DAY).await;
    let old = world.increment("b", &named(1), 2 * DAY).await;
    let used = world.increment("c", &named(1), DAY).await;
    let all = shared.size + old.size + used.size;
    assert_eq!(world.held(all).await, Collected::default());
    let held = world.held(used.size).await;
    let bytes = shared.size + old.size;
    assert_eq!((held.caches, held.results), (sum(2, bytes), sum(0, 0)));
    assert_eq!(held.gone, sum(1, old.size), "what a result has too stays");
    assert!(!world.blob(&old).exists() && world.blob(&shared).exists());
    assert_eq!(world.held(0).await.caches, sum(1, used.size));
    assert_eq!(world.held(0).await, Collected::default());
    let results = world.store.list_refs(RefKind::Compile, &world.tenant).await;
    assert_eq!(results.unwrap().len(), 2);
    assert!(world.blob(&output).exists() && world.blob(&log).exists());
}

/// Its run is about to remove what the new part takes the place of.
#[tokio::test]
async fn what_is_written_anew_counts_once() {
    let world = World::new().await;
    let mut sizes = Vec::new();
    for (number, extent) in [(1, "whole"), (2, "new"), (3, "whole"), (4, "new")] {
        let (name, made) = (named(number), i64::from(number));
        let part = world.increment_made("a", &name, (extent, made), DAY);
        sizes.push(part.await.size);
    }
    let lasting = sizes[2] + sizes[3];
    assert_eq!(world.held(lasting).await, Collected::default());
    assert_eq!(world.increments("a").await.len(), 4);
    assert_eq!(world.held(lasting - 1).await.caches.blobs, 4);
}
