//! Collection is killed at every step by which it changes the store, and the next one does the rest: what is named stays,
//! what is not goes, nothing is left in between.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use peitho::collection::{Collected, Doing, Rules, pass};
use peitho::names::Tenant;
use peitho::store::{Blob, RefKind, Store, Verdict};
use serde_json::json;
use tempfile::TempDir;

use crate::disk;
use crate::step;

/// What the first argument says to a process that is to collect.
const COLLECT: &str = "collect-for-the-faults";

/// In strace's words, and how many of them one collection has at least.
const KINDS: [(&str, u32); 3] = [
    ("?rename,renameat,renameat2", 3),
    ("?unlink,unlinkat", 3),
    ("fsync", 8),
];

/// Collects, if that is the order of this process.
pub(crate) fn of_this_process() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != COLLECT {
        return None;
    }
    let directory = arguments.next().unwrap();
    // One thread for the disk, so that steps can be counted.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&directory)).await.unwrap();
        // The second one deletes what the first one moved.
        collect(&store).await;
        collect(&store).await;
    });
    Some(ExitCode::SUCCESS)
}

async fn collect(store: &Store) -> Collected {
    let rules = Rules {
        grace: Duration::ZERO,
        results: 0,
        caches: 0,
        wiped: None,
        unused: None,
        built: None,
        in_use: [].into(),
    };
    pass(store, &rules, Doing::Collect).await.unwrap()
}

pub(crate) async fn put(store: &Store, content: &str) -> Blob {
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(content.as_bytes()).await.unwrap();
    store.commit(ingest).await.unwrap()
}

pub(crate) async fn image(store: &Store, name: &str, layer: &Blob) {
    let value = json!({
        "name": name, "id": layer.digest, "base": {"name": "base", "config": null},
        "layer": {"blob": layer, "diffId": layer.digest, "destination": "/d", "entries": []},
        "env": [], "labels": {}, "manifest": null,
    });
    let tenant = Tenant::default_tenant();
    let put = store.put_ref(RefKind::Image, &tenant, name, &value);
    put.await.unwrap();
}

/// Blobs in their place and in the trash, named and not; gives those that are named.
async fn fill(directory: &Path) -> [Blob; 2] {
    let store = Store::open(directory).await.unwrap();
    let in_trash = put(&store, "named in the trash").await;
    put(&store, "unnamed in the trash").await;
    assert_eq!(collect(&store).await.aside.blobs, 2);
    image(&store, "second", &in_trash).await;
    let in_place = put(&store, "named in its place").await;
    image(&store, "first", &in_place).await;
    put(&store, "unnamed in its place").await;
    let output = put(&store, "output of a compile").await;
    let result = json!({"log": output, "output": output});
    let tenant = Tenant::default_tenant();
    let kept = store.put_ref(RefKind::Compile, &tenant, "key", &result);
    kept.await.unwrap();
    [in_place, in_trash]
}

pub(crate) async fn at_every_step() {
    let mut interrupted = 0;
    for (calls, at_least) in KINDS {
        let mut step = 1;
        loop {
            let scratch = TempDir::new().unwrap();
            let directory = scratch.path().join("store");
            let named = fill(&directory).await;
            let mut words = step::kill(&scratch.path().join("trace"), calls, step);
            words.push(std::env::current_exe().unwrap().into());
            words.extend([OsString::from(COLLECT), directory.clone().into()]);
            let status = Command::new(&words[0]).args(&words[1..]).status();
            let is_killed = step::is_killed(status.unwrap(), calls);

            let store = Store::open(&directory).await.unwrap();
            for blob in &named {
                // A reader does not wait for the next pass.
                assert_eq!(
                    store.judge(blob).await.unwrap(),
                    Verdict::Sound,
                    "{calls} {step}"
                );
            }
            interrupted += u32::from(collect(&store).await != Collected::default());
            collect(&store).await;
            assert_eq!(collect(&store).await, Collected::default());
            let found = disk::Store::read(&directory);
            assert_eq!(
                (found.blobs.len(), found.refs.len()),
                (2, 2),
                "{calls} {step}: {found:?}"
            );
            assert_eq!(
                disk::files(&directory.join("trash")).len(),
                0,
                "{calls} {step}"
            );
            if !is_killed {
                break;
            }
            step += 1;
        }
        assert!(step > at_least, "{calls}: only {} steps", step - 1);
    }
    assert!(interrupted >= 5, "{interrupted}");
}
