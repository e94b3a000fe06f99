//! Client certificates: who is let in, and what is said of who is not.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::log::Log;
use super::pki::{Authority, Files, Leaf, TlsClient, VALID, rule};
use crate::engine_api::attach::{ALL, attach};
use crate::engine_api::client::{Answer, SOON, is_silent, read_head};
use crate::engine_api::world::World;

const PING: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// A server that lets in the peers of `org1`.
struct Site {
    world: World,
    server: Authority,
    org1: Authority,
    _files: Files,
}

impl Site {
    async fn new() -> Self {
        let (server, org1) = (Authority::new("servers"), Authority::new("org1-ca"));
        let files = Files::new(&server.server("peitho"));
        let (speech, _) = files.tls(&[(&org1, rule(&["default"], &[]))]);
        Self {
            world: World::speaking(speech).await,
            server,
            org1,
            _files: files,
        }
    }

    async fn ping(&self, client: &TlsClient) -> io::Result<Answer> {
        let mut stream = client.connect(self.world.connect().await).await?;
        stream.write_all(PING).await?;
        let mut received = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut received)).await;
        read.expect("the connection ends")?;
        Ok(Answer::parse(&received).unwrap())
    }
}

#[tokio::test]
async fn a_peer_is_let_in_by_either_version_of_tls() {
    let site = Site::new().await;
    let peer = site.org1.peer("peer0.org1", VALID);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = TlsClient::speaking(&site.server, Some(&peer), &[version]);
        // Twice by one client: nothing is resumed, and nothing is wrong with that.
        for _ in 0..2 {
            let answer = site.ping(&client).await.unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
        }
    }
}

/// As fsouza half-closes it: a FIN without a word of TLS before it.
#[tokio::test]
async fn attach_works_with_a_client_certificate() {
    let mut site = Site::new().await;
    let peer = site.org1.peer("peer0.org1", VALID);
    let client = TlsClient::new(&site.server, Some(&peer));
    let mut stream = client.connect(site.world.connect().await).await.unwrap();
    stream.write_all(attach("", ALL).as_bytes()).await.unwrap();
    let (head, _) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.get_mut().0.shutdown().await.unwrap();
    assert!(is_silent(&mut stream).await);
    site.world.writes(b"one");
    site.world.ends();
    let mut frames = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut frames)).await;
    read.unwrap().unwrap();
    assert_eq!(frames, b"\x01\0\0\0\0\0\0\x03one");
}

#[tokio::test]
async fn who_is_not_known_is_refused_and_the_log_says_why() {
    let log = Log::begin();
    let site = Site::new().await;
    let org2 = Authority::new("org2-ca");
    let namesake = Authority::new("org1-ca");
    let name = "peer0.org1";
    let server_only = site.org1.server(name);
    let cases: [(Option<Leaf>, &str, &str); 8] = [
        (None, "CertificateRequired", "reason=\"none was shown"),
        (
            Some(site.org1.peer(name, (-9, -2))),
            "CertificateExpired",
            "reason=\"it expired at 20",
        ),
        (
            Some(site.org1.peer(name, (2, 9))),
            "CertificateExpired",
            "reason=\"it is not valid before 20",
        ),
        (
            Some(Authority::new("nobody").peer(name, VALID)),
            "UnknownCA",
            "reason=\"its issuer is none of those that are trusted: CN=nobody",
        ),
        // Of two faults the one that no new certificate of the same authority mends.
        (
            Some(Authority::new("nobody").peer(name, (-9, -2))),
            "UnknownCA",
            "reason=\"its issuer is none of those that are trusted: CN=nobody",
        ),
        // The same subject as org1's own peer.
        (
            Some(org2.peer(name, VALID)),
            "UnknownCA",
            "reason=\"its issuer is none of those that are trusted: CN=org2-ca",
        ),
        // And an authority of the same name as org1's.
        (
            Some(namesake.peer(name, VALID)),
            "CA",
            "reason=\"its issuer has the name of one in listen.tls.clientCaFile, CN=org1-ca, but signed with another key",
        ),
        (
            Some(server_only),
            "UnsupportedCertificate",
            "reason=\"its extended key usage does not allow clientAuth",
        ),
    ];
    for (index, (leaf, alert, reason)) in cases.iter().enumerate() {
        let client = TlsClient::new(&site.server, leaf.as_ref());
        // Over TLS 1.3 the client has done its part when the server looks at the certificate.
        let refused = site.ping(&client).await.unwrap_err().to_string();
        assert!(
            refused.contains("received fatal alert"),
            "{reason}: {refused}"
        );
        assert!(refused.contains(alert), "{reason}: {refused}");
        let told = log.lines_with("client certificate refused");
        assert_eq!(told.len(), index + 1, "{told:#?}");
        let line = &told[index];
        assert!(line.contains(reason), "{reason}: {line}");
        assert!(
            line.contains(" WARN ") && line.contains("remote=127.0.0.1:"),
            "{line}"
        );
        if leaf.is_some() {
            assert!(line.contains("subject=\"CN=peer0.org1\""), "{line}");
        }
    }
    // And whom it knows, it still lets in.
    let peer = site.org1.peer(name, VALID);
    let known = TlsClient::new(&site.server, Some(&peer));
    assert_eq!(site.ping(&known).await.unwrap().status, 200);
}

/// A stranger cannot fill the log.
#[tokio::test]
async fn refusals_in_the_log_are_bounded() {
    let log = Log::begin();
    let site = Site::new().await;
    let client = TlsClient::new(&site.server, None);
    for _ in 0..40 {
        site.ping(&client).await.unwrap_err();
    }
    assert_eq!(log.lines_with("client certificate refused").len(), 30);
}
