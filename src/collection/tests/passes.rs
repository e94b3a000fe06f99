//! What passes do beside others: the same in a directory and in a bucket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[tokio::test]
async fn a_ref_that_comes_during_a_pass_of_a_directory_counts() {
    a_ref_that_comes_during_a_pass_counts_at_the_next(&World::new().await).await;
}

/// There it needs no grace at all: a move is one step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_over_a_directory_take_nothing_from_builds() {
    let world = World::new().await;
    passes_of_two_processes_take_nothing_from_builds(&world, Duration::ZERO, 150).await;
}

/// The ref comes after the refs were read, and before the pass acts.
pub(super) async fn a_ref_that_comes_during_a_pass_counts_at_the_next(world: &World) {
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

/// Two processes collect as fast as they can, and others build: what was told to be held is.
pub(super) async fn passes_of_two_processes_take_nothing_from_builds(
    world: &World,
    grace: Duration,
    builds: usize,
) {
    let enough = builds as u64 / 8;
    let (stop, stopped) = tokio::sync::watch::channel(());
    let moved = Arc::<AtomicU64>::default();
    let stores = [world.elsewhere().await, world.elsewhere().await];
    let collecting: Vec<_> = (stores.into_iter())
        .map(|store| {
            let (stopped, moved) = (stopped.clone(), Arc::clone(&moved));
            tokio::spawn(async move {
                while !stopped.has_changed().unwrap() {
                    let rules = rules(grace);
                    let collected = pass(&store, &rules, Doing::Collect).await;
                    moved.fetch_add(collected.unwrap().aside.blobs, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut kept = VecDeque::new();
    // Until they were really in each other's way, which takes longer on a busy machine. A pass reads all that is kept, so that
    // is little.
    for number in 0..100 * builds {
        // Every other one has bytes that were there before, and that nothing names just now.
        let content = format!("layer {}", number / 2);
        let name = format!("dev-{number}");
        let layer = world.put(content.as_bytes()).await;
        if !grace.is_zero() {
            date_back_what_is_there(&world.blob(&layer));
        }
        let built = world.image(&name, layer).await;
        match world.store.holds(&layer).await.unwrap() {
            true => kept.push_back(built),
            false => world.remove(&built).await,
        }
        let of_least_use = match kept.len() as u64 > 2 * enough {
            true => kept.pop_front(),
            false if number % 4 == 1 => kept.pop_back(),
            false => None,
        };
        if let Some(image) = of_least_use {
            world.remove(&image).await;
        }
        let is_disturbed = moved.load(Ordering::Relaxed) >= enough && kept.len() as u64 >= enough;
        if number >= builds && is_disturbed {
            break;
        }
    }
    stop.send(()).unwrap();
    for pass in collecting {
        pass.await.unwrap();
    }
    // What the last of the two left in the trash.
    pass(&world.store, &rules(grace), Doing::Collect)
        .await
        .unwrap();
    for image in &kept {
        let judged = world.store.judge(&image.layer.blob).await.unwrap();
        assert_eq!(judged, Verdict::Sound, "{}", image.name);
    }
    let (kept, moved) = (kept.len() as u64, moved.load(Ordering::Relaxed));
    assert!(kept >= enough && moved >= enough, "{kept}, {moved}");
}

/// It may be on its way by a pass.
fn date_back_what_is_there(path: &Path) {
    if let Ok(file) = File::options().write(true).open(path) {
        file.set_modified(SystemTime::now() - DAY).unwrap();
    }
}
