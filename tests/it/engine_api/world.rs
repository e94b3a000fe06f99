//! What the tests stand on: a served router, and a client of a few lines that sends what it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peitho::compile::{Compiles, Settings};
use peitho::container::Containers;
use peitho::engine_api::metrics::Requests;
use peitho::engine_api::{State, Tenants, router};
use peitho::image::Images;
use peitho::listener::{self, Drain};
use peitho::registry::Registries;
use peitho::runtime::Runtime;
use peitho::store::Store;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;

/// Longer than anything here takes; a test that hangs fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Long enough for an answer that should not be there.
pub(crate) const MOMENT: Duration = Duration::from_millis(150);

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) cluster: Arc<Cluster>,
    /// What the process of `cc` writes.
    pub(crate) process: Option<mpsc::UnboundedSender<Bytes>>,
    pub(crate) compiles: Compiles,
    pub(crate) store: Store,
    pub(crate) requests: Requests,
    pub(crate) stop: CancellationToken,
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) directory: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::made(tls, 4, Duration::from_secs(600)).await
    }

    /// `parallel` compiles run at once, and go on for `grace` while nobody waits for them.
    pub(crate) async fn compiling(parallel: usize, grace: Duration) -> Self {
        Self::made(None, parallel, grace).await
    }

    async fn made(
        tls: Option<Arc<rustls::ServerConfig>>,
        parallel: usize,
        abandon_grace: Duration,
    ) -> Self {
        // One for the process; another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let (cluster, process) = Cluster::new();
        let cluster = Arc::new(cluster);
        let runtime = Arc::clone(&cluster) as Arc<dyn Runtime>;
        let tasks = TaskTracker::new();
        let settings = Settings {
            parallel,
            timeout: Duration::from_secs(600),
            install_timeout: Duration::from_secs(600),
            abandon_grace,
            env: std::collections::BTreeMap::new(),
        };
        let images = Images::new(store.clone(), Registries::new(&[]).await.unwrap());
        let compiles = Compiles::new(
            settings,
            Arc::clone(&runtime),
            store.clone(),
            TaskTracker::new(),
        );
        let (stop, closing) = (CancellationToken::new(), CancellationToken::new());
        let state = State {
            images: images.clone(),
            containers: Containers::new(images, compiles.clone(), runtime, store.clone()),
            store: store.clone(),
            tasks: tasks.clone(),
            closing: closing.clone(),
        };
        let tenants: Tenants = ["org1".parse().unwrap()].into_iter().collect();
        let requests = Requests::default();
        let bound = listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let drain = Drain {
            stop: stop.clone(),
            grace: MOMENT,
        };
        Self {
            address: bound.addr,
            cluster,
            process: Some(process),
            compiles,
            store: store.clone(),
            requests: requests.clone(),
            stop,
            closing,
            tasks,
            serving: tokio::spawn(listener::serve(
                bound,
                tls,
                router(state, tenants, requests),
                drain,
            )),
            directory,
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` as it is and leaves the connection open.
    pub(crate) async fn open(&self, request: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Sends a request without a body, and reads to the end of the connection.
    pub(crate) async fn ask(&self, method: &str, target: &str) -> Answer {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        Answer::read(&mut self.open(&head).await).await
    }

    /// Sends a request with `body`, and reads to the end of the connection.
    pub(crate) async fn send(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = self.open(&head).await;
        stream.write_all(body).await.unwrap();
        Answer::read(&mut stream).await
    }
}

/// An answer, to the end of its connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let (head, mut body) = read_head(stream).await;
        let rest = timeout(SOON, stream.read_to_end(&mut body)).await;
        rest.expect("the connection ends").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The `message` of an error, whose shape is checked.
    pub(crate) fn message(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Reads one head; gives it with what came after it.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut received = Vec::new();
    loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = received.split_off(end + 4);
            return (String::from_utf8(received).unwrap(), rest);
        }
        let read = timeout(SOON, stream.read_buf(&mut received)).await;
        let count = read.expect("a head comes").unwrap();
        assert!(count > 0, "closed within a head: {received:?}");
    }
}

/// Reads exactly `count` bytes.
pub(crate) async fn read_exactly(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let read = timeout(SOON, stream.read_exact(&mut bytes)).await;
    read.expect("bytes come").unwrap();
    bytes
}

/// Whether nothing at all comes for a while.
pub(crate) async fn is_silent(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    timeout(MOMENT, stream.read_u8()).await.is_err()
}
