//! The server is killed, or its disk fails, at every step: not at steps that somebody listed, but at the first, the
//! second, and so on, until there is none left.

use std::cell::Cell;
use std::path::Path;

use tempfile::TempDir;

use crate::bodies::{packed, tar};
use crate::disk::{self, Store};
use crate::registry::Base;
use crate::server::{Collecting, Order, Server, Threads, built};
use crate::step;
use crate::world::in_directory;

/// A kind of step by which a store changes.
struct Kind {
    /// In strace's words.
    calls: &'static str,
    /// How many a server's life has: fewer would mean that the tracer did not see them.
    at_least: u32,
    /// How it can fail.
    error: Option<(&'static str, i32)>,
}

const KINDS: [Kind; 5] = [
    Kind {
        calls: "write",
        at_least: 6,
        // Would hit the server's own eventfd too; `full` has a disk that takes no byte more.
        error: None,
    },
    Kind {
        calls: "fsync",
        at_least: 20,
        error: Some(("EIO", 5)),
    },
    Kind {
        calls: "?rename,renameat,renameat2",
        at_least: 4,
        error: Some(("EIO", 5)),
    },
    Kind {
        calls: "?unlink,unlinkat",
        at_least: 2,
        // A file that cannot be removed stays until the next start.
        error: None,
    },
    Kind {
        calls: "?mkdir,mkdirat",
        at_least: 8,
        error: Some(("EROFS", 30)),
    },
];

/// A base, a body, and what comes of it when nothing goes wrong.
struct Build {
    base: Base,
    body: Vec<u8>,
    id: String,
}

impl Build {
    async fn new() -> Self {
        let base = Base::serve().await;
        let body = packed(&base.dockerfile(), &tar(&[("chaincode", b"program")]));
        let mut build = Self {
            base,
            body,
            id: String::new(),
        };
        let scratch = TempDir::new().unwrap();
        let server = build.start(scratch.path()).await;
        build.id = built(&server.build(&build.body).await.unwrap());
        build
    }

    fn order(&self, store: &Path) -> Order {
        Order {
            store: in_directory(store),
            registry: self.base.host(),
            pushed_to: None,
            threads: Threads::Counted,
            collecting: Collecting::No,
        }
    }

    /// Starts a server that nothing disturbs.
    async fn start(&self, store: &Path) -> Server {
        Server::start(&self.order(store), &[]).await.unwrap()
    }

    /// Nothing half is there, and the build is possible.
    async fn is_repeatable(&self, server: &Server, store: &Path) {
        let found = Store::read(store);
        assert_eq!(found.ingest, Vec::<std::path::PathBuf>::new());
        let inspected = server.inspect().await;
        assert_eq!(inspected.is_some(), found.refs.len() == 1, "{found:?}");
        assert!(inspected.is_none_or(|id| id == self.id));
        assert_eq!(built(&server.build(&self.body).await.unwrap()), self.id);
        assert_eq!(server.inspect().await.as_ref(), Some(&self.id));
        assert_eq!(Store::read(store).refs.len(), 1);
    }
}

/// Runs `life` with the first, second, … step of each kind until one goes by undisturbed; all kinds at once, since
/// most of the time is the disk's.
async fn each_step(kinds: impl Iterator<Item = &Kind>, life: impl AsyncFn(&Kind, u32) -> bool) {
    futures::future::join_all(kinds.map(async |kind| {
        let mut step = 1;
        while life(kind, step).await {
            step += 1;
        }
        let (calls, steps) = (kind.calls, step - 1);
        assert!(steps >= kind.at_least, "{calls}: only {steps} steps");
    }))
    .await;
}

pub(crate) async fn at_every_step() {
    let build = Build::new().await;
    // What the dead left, or this would show nothing: bytes on their way in, no image, an image.
    let (ingests, absent, complete) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let one_more = |count: &Cell<u32>| count.set(count.get() + 1);
    each_step(KINDS.iter(), async |Kind { calls, .. }, step| {
        let scratch = TempDir::new().unwrap();
        let store = scratch.path().join("store");
        let order = build.order(&store);
        let (answer, is_killed) = step::life_until(&order, calls, step, &build.body).await;
        let left = disk::files(&store.join("ingest"));
        if left.iter().any(|path| !path.ends_with("lock")) {
            one_more(&ingests);
        }
        let server = build.start(&store).await;
        match server.inspect().await {
            Some(_) => one_more(&complete),
            None => one_more(&absent),
        }
        if let Some(answer) = answer {
            // What was promised is kept.
            assert_eq!(server.inspect().await, Some(built(&answer)));
        }
        build.is_repeatable(&server, &store).await;
        server.end().await;
        is_killed
    })
    .await;
    for count in [ingests, absent, complete] {
        assert!(count.get() >= 5);
    }
}

pub(crate) async fn with_an_error_at_every_step() {
    let build = Build::new().await;
    let kinds = KINDS.iter().filter(|kind| kind.error.is_some());
    each_step(kinds, async |Kind { calls, error, .. }, step| {
        let (error, code) = error.as_ref().expect("the others are left out");
        let scratch = TempDir::new().unwrap();
        let store = scratch.path().canonicalize().unwrap().join("store");
        let log = scratch.path().join("trace");
        let around = step::inject(&log, calls, &format!("error={error}"), step);
        let is_told = |text: &str| {
            let (place, cause) = (store.to_str().unwrap(), format!("os error {code}"));
            assert!(
                text.contains("store: ") && text.contains(place) && text.contains(&cause),
                "{calls} {step}: {text}"
            );
        };
        let is_injected = || {
            let trace = std::fs::read_to_string(&log).unwrap();
            trace.contains("(INJECTED)")
        };
        match Server::start(&build.order(&store), &around).await {
            Ok(server) => {
                let answer = server.build(&build.body).await.unwrap();
                let is_injected = is_injected();
                if is_injected {
                    assert_eq!(answer.status, 500, "{calls} {step}: {answer:?}");
                    is_told(&answer.message());
                    build.is_repeatable(&server, &store).await;
                } else {
                    assert_eq!(built(&answer), build.id);
                }
                assert!(server.end().await.status.success());
                is_injected
            }
            Err(ended) => {
                assert!(is_injected(), "{ended:?}");
                is_told(&ended.errors);
                let server = build.start(&store).await;
                build.is_repeatable(&server, &store).await;
                server.end().await;
                true
            }
        }
    })
    .await;
}
