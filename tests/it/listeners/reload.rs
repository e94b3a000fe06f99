//! Certificates that are replaced while the server runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use peitho::listener::Speech;
use peitho::listener::tls::{Reloading, Tls};
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;

use super::log::Log;
use super::pki::{Authority, Files, Leaf, TlsClient, VALID, files, rule};
use crate::engine_api::client::read_head;
use crate::engine_api::world::World;

const PING: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";

/// A volume of a Secret, as the kubelet keeps it: files that lead through `..data` to a directory of one version.
struct Volume(tempfile::TempDir);

impl Volume {
    fn new(leaf: &Leaf) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.update("1", &leaf.pem, &leaf.key.serialize_pem());
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), this.0.path().join(name)).unwrap();
        }
        this
    }

    fn update(&self, version: &str, certificate: &str, key: &str) {
        let directory = self.0.path().join(format!("..{version}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("tls.crt"), certificate).unwrap();
        fs::write(directory.join("tls.key"), key).unwrap();
        let making = self.0.path().join("..data_tmp");
        symlink(directory.file_name().unwrap(), &making).unwrap();
        fs::rename(making, self.0.path().join("..data")).unwrap();
    }
}

fn follow(reloading: Reloading) {
    tokio::spawn(reloading.run());
}

/// The certificate that the server shows to a new connection.
async fn shown(world: &World, client: &TlsClient) -> CertificateDer<'static> {
    let stream = client.connect(world.connect().await).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    shown[0].clone().into_owned()
}

#[tokio::test]
async fn a_secret_is_replaced_and_open_connections_stay() {
    let mut log = Log::begin();
    let server = Authority::new("servers");
    let (first, second) = (server.server("first"), server.server("second"));
    let volume = Volume::new(&first);
    let (tls, reloading) = Tls::of_files(files(volume.0.path())).unwrap();
    follow(reloading);
    let world = World::speaking(Speech {
        tls: Some(tls),
        ..Speech::default()
    })
    .await;
    let client = TlsClient::new(&server, None);
    let mut open = client.connect(world.connect().await).await.unwrap();
    open.write_all(PING).await.unwrap();
    read_head(&mut open).await;
    assert_eq!(shown(&world, &client).await, first.certificate);

    // A key that is not the certificate's: told, and what was in force stays.
    volume.update("2", &second.pem, &first.key.serialize_pem());
    let line = log.wait_for("the changed files cannot serve").await;
    assert!(line.contains("listen.tls.keyFile"), "{line}");
    assert!(
        line.contains("the key is not that of the certificate in"),
        "{line}"
    );
    assert_eq!(shown(&world, &client).await, first.certificate);

    volume.update("3", &second.pem, &second.key.serialize_pem());
    let line = log.wait_for("the files were read again").await;
    assert!(
        line.contains("CN=second") && line.contains("expires=\"20"),
        "{line}"
    );
    assert_eq!(shown(&world, &client).await, second.certificate);
    open.write_all(PING).await.unwrap();
    let (head, _) = read_head(&mut open).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn client_authorities_are_replaced_too() {
    let mut log = Log::begin();
    let server = Authority::new("servers");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = Files::new(&server.server("peitho"));
    let (speech, reloading) = files.tls(&[(&old, rule(&["default"], &[]))]);
    follow(reloading);
    let world = World::speaking(speech).await;
    let old_peer = TlsClient::new(&server, Some(&old.peer("peer0", VALID)));
    let mut stream = old_peer.connect(world.connect().await).await.unwrap();
    stream.write_all(PING).await.unwrap();
    read_head(&mut stream).await;

    files.write("ca0.crt", &new.pem);
    log.wait_for("the files were read again").await;
    let new_peer = TlsClient::new(&server, Some(&new.peer("peer0", VALID)));
    let mut stream = new_peer.connect(world.connect().await).await.unwrap();
    stream.write_all(PING).await.unwrap();
    read_head(&mut stream).await;
    // By a client that was let in before: a session is no proof.
    if let Ok(mut stream) = old_peer.connect(world.connect().await).await {
        stream.write_all(PING).await.unwrap();
        let read = tokio::io::AsyncReadExt::read_u8(&mut stream).await;
        assert!(read.unwrap_err().to_string().contains("UnknownCA"));
    }
    log.wait_for("its issuer is none of those that are trusted: CN=old")
        .await;
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told() {
    let mut log = Log::begin();
    let server = Authority::new("servers");
    let leaf = server.peer("peitho", (-1, 10));
    let files = Files::new(&leaf);
    drop(files.tls(&[]));
    let line = log.wait_for("expires soon").await;
    assert!(line.contains("days=") && line.contains("tls.crt"), "{line}");
}
