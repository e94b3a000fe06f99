//! Attach: 101 before the start, framing by the path, half-closed clients, and its end.

use std::sync::Arc;

use bytes::Bytes;
use peitho::delivery;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::world::{Answer, SOON, World, header, is_silent, read_exactly, read_head};

/// As moby sends it; fsouza differs in the Content-Type.
pub(crate) fn attach(prefix: &str, query: &str) -> String {
    format!(
        "POST {prefix}/containers/cc/attach?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
    )
}

pub(crate) const ALL: &str = "logs=1&stderr=1&stdout=1&stream=1";

impl World {
    pub(crate) fn writes(&self, output: &'static [u8]) {
        let process = self.process.as_ref().unwrap();
        process.send(Bytes::from_static(output)).unwrap();
    }

    pub(crate) fn ends(&mut self) {
        self.process = None;
    }
}

/// Protocol rules 9, 10, 13.
#[tokio::test]
async fn moby_gets_101_at_once_then_raw_bytes_then_the_end() {
    let mut world = World::new().await;
    let mut stream = world.open(&attach("/v1.44", ALL)).await;
    let (head, rest) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(header(&head, "connection"), Some("Upgrade"));
    assert_eq!(header(&head, "upgrade"), Some("tcp"));
    assert_eq!(
        header(&head, "content-type"),
        Some("application/vnd.docker.raw-stream")
    );
    assert!(rest.is_empty() && is_silent(&mut stream).await);
    world.writes(b"one\xff");
    assert_eq!(read_exactly(&mut stream, 4).await, b"one\xff");
    world.writes(b"two");
    world.ends();
    let last = rest_of(&mut stream).await;
    assert_eq!(last, b"two");
}

/// The `docker` command takes frames off, and its path has a version.
#[tokio::test]
async fn a_person_gets_frames() {
    let mut world = World::new().await;
    let person = attach("/v1.44", ALL).replace(
        "Host: x\r\n",
        "Host: x\r\nUser-Agent: Docker-Client/29.1.3 (linux)\r\n",
    );
    let mut stream = world.open(&person).await;
    let (head, _) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    world.writes(b"one");
    world.ends();
    let frames = rest_of(&mut stream).await;
    assert_eq!(frames, b"\x01\0\0\0\0\0\0\x03one");
}

/// Protocol rules 11, 13.
#[tokio::test]
async fn fsouza_half_closes_and_gets_frames() {
    let mut world = World::new().await;
    let mut stream = world.open(&attach("", ALL)).await;
    read_head(&mut stream).await;
    stream.shutdown().await.unwrap();
    assert!(is_silent(&mut stream).await);
    world.writes(b"one");
    world.writes(b"three");
    world.ends();
    let frames = rest_of(&mut stream).await;
    assert_eq!(frames, b"\x01\0\0\0\0\0\0\x03one\x01\0\0\0\0\0\0\x05three");
}

/// Over TLS fsouza's half-close is a bare FIN without a word of TLS before it.
#[tokio::test]
async fn a_bare_fin_under_tls_is_a_half_close() {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = parameters.self_signed(&key).unwrap();
    let server = delivery::tls::server_config(
        &ca.pem(),
        &key.serialize_pem().into(),
        &["https://127.0.0.1:1".to_owned()],
    );
    let mut world = World::with(Some(server.unwrap())).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = world.connect().await;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(name, tcp).await.unwrap();
    stream.write_all(attach("", ALL).as_bytes()).await.unwrap();
    let (head, _) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.get_mut().0.shutdown().await.unwrap();
    assert!(is_silent(&mut stream).await);
    world.writes(b"one");
    world.ends();
    let frames = rest_of(&mut stream).await;
    assert_eq!(frames, b"\x01\0\0\0\0\0\0\x03one");
}

/// Protocol rule 10, for chaincode: attached before the start, or only after it was refused.
#[tokio::test]
async fn attach_ends_with_a_start_that_is_refused() {
    let world = World::new().await;
    let mut early = world.open(&attach("/v1.44", ALL)).await;
    read_head(&mut early).await;
    *world.cluster.refuses.lock().unwrap() = Some("exceeded quota".to_owned());
    let started = world.ask("POST", "/v1.44/containers/cc/start").await;
    assert_eq!(
        (started.status, started.message().as_str()),
        (500, "exceeded quota")
    );
    let mut rest = Vec::new();
    timeout(SOON, early.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    let waited = world.ask("POST", "/v1.44/containers/cc/wait").await;
    assert_eq!(
        (waited.status, waited.message().as_str()),
        (500, "exceeded quota")
    );
}

#[tokio::test]
async fn who_wants_no_stream_gets_none() {
    let world = World::new().await;
    for query in [
        "stdout=0&stderr=false&stream=1&logs=1",
        "stdout=1&stderr=1",
        "",
    ] {
        let mut stream = world.open(&attach("/v1.44", query)).await;
        let (head, mut rest) = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{query}: {head}");
        timeout(SOON, stream.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert!(rest.is_empty(), "{query}");
    }
}

#[tokio::test]
async fn without_an_upgrade_the_output_is_a_plain_answer() {
    let mut world = World::new().await;
    world.writes(b"one");
    world.ends();
    let answer = world
        .ask("POST", &format!("/v1.44/containers/cc/attach?{ALL}"))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.docker.raw-stream")
    );
    assert!(answer.body.contains("one"), "{answer:?}");
    let _: Answer = answer;
}

/// What a client left behind must not keep the server from ending.
#[tokio::test]
async fn attached_connections_end_with_the_server() {
    let world = World::new().await;
    let mut stream = world.open(&attach("/v1.44", ALL)).await;
    read_head(&mut stream).await;
    world.closing.cancel();
    world.tasks.close();
    timeout(SOON, world.tasks.wait()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

/// All that comes until the server ends the stream.
async fn rest_of(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    rest
}
