//! What a compile tells of where its time goes.

use std::time::{Duration, Instant};

use peitho::agent::compile::run;
use peitho::names::{Digest, Tenant};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::compile::{args, end};
use crate::world::{World, any_port, gzip, tar};

/// How often `part` was seen, and the seconds of all of it.
fn seen(world: &World, part: &str) -> (u64, f64) {
    let mut registry = Registry::default();
    world.compiles.parts().register(&mut registry);
    let mut told = String::new();
    text::encode(&mut told, &registry).unwrap();
    let value = |of: &str| {
        let series = format!("compile_part_duration_seconds_{of}{{part=\"{part}\"}} ");
        let value = told.lines().find_map(|line| line.strip_prefix(&series));
        value.map_or(0.0, |value| value.parse().unwrap())
    };
    (value("count") as u64, value("sum"))
}

#[tokio::test]
async fn each_part_is_told_once_and_they_fit_into_the_whole() {
    let begun = Instant::now();
    let mut world = World::new().await;
    let server = world.serve(any_port()).await;
    let input = gzip(&tar(&[("main.go", 0o644, b"package main")]));
    let (tenant, builder) = (Tenant::default_tenant(), Digest::of(b"builder"));
    let (key, asked) = world.ordered(&tenant, Some(builder), Some(&input)).await;
    let script = "sleep 0.3; echo program > OUTPUT/chaincode";
    let script = script.replace("OUTPUT", world.scratch("output").to_str().unwrap());
    let asker = asked.ask().unwrap();
    let args = args(&world, &server, key, &script);
    let agent = tokio::spawn(run(args, CancellationToken::new()));
    end(&asked).await;
    let whole = begun.elapsed();
    let before = ["queue", "source_fetch", "cache_fetch", "command", "pack"];
    let after = ["upload", "keep"];
    for part in before.into_iter().chain(after) {
        let (count, seconds) = seen(&world, part);
        assert_eq!(count, 1, "{part}");
        let time = Duration::from_secs_f64(seconds);
        assert!(time < whole, "{part}: {time:?} of {whole:?}");
    }
    let (_, command) = seen(&world, "command");
    assert!(command >= 0.3, "{command}");
    // Nobody has made a container here.
    assert_eq!(seen(&world, "start").0, 0);
    for _ in 0..2 {
        asker.answered();
    }
    assert_eq!(seen(&world, "reply").0, 1, "of the first who waited");
    assert_eq!(agent.await.unwrap().unwrap(), 0);
}
