//! What containers print: whole, in order, bounded, and nobody waits for a reader.

use std::fs;

use futures::StreamExt as _;

use crate::world::{World, exited};

/// Prints numbered lines of 64 bytes: `count` of them.
fn lines(count: u64) -> String {
    format!(
        "seq -f '%063.0f' 1 {count} 2>/dev/null || awk 'BEGIN {{ for (i = 1; i <= {count}; i++) printf \"%063d\\n\", i }}'"
    )
}

#[tokio::test]
async fn both_outputs_come_in_order_and_from_the_start() {
    let world = World::new().await;
    let id = world.id("order");
    let script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done";
    world.host().start(&id, &world.shell(script)).await.unwrap();
    world.host().ended(&id).await.unwrap();
    let expected: String = (1..=5).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!(world.printed(&id).await, expected);
    assert_eq!(world.printed(&id).await, expected);
    world.host().remove(&id).await.unwrap();
}

#[tokio::test]
async fn a_reader_follows_a_process_that_closes_its_output_and_lives_on() {
    let world = World::new().await;
    let script = "echo one; exec >/dev/null 2>&1; sleep 0.3; exit 9";
    let (ending, printed) = world.run("closed", &world.shell(script)).await;
    assert_eq!(printed, "one\n");
    assert_eq!(ending, exited(9));
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_nobody_and_misses_nothing() {
    let world = World::new().await;
    let id = world.id("much");
    let count = 41 * 1024 * 1024 / 64;
    world
        .host()
        .start(&id, &world.shell(&lines(count)))
        .await
        .unwrap();
    // One has begun and does not go on; another comes when all is over.
    let mut slow = world.host().logs(&id);
    let first = slow.next().await.unwrap().unwrap();
    assert_eq!(world.host().ended(&id).await, Some(exited(0)));
    let mut next = 1;
    let mut rest = Vec::from(first);
    while let Some(chunk) = slow.next().await {
        rest.extend_from_slice(&chunk.unwrap());
        let whole = rest.len() / 64 * 64;
        for line in rest.drain(..whole).collect::<Vec<_>>().chunks(64) {
            assert_eq!(line, format!("{next:063}\n").as_bytes());
            next += 1;
        }
    }
    assert_eq!(next, count + 1);
    assert_eq!(world.printed(&id).await.len() as u64, count * 64);
    world.host().remove(&id).await.unwrap();
}

#[tokio::test]
async fn the_oldest_output_goes_and_a_reader_is_told_how_much() {
    let world = World::new().await;
    let id = world.id("rotated");
    let count = 130 * 1024 * 1024 / 64;
    world
        .host()
        .start(&id, &world.shell(&lines(count)))
        .await
        .unwrap();
    let mut slow = world.host().logs(&id);
    let first = slow.next().await.unwrap().unwrap();
    assert_eq!(world.host().ended(&id).await, Some(exited(0)));

    let files: Vec<_> = fs::read_dir(world.launch(&id))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with("log."))
        .collect();
    assert_eq!(files.len(), 5);
    let kept: u64 = files
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert!(
        kept > 64 * 1024 * 1024 && kept <= 81 * 1024 * 1024,
        "{kept}"
    );

    // A late reader: the line, then all that is kept.
    let printed = world.printed(&id).await;
    let missed = count * 64 - kept;
    let line =
        format!("\npeitho: {missed} bytes of output are left out: the last 80 MiB are kept\n");
    let rest = printed
        .strip_prefix(&line)
        .unwrap_or_else(|| panic!("{}", &printed[..200]));
    assert_eq!(rest.len() as u64, kept);
    assert!(rest.ends_with(&format!("{count:063}\n")));

    // An overtaken one: the file that it was in, the line, the rest; together all there was.
    let mut overtaken = Vec::from(first);
    while let Some(chunk) = slow.next().await {
        overtaken.extend_from_slice(&chunk.unwrap());
    }
    let overtaken = String::from_utf8(overtaken).unwrap();
    let (before, after) = overtaken.split_once("\npeitho: ").unwrap();
    let (missed, after) = after
        .split_once(" bytes of output are left out: the last 80 MiB are kept\n")
        .unwrap();
    let missed: u64 = missed.parse().unwrap();
    assert_eq!(
        before.len() as u64 + missed + after.len() as u64,
        count * 64
    );
    assert!(before.starts_with(&format!("{:063}\n", 1)));
    world.host().remove(&id).await.unwrap();
    world.assert_gone();
}
