//! Which results of compiles go, and when.

use super::super::results;
use super::*;

#[tokio::test]
async fn results_of_compiles_go_by_least_recent_use() {
    let world = World::new().await;
    let log = world.put_old(b"").await;
    for (name, days) in [("old", 3), ("older", 4), ("new", 1)] {
        let output = world.put_old(format!("{name:10}").as_bytes()).await;
        world.result(name, output, log, days * DAY).await;
    }
    // A record that cannot be read stops nothing here: results may go. What another release wrote stays.
    fs::write(world.record("compile", "damaged"), "{").unwrap();
    let strange = json!({"name": "strange", "value": 1}).to_string();
    fs::write(world.record("compile", "strange"), strange).unwrap();
    let all = world.collect().await;
    let of_damaged = Collected {
        results: sum(1, 0),
        ..Collected::default()
    };
    assert_eq!(all, of_damaged);
    assert_eq!(world.collect().await, Collected::default());
    assert!(world.record("compile", "strange").exists());
    let rules = Rules {
        results: 20,
        ..rules(GRACE)
    };
    let collected = pass(&world.store, &rules, Doing::Collect).await.unwrap();
    assert_eq!(
        (collected.results, collected.aside),
        (sum(1, 10), sum(1, 10))
    );
    assert!(!world.record("compile", "older").exists());

    let rules = Rules {
        results: u64::MAX,
        unused: Some(Old {
            than: 2 * DAY,
            tenant: Some("other".parse().unwrap()),
        }),
        ..rules
    };
    let of_other = pass(&world.store, &rules, Doing::Tell).await.unwrap();
    assert_eq!(of_other.results, sum(0, 0));
    let rules = Rules {
        unused: Some(Old {
            than: 2 * DAY,
            tenant: None,
        }),
        ..rules
    };
    let unused = pass(&world.store, &rules, Doing::Collect).await.unwrap();
    assert_eq!(unused.results, sum(1, 10));
    assert!(world.record("compile", "new").exists());
    // The log is the same for all, and needed.
    assert!(world.blob(&log).exists());
}

#[tokio::test]
async fn room_is_made_at_once_and_by_results_alone() {
    let world = World::new().await;
    let log = world.put_old(b"log").await;
    let (old, shared) = (
        world.put_old(b"old output").await,
        world.put_old(b"shared").await,
    );
    let (used, unnamed) = (
        world.put_old(b"just used").await,
        world.put_old(b"unnamed").await,
    );
    world.result("old", old, log, 4 * DAY).await;
    world.result("shared", shared, log, 3 * DAY).await;
    world.result("used", used, log, Duration::ZERO).await;
    world.image("dev-peer0-basic", shared).await;
    let made = make_room(&world.store, &rules(GRACE), 1).await.unwrap();
    assert_eq!((made.results, made.gone), (sum(1, 13), sum(1, 10)));
    assert!(!world.blob(&old).exists());
    // Others than results take the long way.
    assert_eq!(made.aside, sum(1, 7));
    assert!(world.store.holds(&unnamed).await.unwrap());

    let made = make_room(&world.store, &rules(GRACE), u64::MAX)
        .await
        .unwrap();
    assert_eq!((made.results, made.gone), (sum(1, 9), sum(0, 0)));
    for blob in [shared, used, log] {
        assert!(world.blob(&blob).exists());
    }
}

/// One is served between the reading and the removal.
#[tokio::test]
async fn a_result_that_is_used_while_it_is_to_go_stays() {
    let world = World::new().await;
    let (log, output) = (world.put_old(b"log").await, world.put_old(b"output").await);
    world.result("used", output, log, DAY).await;
    world.result("unused", log, log, DAY).await;
    let leaving = results::Results::read(&world.store).await.unwrap();
    let leaving = { leaving }.beyond(0);
    let hour = Duration::from_secs(3600);
    let touched = (world.store).touch_ref(RefKind::Compile, &world.tenant, "used", hour);
    assert!(touched.await.unwrap());
    let mut named = HashSet::new();
    let going = Going {
        results: leaving,
        ..Going::default()
    };
    let (gone, ended) = going.remove(&world.store, &mut named).await;
    ended.unwrap();
    assert_eq!(gone.told().results, sum(1, 2 * log.size));
    assert_eq!(named, HashSet::from([log.digest, output.digest]));
    assert!(world.record("compile", "used").exists());
    assert!(!world.record("compile", "unused").exists());
}
