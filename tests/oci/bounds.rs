//! Limits of memory and CPU.

use peitho::runtime::oci::host::Ending;

use crate::world::World;

#[tokio::test]
async fn a_process_that_takes_too_much_memory_is_killed_and_that_is_told() {
    let world = World::new().await;
    // A file in memory counts, and so does what the shell keeps.
    let mut plan = world.shell("a=0123456789abcdef; while :; do a=$a$a; done");
    plan.memory = Some(32 * 1024 * 1024);
    let (ending, printed) = world.run("hungry", &plan).await;
    let killed = Ending::Exited {
        code: 137,
        out_of_memory: true,
    };
    assert_eq!(ending, killed, "{printed}");
    world.assert_gone();
}

#[tokio::test]
async fn limits_are_those_ordered_and_seen_inside() {
    let world = World::new().await;
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us \
                  /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max";
    let mut plan = world.shell(script);
    plan.memory = Some(64 * 1024 * 1024);
    plan.cpu_millis = Some(250);
    let printed = world.output("limited", &plan).await;
    let numbers: Vec<&str> = printed.split_whitespace().collect();
    assert_eq!(numbers, ["67108864", "25000", "100000"]);
    world.assert_gone();
}
