//! Tenants by their certificates: what one has, the others do not see (design D14).

use std::net::SocketAddr;
use std::time::Duration;

use peitho::engine_api::metrics::Requests;
use peitho::engine_api::{Tenants, router};
use peitho::listener::{self, Drain};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::log::Log;
use super::pki::{Authority, Files, TlsClient, VALID, rule};
use crate::engine_api::bodies::{IMAGE, complete};
use crate::engine_api::client::Answer;
use crate::engine_api::world::World;

/// A server of two organisations, each with an authority of its own.
struct Site {
    address: SocketAddr,
    server: Authority,
    org1: Authority,
    org2: Authority,
    requests: Requests,
    _files: Files,
    _world: World,
}

/// One peer.
struct Peer<'a> {
    site: &'a Site,
    tls: TlsClient,
}

impl Site {
    async fn new() -> Self {
        let (org1, org2) = (Authority::new("org1-ca"), Authority::new("org2-ca"));
        let server = Authority::new("servers");
        let files = Files::new(&server.server("peitho"));
        let (speech, _) = files.tls(&[
            (&org1, rule(&["org1"], &["*.org1"])),
            (&org2, rule(&["org2"], &[])),
        ]);
        let world = World::new().await;
        let known = ["org1", "org2"].map(|name| name.parse().unwrap());
        let tenants = Tenants::new(known, ["default".parse().unwrap()]);
        let requests = Requests::default();
        let router = router(world.state.clone(), tenants, requests.clone());
        let bound = listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = bound.addr;
        let drain = Drain {
            stop: world.stop.clone(),
            grace: Duration::from_millis(100),
        };
        tokio::spawn(listener::serve(bound, speech, router, drain));
        Self {
            address,
            server,
            org1,
            org2,
            requests,
            _files: files,
            _world: world,
        }
    }

    fn peer(&self, authority: &Authority, name: &str) -> Peer<'_> {
        let leaf = authority.peer(name, VALID);
        Peer {
            site: self,
            tls: TlsClient::new(&self.server, Some(&leaf)),
        }
    }
}

impl Peer<'_> {
    async fn send(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let tcp = TcpStream::connect(self.site.address).await.unwrap();
        let mut stream = self.tls.connect(tcp).await.unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        Answer::read(&mut stream).await
    }

    async fn status(&self, method: &str, target: &str) -> u16 {
        self.send(method, target, b"").await.status
    }
}

#[tokio::test]
async fn equal_images_of_two_tenants_never_meet() {
    let site = Site::new().await;
    let one = site.peer(&site.org1, "peer0.org1");
    // The very subject of org1's peer, issued by org2's authority.
    let other = site.peer(&site.org2, "peer0.org1");
    let (build, inspect) = (format!("/build?t={IMAGE}"), format!("/images/{IMAGE}/json"));
    assert_eq!(one.send("POST", &build, &complete()).await.status, 200);
    assert_eq!(one.status("GET", &inspect).await, 200);
    assert_eq!(
        one.status("GET", &format!("/t/org1/v1.44{inspect}")).await,
        200
    );
    let missing = other.send("GET", &inspect, b"").await;
    assert_eq!(missing.status, 404);
    assert!(missing.message().contains("No such image"), "{missing:?}");
    assert_eq!(other.send("POST", &build, &complete()).await.status, 200);
    assert_eq!(other.status("GET", &inspect).await, 200);
}

#[tokio::test]
async fn a_path_that_disagrees_is_refused_and_so_is_a_tenant_that_is_not() {
    let log = Log::begin();
    let site = Site::new().await;
    let other = site.peer(&site.org2, "peer0.org2");
    for target in ["/t/org1/_ping", "/t/org1/v1.44/images/a/json"] {
        let refused = other.send("GET", target, b"").await;
        assert_eq!(refused.status, 403);
        assert_eq!(
            refused.message(),
            "the path names the tenant org1, but the certificate of CN=peer0.org2 is one of org2: use its path or none"
        );
    }
    assert_eq!(log.lines_with("the path names the tenant org1").len(), 2);
    // The body of what is refused is read: the answer arrives.
    let refused = other
        .send("POST", "/t/org1/build?t=a", &vec![0; 500_000])
        .await;
    assert_eq!(refused.status, 403);
    assert_eq!(other.status("GET", "/t/org3/_ping").await, 404);
    assert_eq!(other.status("GET", "/t/org2/_ping").await, 200);
    // A method is the client's word, and no label's.
    assert_eq!(other.status("OFMYOWN", "/t/org1/_ping").await, 403);
    let mut registry = prometheus_client::registry::Registry::default();
    site.requests.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(r#"endpoint="GET /_ping""#), "{text}");
    assert!(!text.contains("OFMYOWN"), "{text}");
}

#[tokio::test]
async fn a_builder_is_seen_by_its_tenant_alone() {
    let site = Site::new().await;
    let one = site.peer(&site.org1, "peer0.org1");
    let other = site.peer(&site.org2, "peer0.org2");
    let body =
        br#"{"Image":"127.0.0.1:1/fabric-ccenv:2.5","Cmd":["/bin/sh","-c","true"],"Env":null}"#;
    let created = one.send("POST", "/containers/create", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let created: serde_json::Value = serde_json::from_str(&created.body).unwrap();
    let container = format!("/containers/{}", created["Id"].as_str().unwrap());
    for (method, what) in [
        ("POST", "/attach?logs=1&stdout=1&stream=1"),
        ("PUT", "/archive?path=/chaincode/input"),
        ("GET", "/archive?path=/chaincode/output"),
        ("POST", "/start"),
        ("POST", "/wait"),
        ("POST", "/kill"),
        ("POST", "/stop"),
        ("DELETE", ""),
    ] {
        let status = other.status(method, &format!("{container}{what}")).await;
        assert_eq!(status, 404, "{method} {what}");
    }
    assert_eq!(one.status("DELETE", &container).await, 204);
}

#[tokio::test]
async fn subjects_narrow_an_authority() {
    let log = Log::begin();
    let site = Site::new().await;
    let stranger = site.peer(&site.org1, "peer0.elsewhere");
    let tcp = TcpStream::connect(site.address).await.unwrap();
    // Over TLS 1.3 the refusal comes with the first read.
    if let Ok(mut stream) = stranger.tls.connect(tcp).await {
        let read = tokio::io::AsyncReadExt::read_u8(&mut stream).await;
        assert!(read.is_err(), "{read:?}");
    }
    let told = log.lines_with("client certificate refused");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("its common name peer0.elsewhere is not in"));
}
