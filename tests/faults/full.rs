//! A disk that is really full: the store on a tmpfs of 2 MiB, and beside it a file that leaves as much room as
//! the test says. From no room at all, page by page, until the build fits.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use peitho::names::Digest;
use serde_json::json;
use tempfile::TempDir;

use crate::bodies::{packed, tar};
use crate::disk::Store;
use crate::registry::Base;
use crate::server::{Collecting, Order, Server, Threads, built};
use crate::world::in_directory;

const SIZE: u64 = 2 << 20;
const PAGE: u64 = 4096;
const INODES: u64 = 64;

/// A server whose store lies on a tmpfs that only the server sees: it goes with the server, however that ends.
struct Small {
    base: Base,
    server: Server,
    /// The store as this process sees it.
    store: PathBuf,
    /// The tmpfs as this process sees it.
    disk: PathBuf,
    /// The tmpfs as the server sees it.
    mounted: PathBuf,
    _scratch: TempDir,
}

impl Small {
    async fn new(collecting: Collecting) -> Self {
        let base = Base::serve().await;
        let scratch = TempDir::new().unwrap();
        let mounted = scratch.path().canonicalize().unwrap();
        let order = Order {
            store: in_directory(&mounted.join("store")),
            registry: base.host(),
            pushed_to: None,
            threads: Threads::Many,
            collecting,
        };
        let script = format!(
            "mount -t tmpfs -o size={SIZE},nr_inodes={INODES} tmpfs {} && exec \"$@\"",
            mounted.display()
        );
        // Root needs no user namespace, and anybody else may have one.
        let namespaces = match rustix::process::geteuid().is_root() {
            true => vec!["--mount"],
            false => vec!["--map-root-user", "--mount"],
        };
        let around: Vec<OsString> = ["unshare"]
            .into_iter()
            .chain(namespaces)
            .chain(["sh", "-c", &script, "sh"])
            .map(OsString::from)
            .collect();
        let server = Server::start(&order, &around).await;
        let server = server.unwrap_or_else(|ended| {
            panic!("a tmpfs cannot be mounted; run this as root: {ended:?}")
        });
        let root = PathBuf::from(format!("/proc/{}/root", server.id()));
        let disk = root.join(mounted.strip_prefix("/").unwrap());
        Self {
            base,
            server,
            store: disk.join("store"),
            disk,
            mounted,
            _scratch: scratch,
        }
    }

    fn body(&self, program: usize) -> Vec<u8> {
        let program: Vec<u8> = (0..program).map(|_| rand::random()).collect();
        packed(&self.base.dockerfile(), &tar(&[("chaincode", &program)]))
    }

    /// Leaves `room` bytes.
    fn leave(&self, room: u64) {
        let ballast = self.disk.join("ballast");
        let _ = fs::remove_file(&ballast);
        let all = rustix::fs::statvfs(&self.disk).unwrap();
        let free = all.f_bavail * all.f_frsize;
        let file = File::create(&ballast).unwrap();
        let taken = free.saturating_sub(room);
        if taken > 0 {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(&file, flags, 0, taken).unwrap();
        }
    }

    /// Leaves `room` inodes.
    fn leave_inodes(&self, room: u64) {
        let ballast = self.disk.join("ballast");
        let _ = fs::remove_dir_all(&ballast);
        fs::create_dir(&ballast).unwrap();
        for number in room..rustix::fs::statvfs(&self.disk).unwrap().f_favail {
            File::create(ballast.join(number.to_string())).unwrap();
        }
    }

    /// The result of a compile with so many bytes, and its record, which it gives.
    fn result(&self, key: &str, length: usize, unused_for: Duration) -> PathBuf {
        let output: Vec<u8> = (0..length).map(|_| rand::random()).collect();
        let digest = Digest::of(&output);
        let blob = self.store.join("blobs/sha256").join(digest.hex());
        fs::write(&blob, &output).unwrap();
        let kept = json!({"digest": digest, "size": output.len()});
        let record = json!({"name": key, "value": {"log": kept, "output": kept}});
        let records = self.store.join("refs/v1/compile/default");
        fs::create_dir_all(&records).unwrap();
        let result = records.join(format!("{}.json", Digest::of(key.as_bytes()).hex()));
        fs::write(&result, record.to_string()).unwrap();
        for path in [&blob, &result] {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - unused_for).unwrap();
        }
        result
    }

    /// The answer says that this disk was full, and nothing of the build is left.
    async fn is_told(&self, message: &str, what: &str) {
        let place = self.mounted.join("store");
        let expected = format!("store: no space left in {} for ", place.display());
        assert!(message.starts_with(&expected), "{what}: {message}");
        let bytes = message[expected.len()..].split(' ').next().unwrap();
        assert!(bytes.parse::<u64>().is_ok(), "{what}: {message}");
        let found = Store::read(&self.store);
        assert_eq!((found.refs.len(), found.ingest.len()), (0, 0), "{found:?}");
        assert_eq!(self.server.inspect().await, None, "{what}");
    }
}

pub(crate) async fn of_bytes() {
    let small = Small::new(Collecting::No).await;
    // Larger than the disk.
    let answer = small.server.build(&small.body(3 << 20)).await.unwrap();
    assert_eq!(answer.status, 507, "{answer:?}");
    small.is_told(&answer.message(), "too large").await;

    let body = small.body(10_000);
    let mut room = 0;
    let id = loop {
        small.leave(room);
        let answer = small.server.build(&body).await.unwrap();
        if answer.status == 200 {
            break built(&answer);
        }
        assert_eq!(answer.status, 507, "{room}: {answer:?}");
        small.is_told(&answer.message(), &format!("{room}")).await;
        // Others are served.
        assert_eq!(small.server.client.ask("GET", "/_ping").await.status, 200);
        remove_blobs(&small.store);
        room += PAGE;
    };
    assert!(room >= 4 * PAGE, "a build that needs {room} bytes is none");
    // And with no room at all once more, what is there is served.
    small.leave(0);
    assert_eq!(small.server.inspect().await, Some(id));
    assert!(small.server.end().await.status.success());
}

/// A result of a compile makes way for a build that does not fit beside it, where it was not used for long.
pub(crate) async fn with_what_may_go() {
    for (unused_for, status) in [(60, 507), (3 * 24 * 3600, 200)] {
        let small = Small::new(Collecting::Yes).await;
        let result = small.result("key", 600_000, Duration::from_secs(unused_for));
        // Its body and what is in it, at once.
        let body = small.body(350_000);
        small.leave(500_000);
        let answer = small.server.build(&body).await.unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(result.exists(), status == 507);
        assert!(small.server.end().await.status.success());
    }
}

pub(crate) async fn of_inodes() {
    let small = Small::new(Collecting::No).await;
    let body = small.body(10);
    let mut room = 0;
    loop {
        small.leave_inodes(room);
        let answer = small.server.build(&body).await.unwrap();
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 507, "{room}: {answer:?}");
        small.is_told(&answer.message(), &format!("{room}")).await;
        remove_blobs(&small.store);
        room += 1;
    }
    assert!(room >= 3, "a build that needs {room} inodes is none");
    assert!(small.server.end().await.status.success());

    // And with some that may go, though there are bytes enough.
    let small = Small::new(Collecting::Yes).await;
    let long = Duration::from_secs(3 * 24 * 3600);
    let results = ["a", "b", "c", "d"].map(|key| small.result(key, 10, long));
    let body = small.body(10);
    small.leave_inodes(0);
    built(&small.server.build(&body).await.unwrap());
    assert!(results.iter().all(|result| !result.exists()));
    assert!(small.server.end().await.status.success());
}

/// What a failed build stored before it failed: whole blobs that nobody names. The next attempt shall need all of
/// its room again.
fn remove_blobs(store: &Path) {
    for blob in Store::read(store).blobs {
        fs::remove_file(blob).unwrap();
    }
}
