//! What a container costs: the time of a start, and the memory of a shim. Meaningful with the release program alone:
//!
//! `PEITHO_TEST_PROGRAM=target/…/release/peitho cargo test --test oci -- --ignored --nocapture figures`

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::world::World;

const STARTS: usize = 20;
/// From the order to the running process.
const START_WITHIN: Duration = Duration::from_millis(100);
/// What a shim has for itself.
const SHIM_KIB: u64 = 2048;

#[tokio::test]
#[ignore = "measures the release program on an idle machine"]
async fn a_start_takes_a_tenth_of_a_second_and_a_shim_two_megabytes() {
    let world = World::new().await;
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for number in 0..STARTS {
        let id = world.id(&format!("n{number}"));
        let begun = Instant::now();
        world
            .host()
            .start(&id, &world.shell("exec sleep 1000"))
            .await
            .unwrap();
        times.push(begun.elapsed());
        let pid = world.shim(&id);
        memory.push(["Rss", "Pss", "Private_Clean", "Private_Dirty"].map(|key| rollup(pid, key)));
        world.host().remove(&id).await.unwrap();
    }
    times.sort();
    memory.sort_unstable();
    let (median, worst) = (times[STARTS / 2], times[STARTS - 1]);
    let [resident, proportional, clean, dirty] = memory[STARTS / 2];
    writeln!(
        std::io::stdout(),
        "start: median {median:?}, worst {worst:?}; shim: {resident} KiB resident, {proportional} KiB proportional, \
         {dirty} KiB of its own and {clean} KiB of the program's file that nobody else uses now"
    )
    .unwrap();
    assert!(median <= START_WITHIN, "{median:?}");
    assert!(dirty <= SHIM_KIB, "{dirty} KiB");
}

fn rollup(pid: i32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{key}:")))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
