//! Registries behind a proxy. The variables are those of the process, so the test runs itself once more with them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::*;

const NAME: &str =
    "registry::tests::proxies::a_registry_is_reached_by_the_proxies_of_the_environment";
/// In the process that looks up: the registry, and the file of its authority.
const HOST: &str = "PROXIED_REGISTRY";
const AUTHORITY: &str = "PROXIED_AUTHORITY";

/// Serves `CONNECT` (RFC 9110, 9.3.6) as long as the test goes on; gives its address, and how often it was used.
async fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let used = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&used);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(tunnel(client));
        }
    });
    (address, used)
}

async fn tunnel(mut client: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.strip_prefix("CONNECT ").unwrap();
    let target = target.split(' ').next().unwrap();
    let mut server = TcpStream::connect(target).await.unwrap();
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_registry_is_reached_by_the_proxies_of_the_environment() {
    if let Ok(host) = std::env::var(HOST) {
        return look_up(host).await;
    }
    let (open, secure) = (Registry::start("").await, Registry::start_tls().await);
    push(
        &open.registries().await,
        &open.name("a/b:1"),
        &open.name("a/b:index"),
    )
    .await;
    std::os::unix::fs::symlink(open.data(), secure.data()).unwrap();
    let run = async |proxy: &str, except: &str| {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", NAME]);
        again.env(HOST, &secure.host);
        again.env(AUTHORITY, secure.file("ca.pem"));
        again.env("HTTPS_PROXY", proxy).env("NO_PROXY", except);
        let output = again.output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            told.contains("1 passed") || !output.status.success(),
            "{told}"
        );
        output.status.success()
    };
    let (address, used) = proxy().await;
    assert!(run(&address, "").await);
    assert!(used.load(Ordering::Relaxed) > 0);
    let before = used.load(Ordering::Relaxed);
    assert!(run(&address, "example.com, 127.0.0.0/8").await);
    assert_eq!(used.load(Ordering::Relaxed), before);
    // Nothing goes past a proxy that is away.
    assert!(!run("http://127.0.0.1:1", "").await);
}

async fn look_up(host: String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let name = format!("{host}/a/b:1").parse().unwrap();
    let config = config::Registry {
        host,
        ca_file: std::env::var_os(AUTHORITY).map(Into::into),
        ..config::Registry::default()
    };
    let registries = Registries::new(&[config], store).await.unwrap();
    found(registries.look_up(&name).await);
}
