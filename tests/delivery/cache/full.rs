//! Volumes that are full, really: the compile's, and the store's.

use std::fs;
use std::process::Command;

use super::*;

/// Names the directory of a small volume to a process that was started for that.
const SMALL: &str = "PEITHO_TEST_SMALL_VOLUME";

/// Runs `case` with a volume of so many bytes, a tmpfs in a mount namespace of a process of its own, which runs the test of this
/// `name` and no other.
fn with_small_volume<F: Future>(name: &str, bytes: u64, case: impl FnOnce(PathBuf) -> F) {
    if let Some(small) = std::env::var_os(SMALL) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(case(small.into()));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\" && exec \"$@\"");
    let alone = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &mount])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("cache::full::{name}")])
        .env(SMALL, directory.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&alone.stdout);
    assert!(told.contains("1 passed"), "{alone:?}");
}

#[test]
fn a_full_volume_of_the_compile_costs_the_cache_alone() {
    let name = "a_full_volume_of_the_compile_costs_the_cache_alone";
    with_small_volume(name, 256 << 10, async |small| {
        let mut place = Place::new().await;
        let script = format!("{} >CACHE/large", noise(1_000_000));
        place.compile(&script).await;
        // Room for the command again, and the part is not to blame.
        let script = format!("{} >CACHE/own; echo compiled", noise(200_000));
        let compiled = on_volume(&mut place, &small, &script).await;
        did_without(&compiled);
        assert_eq!(place.sent(), 0, "it does not even come");
        assert_eq!(place.increments("default").await.len(), 1);
        assert_eq!(place.compile("wc -c <CACHE/large").await.log, "1000000\n");
    });
}

/// What is small on its way may be large where it is unpacked.
#[test]
fn what_is_unpacked_leaves_as_much_room_as_it_takes() {
    let name = "what_is_unpacked_leaves_as_much_room_as_it_takes";
    with_small_volume(name, 1 << 20, async |small| {
        let mut place = Place::new().await;
        place.compile("head -c 700000 /dev/zero >CACHE/zeros").await;
        assert!(place.gained() < 100_000);
        let script = format!("{} >CACHE/own; echo compiled", noise(800_000));
        let compiled = on_volume(&mut place, &small, &script).await;
        did_without(&compiled);
        assert_eq!(place.increments("default").await.len(), 1);
    });
}

/// What a container that waits has fetched already had its room: what came since needs room beside it, and no more.
#[test]
fn what_was_fetched_ahead_is_not_counted_twice() {
    let name = "what_was_fetched_ahead_is_not_counted_twice";
    with_small_volume(name, 3 << 20, async |small| {
        let mut place = Place::new().await;
        let script = format!("{} >CACHE/large", noise(1_000_000));
        let waiting = place.waiting_in(small, &script).await;
        place
            .compile(&format!("{} >CACHE/more", noise(200_000)))
            .await;
        let told = place
            .compile_in(waiting, "cat CACHE/large CACHE/more | wc -c")
            .await;
        assert_eq!(told, "1200000\n");
    });
}

/// What failed for want of the room that its cache takes does not fail so again.
#[test]
fn a_compile_that_has_no_room_beside_its_cache_loses_it() {
    let name = "a_compile_that_has_no_room_beside_its_cache_loses_it";
    with_small_volume(name, 3 << 20, async |small| {
        let mut place = Place::new().await;
        let script = format!("{} >CACHE/large", noise(1_000_000));
        place.compile(&script).await;
        let script = format!("{} >CACHE/own && echo compiled", noise(2_500_000));
        let full = on_volume(&mut place, &small, &script).await;
        assert_eq!(full.code, 1, "{}", full.log);
        assert_eq!(place.increments("default").await, [""; 0]);
        fs::remove_dir_all(small.join(".cache")).unwrap();
        let cold = on_volume(&mut place, &small, &script).await;
        assert_eq!((cold.code, cold.log.as_str()), (0, "compiled\n"));
    });
}

/// It compiled, and was told that there is no room for its cache.
fn did_without(compiled: &Compiled) {
    let log = &compiled.log;
    assert_eq!(compiled.code, 0, "{log}");
    assert!(log.contains("are to stay free"), "{log}");
    assert!(log.ends_with("\ncompiled\n"), "{log}");
}

/// A compile whose cache is on that volume.
async fn on_volume(place: &mut Place, small: &Path, script: &str) -> Compiled {
    let (mut args, asked) = place.begun("default", script).await;
    let shell = args.command.last_mut().unwrap();
    let own = small.join(".cache");
    let changed = shell
        .to_str()
        .unwrap()
        .replace(args.place.cache.to_str().unwrap(), own.to_str().unwrap());
    *shell = changed.into();
    args.place.cache = own;
    finished(args, asked).await
}

/// What makes way first does not fill the volume either.
#[test]
fn nothing_is_kept_on_a_volume_that_is_nearly_full() {
    let name = "nothing_is_kept_on_a_volume_that_is_nearly_full";
    with_small_volume(name, 16 << 20, async |small| {
        let place = World::in_directory(&small, Some(1 << 20)).await;
        let mut place = Place::of(place).await;
        place.compile("echo kept >CACHE/kept").await;
        let room = place.world.store.room().await.unwrap();
        let filler = small.join("filler");
        fs::write(&filler, vec![0; room.free as usize - (512 << 10)]).unwrap();
        let warm = place.compile("cat CACHE/kept; echo more >CACHE/more").await;
        assert_eq!((warm.code, warm.log.as_str()), (0, "kept\n"));
        assert_eq!(place.increments("default").await.len(), 1);
        fs::remove_file(filler).unwrap();
        place.compile("echo more >CACHE/more").await;
        assert_eq!(place.increments("default").await.len(), 2);
    });
}
