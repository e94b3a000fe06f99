//! That what was promised is on the disk: the order of the system calls, as the kernel saw them.

use std::ffi::OsString;
use std::path::Path;

use tempfile::TempDir;

use crate::bodies::{packed, tar};
use crate::disk::{self, Store};
use crate::registry::Base;
use crate::server::{Collecting, Order, Server, Threads, built, strace};
use crate::trace::{self, Call};
use crate::world::in_directory;

/// All that writes, makes names, and makes durable; and what answers.
const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,ftruncate,fallocate,\
    copy_file_range,sendfile,fsync,fdatasync,\
    ?rename,renameat,renameat2,?link,linkat,?mkdir,mkdirat";

fn traced(to: &Path) -> Vec<OsString> {
    strace(to, &["-y", "-s", "64", "-e", CALLS])
}

struct Trace(Vec<Call>);

impl Trace {
    fn read(path: &Path) -> Self {
        Self(trace::read(&std::fs::read_to_string(path).unwrap()))
    }

    /// The first call on which `text` went out, to a client or to standard output.
    fn said(&self, text: &str) -> &Call {
        let calls = ["write", "writev", "sendto", "sendmsg"];
        let text = format!("\"{text}");
        let said =
            |call: &&Call| calls.contains(&call.name.as_str()) && call.arguments.contains(&text);
        self.0.iter().find(said).expect("it was said")
    }

    /// The first sync of `path` that began after line `from`.
    fn synced(&self, path: &Path, from: usize) -> Option<&Call> {
        let is_it = |call: &&Call| {
            matches!(call.name.as_str(), "fsync" | "fdatasync")
                && call.has_succeeded()
                && call.file() == Some(path)
                && call.began > from
        };
        self.0.iter().find(is_it)
    }

    /// Asserts that the file `to` got its name whole and for good; gives the line on which that was so.
    fn published(&self, to: &Path) -> usize {
        let renames: Vec<_> = (self.0.iter())
            .filter(|call| call.name.starts_with("rename") || call.name.starts_with("link"))
            .filter(|call| call.has_succeeded() && call.paths().last().is_some_and(|p| p == to))
            .collect();
        let [rename] = renames[..] else {
            panic!("{to:?} got its name by {renames:?}");
        };
        let from = &rename.paths()[0];
        let touches = |call: &&Call| {
            !call.name.contains("sync")
                && call.file().is_some_and(|file| file == from || file == to)
        };
        let last = (self.0.iter().filter(touches)).map(|call| call.ended).max();
        let last = last.unwrap_or_else(|| panic!("{from:?} was never written"));
        let synced = self.synced(from, last);
        let synced =
            synced.unwrap_or_else(|| panic!("{from:?} was not synced once it was written"));
        assert!(
            synced.ended < rename.began,
            "{to:?} got its name before its content was safe"
        );
        let directory = to.parent().unwrap();
        let named = self.synced(directory, rename.ended);
        named
            .unwrap_or_else(|| panic!("{directory:?} was not synced after {to:?} came"))
            .ended
    }
}

/// fsync(file), rename, fsync(directory), for the blobs and then for the ref, and then the answer.
pub(crate) async fn a_build() {
    let base = Base::serve().await;
    let scratch = TempDir::new().unwrap();
    let path = scratch.path().canonicalize().unwrap();
    let (store, log) = (path.join("store"), path.join("trace"));
    let order = Order {
        store: in_directory(&store),
        registry: base.host(),
        pushed_to: None,
        threads: Threads::Many,
        collecting: Collecting::No,
    };
    let server = Server::start(&order, &traced(&log)).await.unwrap();
    // Of several pieces, so that the last write of the layer is not its first.
    let program: Vec<u8> = (0..3 << 20).map(|_| rand::random()).collect();
    let package = tar(&[("chaincode", &program)]);
    let body = packed(&base.dockerfile(), &package);
    built(&server.build(&body).await.unwrap());
    assert!(server.end().await.status.success());

    let trace = Trace::read(&log);
    let answer = trace.said("HTTP/1.1 200 OK");
    let found = Store::read(&store);
    let [image] = &found.refs[..] else {
        panic!("{found:?}");
    };
    let blobs = disk::blobs_of(&store, image);
    assert_eq!(blobs.len(), 3, "layer, configuration, manifest");
    let mut safe = 0;
    for blob in &blobs {
        safe = safe.max(trace.published(blob));
    }
    let is_named = |call: &&Call| {
        call.name.starts_with("rename") && call.paths().last().is_some_and(|p| p == image)
    };
    let named = trace.0.iter().find(is_named).unwrap();
    assert!(
        safe < named.began,
        "the image was named before its blobs were safe"
    );
    safe = trace.published(image);
    // Directories are names too.
    let made = (trace.0.iter()).filter(|call| call.name.starts_with("mkdir"));
    for call in made.filter(|call| call.has_succeeded()) {
        let directory = &call.paths()[0];
        let above = directory.parent().unwrap();
        let synced = trace.synced(above, call.ended);
        let synced = synced.unwrap_or_else(|| panic!("{directory:?} is in {above:?} for now only"));
        safe = safe.max(synced.ended);
    }
    assert!(
        safe < answer.began,
        "answered on line {} before all was safe on line {safe}",
        answer.began
    );
}

/// A process may have ended between a rename and the sync of the directory. What the next one finds it
/// serves, so it must last.
pub(crate) async fn a_start() {
    let base = Base::serve().await;
    let scratch = TempDir::new().unwrap();
    let path = scratch.path().canonicalize().unwrap();
    let (store, log) = (path.join("store"), path.join("trace"));
    let order = Order {
        store: in_directory(&store),
        registry: base.host(),
        pushed_to: None,
        threads: Threads::Many,
        collecting: Collecting::No,
    };
    let server = Server::start(&order, &[]).await.unwrap();
    let body = packed(&base.dockerfile(), &tar(&[("chaincode", b"program")]));
    built(&server.build(&body).await.unwrap());
    server.end().await;

    let server = Server::start(&order, &traced(&log)).await.unwrap();
    assert!(server.end().await.status.success());
    let trace = Trace::read(&log);
    let ready = trace.said("127.0.0.1:");
    for directory in [
        "",
        "blobs",
        "blobs/sha256",
        "refs",
        "refs/v1",
        "refs/v1/image",
        "refs/v1/image/default",
    ] {
        // Compared by components, so that the first is the store itself.
        let synced = trace.synced(&store.join(directory), 0);
        let synced = synced.unwrap_or_else(|| panic!("{directory:?} was not synced"));
        assert!(synced.ended < ready.began, "{directory:?}");
    }
}
