//! Caches that may be what compiles fail of, and runs that nobody is to take for that.

use super::*;

const WITHOUT: &str = "peitho: this compile failed again and again with what its compiler kept of others; now it begins with nothing\n";

/// A tool that keeps that something is not there, and does not look for it any more.
#[tokio::test]
async fn a_compile_that_its_cache_makes_fail_succeeds_at_the_third_try() {
    let mut place = Place::new().await;
    place.compile("echo it >CACHE/missing").await;
    let source = tar(&[("source", 0o644, b"")]);
    let script = "test -e CACHE/missing && exit 1; echo kept >CACHE/kept";
    for _ in 0..2 {
        let failed = place.again(&source, script).await;
        assert_eq!((failed.code, failed.log.as_str()), (1, ""));
    }
    let third = place.again(&source, script).await;
    assert_eq!((third.code, third.log.as_str()), (0, WITHOUT));
    // What made it fail is gone, and what it kept itself is in its place.
    assert_eq!(place.compile("ls CACHE").await.log, "kept\n");
    assert_eq!(place.increments("default").await.len(), 1);
}

#[tokio::test]
async fn a_compile_that_fails_without_its_cache_too_leaves_it_as_it_is() {
    let mut place = Place::new().await;
    place.compile("echo kept >CACHE/kept").await;
    let source = tar(&[("source", 0o644, b"")]);
    let script = "ls CACHE; echo more >CACHE/$$; exit 1";
    for expected in ["kept\n", WITHOUT, "kept\n", WITHOUT] {
        // Others fail in between, and say nothing of this one.
        place.compile("exit 1").await;
        let failed = place.again(&source, script).await;
        assert_eq!(failed.code, 1);
        match expected {
            WITHOUT => assert_eq!(failed.log, WITHOUT),
            _ => assert!(failed.log.ends_with(expected), "{}", failed.log),
        }
        if expected != WITHOUT {
            let second = place.again(&source, script).await;
            assert!(second.log.ends_with(expected), "{}", second.log);
        }
    }
    assert_eq!(place.increments("default").await.len(), 5);
}

/// Its peer is gone, or its user gave up.
#[tokio::test]
async fn a_compile_that_nobody_waits_for_any_more_does_not_lose_its_cache() {
    let world = World::abandoning(Duration::from_secs(1)).await;
    let mut place = Place::of(world).await;
    let waited_for = async |place: &mut Place, script: &str| {
        let (args, asked) = place.begun("default", script).await;
        let _waits = asked.ask();
        finished(args, asked).await.log
    };
    waited_for(&mut place, "echo kept >CACHE/kept").await;
    let (args, asked) = place.begun("default", "true").await;
    let waits = asked.ask();
    let path = format!("compile/{}/cache", args.key);
    let plan = place.get(&args, &path).await;
    assert_eq!(plan["parts"].as_array().unwrap().len(), 1);
    drop(waits);
    let ended = end(&asked).await;
    assert!(ended.to_string().contains("nobody waited"), "{ended:?}");
    let log = waited_for(&mut place, "cat CACHE/kept").await;
    assert_eq!(log, "kept\n");
}
