//! A store in a bucket of a real server of S3: what one server built another one has, and a server that dies at a request, or
//! a bucket that is gone, leave nothing half.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use peitho::config;
use peitho::store::{self, Patience};
use tempfile::TempDir;
use testbed::S3;

use crate::bodies::{packed, tar};
use crate::disk::Store;
use crate::registry::Base;
use crate::server::{Collecting, Order, Server, Threads, built};
use crate::step;
use crate::world::in_directory;

/// A base, a body, and a server of S3.
struct Setting {
    base: Base,
    body: Vec<u8>,
    s3: S3,
    scratch: TempDir,
}

impl Setting {
    async fn new() -> Self {
        let base = Base::serve().await;
        let body = packed(&base.dockerfile(), &tar(&[("chaincode", b"program")]));
        let s3 = tokio::task::spawn_blocking(|| S3::start().unwrap());
        let scratch = TempDir::new().unwrap();
        fs::write(scratch.path().join("secret"), S3::SECRET_KEY).unwrap();
        Self {
            base,
            body,
            s3: s3.await.unwrap(),
            scratch,
        }
    }

    /// A new bucket, where its objects are.
    fn bucket(&self, name: &str) -> PathBuf {
        self.s3.make_bucket(name).unwrap()
    }

    /// Of a server with `bucket`, and a directory that no other one has.
    fn order(&self, bucket: &str, threads: Threads) -> Order {
        let directory = format!("{bucket}-{:016x}", rand::random::<u64>());
        let s3 = config::S3 {
            bucket: bucket.to_owned(),
            endpoint: Some(self.s3.endpoint()),
            access_key_id: Some(S3::ACCESS_KEY.to_owned()),
            secret_access_key_file: Some(self.scratch.path().join("secret")),
            ..config::S3::default()
        };
        let mut store = in_directory(&self.scratch.path().join(directory));
        store.s3 = s3;
        Order {
            store,
            registry: self.base.host(),
            pushed_to: None,
            threads,
            collecting: Collecting::No,
        }
    }

    async fn start(&self, bucket: &str) -> Server {
        let order = self.order(bucket, Threads::Many);
        Server::start(&order, &[]).await.unwrap()
    }
}

fn directory(order: &Order) -> &Path {
    order.store.directory.as_deref().unwrap()
}

pub(crate) async fn another_has_what_one_built() {
    let setting = Setting::new().await;
    let objects = setting.bucket("shared");
    let order = setting.order("shared", Threads::Many);
    let first = Server::start(&order, &[]).await.unwrap();
    let id = built(&first.build(&setting.body).await.unwrap());
    assert!(first.end().await.status.success());
    fs::remove_dir_all(directory(&order)).unwrap();
    let stored = Store::read(&objects);
    assert_eq!((stored.refs.len(), stored.blobs.len()), (1, 3));

    let second = setting.start("shared").await;
    assert_eq!(second.inspect().await.as_ref(), Some(&id));
    assert_eq!(built(&second.build(&setting.body).await.unwrap()), id);
    assert_eq!(Store::read(&objects), stored);
    // As it is delivered: by its digest, out of a directory that was empty.
    let third = setting.order("shared", Threads::Many);
    let surrounding = config::Surrounding::Machine;
    let third = store::Store::configured(&third.store, surrounding, Patience::OfServer);
    let third = third.await.unwrap();
    for blob in &stored.blobs {
        let hex = blob.file_name().unwrap().to_str().unwrap();
        let digest = format!("sha256:{hex}").parse().unwrap();
        let (mut file, found) = third.open_blob(&digest).await.unwrap().unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut content).unwrap();
        assert_eq!(content, fs::read(blob).unwrap());
        assert_eq!(found.size, content.len() as u64);
    }
    second.end().await;
}

pub(crate) async fn gone_for_a_while() {
    let setting = Setting::new().await;
    let objects = setting.bucket("lost");
    let server = setting.start("lost").await;
    let aside = setting.scratch.path().join("aside");
    fs::rename(&objects, &aside).unwrap();
    let answer = server.build(&setting.body).await.unwrap();
    assert_eq!(answer.status, 500, "{answer:?}");
    let message = answer.message();
    let endpoint = setting.s3.endpoint();
    for part in ["store: ", "the bucket lost at ", &endpoint, "NoSuchBucket"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!objects.exists());
    fs::rename(&aside, &objects).unwrap();
    let found = Store::read(&objects);
    assert_eq!((found.refs.len(), found.blobs.len()), (0, 0), "{found:?}");
    assert_eq!(server.inspect().await, None);
    let id = built(&server.build(&setting.body).await.unwrap());
    assert_eq!(server.inspect().await, Some(id));
    Store::read(&objects);
    server.end().await;
}

/// With these a request goes out.
const CALLS: &str = "sendto,writev";

pub(crate) async fn killed_at_every_request() {
    let setting = Setting::new().await;
    setting.bucket("whole");
    let whole = setting.start("whole").await;
    let id = built(&whole.build(&setting.body).await.unwrap());
    whole.end().await;

    let (absent, complete) = (Cell::new(0), Cell::new(0));
    let mut step = 1;
    while killed_at(&setting, &id, step, [&absent, &complete]).await {
        step += 1;
    }
    // What the dead left, or this would show nothing.
    assert!(
        absent.get() >= 5 && complete.get() >= 1,
        "{step} steps: {absent:?} {complete:?}"
    );
}

/// A server that dies at its request of that number; whether there is one.
async fn killed_at(setting: &Setting, id: &str, step: u32, counts: [&Cell<u32>; 2]) -> bool {
    let bucket = format!("killed-{step}");
    let objects = setting.bucket(&bucket);
    let order = setting.order(&bucket, Threads::Counted);
    let (answer, is_killed) = step::life_until(&order, CALLS, step, &setting.body).await;
    // On another machine.
    let server = setting.start(&bucket).await;
    let inspected = server.inspect().await;
    let [absent, complete] = counts;
    let count = if inspected.is_some() {
        complete
    } else {
        absent
    };
    count.set(count.get() + 1);
    let found = Store::read(&objects);
    assert_eq!(inspected.is_some(), found.refs.len() == 1, "{found:?}");
    assert!(inspected.as_deref().is_none_or(|it| it == id));
    if let Some(answer) = answer {
        // What was promised is kept.
        assert_eq!(inspected, Some(built(&answer)));
    }
    assert_eq!(built(&server.build(&setting.body).await.unwrap()), id);
    assert_eq!(server.inspect().await.as_deref(), Some(id));
    Store::read(&objects);
    server.end().await;
    is_killed
}
