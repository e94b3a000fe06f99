//! Two tenants with equal names on one machine, from the wire to the process: builds, containers, attach, stop, removal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peitho::compile::{Compiles, Settings};
use peitho::config::ByTenant;
use peitho::container::{Containers, Policy};
use peitho::engine_api::metrics::Requests;
use peitho::engine_api::{State, Tenants, router};
use peitho::image::Images;
use peitho::listener::{self, Drain, Speech};
use peitho::registry::Registries;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bodies::{IMAGE, packed, tar};
use crate::client::{Client, read_head};
use crate::conformance::Machine;
use crate::conformance_cases::Subject as _;
use crate::conformance_cases::subject::BASE;

/// The same for both, as the image's name is.
const CONTAINER: &str = "net-peer0-same-1.0";

/// A first start makes the file system of the base.
pub(crate) const PATIENT: Duration = Duration::from_secs(60);

pub(crate) async fn serve(machine: &Machine) -> (SocketAddr, Containers) {
    let (runtime, store) = (machine.runtime(), machine.store().clone());
    let registries = Registries::new(&[], store.clone()).await.unwrap();
    let images = Images::new(store.clone(), registries);
    let settings = Settings {
        parallel_of_tenant: None.into(),
        parallel: 1,
        timeout: PATIENT,
        install_timeout: PATIENT,
        abandon_grace: PATIENT,
        env: BTreeMap::new(),
        surroundings: ByTenant::default(),
        cache: None,
    };
    let compiles = Compiles::new(
        settings,
        Arc::clone(&runtime),
        store.clone(),
        TaskTracker::new(),
    );
    let policy = Policy::default();
    let containers = Containers::new(images.clone(), compiles, runtime, store.clone(), policy);
    let state = State {
        images,
        containers: containers.clone(),
        store,
        tasks: TaskTracker::new(),
        closing: CancellationToken::new(),
    };
    let tenants: Tenants = ["org1", "org2"]
        .map(|it| it.parse().unwrap())
        .into_iter()
        .collect();
    let bound = listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = bound.addr;
    let drain = Drain {
        stop: CancellationToken::new(),
        grace: PATIENT,
    };
    let router = router(state, tenants, Requests::default());
    tokio::spawn(listener::serve(bound, Speech::default(), router, drain));
    (address, containers)
}

/// One tenant's peer.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) tenant: &'static str,
}

impl Peer {
    async fn status(&self, method: &str, target: &str, body: &[u8]) -> u16 {
        let target = format!("/t/{}/v1.44{target}", self.tenant);
        let answer = timeout(PATIENT, self.client.send(method, &target, body)).await;
        answer.expect("it takes too long").status
    }

    pub(crate) async fn build(&self) {
        let dockerfile = format!("FROM {BASE}\nADD binpackage.tar /usr/local/bin");
        let program = tar(&[("chaincode", self.tenant.as_bytes())]);
        let body = packed(dockerfile.as_bytes(), &program);
        let target = format!("/build?t={IMAGE}");
        assert_eq!(self.status("POST", &target, &body).await, 200);
    }

    /// Creates the container; its process says what its tenant's image holds.
    async fn create(&self) -> u16 {
        let script =
            "cat /usr/local/bin/chaincode; echo; trap 'exit 3' TERM; while :; do sleep 0.1; done";
        self.create_running(script).await
    }

    /// Creates the container to run `script`.
    pub(crate) async fn create_running(&self, script: &str) -> u16 {
        let body = serde_json::json!({
            "Image": IMAGE, "Cmd": ["sh", "-c", script], "Env": ["CORE_CHAINCODE_ID_NAME=same:1.0"],
        });
        let target = format!("/containers/create?name={CONTAINER}");
        self.status("POST", &target, body.to_string().as_bytes())
            .await
    }

    pub(crate) async fn of_container(&self, method: &str, action: &str) -> u16 {
        let target = format!("/containers/{CONTAINER}{action}");
        self.status(method, &target, b"").await
    }

    async fn attach(&self) -> TcpStream {
        let request = format!(
            "POST /t/{}/v1.44/containers/{CONTAINER}/attach?logs=1&stream=1&stdout=1&stderr=1 HTTP/1.1\r\n\
             Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
            self.tenant
        );
        let mut stream = self.client.open(&request).await;
        let (head, rest) = read_head(&mut stream).await;
        assert!(
            head.starts_with("HTTP/1.1 101") && rest.is_empty(),
            "{head}"
        );
        stream
    }

    /// What an attached connection says first.
    async fn line(stream: &mut TcpStream) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let byte = timeout(PATIENT, stream.read_u8()).await;
            line.push(byte.expect("a line comes").unwrap());
        }
        String::from_utf8(line).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_names_of_two_tenants_never_meet() {
    let machine = Machine::start().await;
    let client = Client(serve(&machine).await.0);
    let [one, two] = ["org1", "org2"].map(|tenant| Peer { client, tenant });

    one.build().await;
    let inspect = format!("/images/{IMAGE}/json");
    assert_eq!(one.status("GET", &inspect, b"").await, 200);
    assert_eq!(two.status("GET", &inspect, b"").await, 404);
    // An image of the other's is none.
    assert_eq!(two.create().await, 404);
    two.build().await;

    assert_eq!(one.create().await, 201);
    for (method, action) in [
        ("POST", "/start"),
        ("POST", "/wait"),
        ("POST", "/stop"),
        ("POST", "/kill"),
        ("DELETE", "?force=1"),
    ] {
        let status = two.of_container(method, action).await;
        assert_eq!(status, 404, "{method} {action}");
    }
    // Whatever the answer to an attach by name: nothing of the other's is in it.
    let attach = format!("/t/org2/containers/{CONTAINER}/attach?logs=1&stdout=1");
    let attached = timeout(PATIENT, client.send("POST", &attach, b"")).await;
    assert!(!attached.unwrap().body.contains("org1"));
    assert_eq!(two.create().await, 201);
    let mut attached = [one.attach().await, two.attach().await];
    for peer in [&one, &two] {
        assert_eq!(peer.of_container("POST", "/start").await, 204);
    }
    for (stream, peer) in attached.iter_mut().zip([&one, &two]) {
        assert_eq!(Peer::line(stream).await, format!("{}\n", peer.tenant));
    }

    // The end of one is nothing to the other.
    assert_eq!(two.of_container("POST", "/stop").await, 204);
    assert_eq!(two.of_container("DELETE", "?force=1").await, 204);
    assert_eq!(
        timeout(PATIENT, attached[1].read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    assert_eq!(two.of_container("POST", "/start").await, 404);
    // 304: it runs already.
    assert_eq!(one.of_container("POST", "/start").await, 304);
    assert_eq!(one.of_container("POST", "/stop").await, 204);
    assert_eq!(one.of_container("DELETE", "?force=1").await, 204);
}
