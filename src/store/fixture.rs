//! Buckets of a real server of S3 for the library's tests, here and in the modules above.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use testbed::S3 as Server;

use super::{Patience, Store};
use crate::config::{self, Surrounding};

/// For all that neither stop it nor count what it is asked.
pub(super) static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start().unwrap());

/// A new bucket of [`SERVER`], with the place of its files. The secret lies in `root`.
pub(crate) async fn bucket(root: &Path) -> (config::S3, PathBuf) {
    let root = root.to_owned();
    tokio::task::spawn_blocking(move || bucket_of(&SERVER, &root))
        .await
        .unwrap()
}

pub(super) fn bucket_of(server: &Server, root: &Path) -> (config::S3, PathBuf) {
    let bucket = format!("bucket-{:016x}", rand::random::<u64>());
    let objects = server.make_bucket(&bucket).unwrap();
    let secret = root.join("secret");
    fs::write(&secret, format!("{}\n", Server::SECRET_KEY)).unwrap();
    let config = config::S3 {
        bucket,
        endpoint: Some(server.endpoint()),
        access_key_id: Some(Server::ACCESS_KEY.to_owned()),
        secret_access_key_file: Some(secret),
        ..config::S3::default()
    };
    (config, objects)
}

/// A bucket that several machines share.
pub(crate) struct Bucket {
    s3: config::S3,
    /// Where its objects are.
    pub(crate) objects: PathBuf,
    root: tempfile::TempDir,
}

impl Bucket {
    pub(crate) async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (s3, objects) = bucket(root.path()).await;
        Self { s3, objects, root }
    }

    /// The store in it, as a machine opens it that has no copies.
    pub(crate) async fn open(&self) -> Store {
        let machine = format!("machine-{:016x}", rand::random::<u64>());
        let mut config = config::Store {
            directory: Some(self.root.path().join(machine)),
            ..config::Store::default()
        };
        config.s3 = self.s3.clone();
        let opened = Store::configured(&config, Surrounding::Machine, Patience::OfServer);
        opened.await.unwrap()
    }
}
