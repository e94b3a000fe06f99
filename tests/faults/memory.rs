//! What hostile bodies cost in memory: the peak of the server process, as the kernel keeps it, over each of them.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use crate::bodies::{DOCKERFILE, IMAGE, packed, tar};
use crate::disk::Store;
use crate::server::{Collecting, Order, Server, Threads};
use crate::world::in_directory;

/// A body in flight, buffers, and what the allocator keeps.
const SMALL: u64 = 24 << 20;

/// The names of a package are in memory, 250,000 of them at the most, and where a million files lie.
const NAMES: u64 = 64 << 20;

const MIB: usize = 1 << 20;

struct Body {
    method: &'static str,
    target: String,
    bytes: Vec<u8>,
    status: u16,
    said: &'static str,
    cost: u64,
}

fn build(bytes: Vec<u8>, status: u16, said: &'static str, cost: u64) -> Body {
    Body {
        method: "POST",
        target: format!("/build?t={IMAGE}"),
        bytes,
        status,
        said,
        cost,
    }
}

/// Gzip of what `fill` writes: some kilobytes for a gigabyte.
fn bomb(fill: impl FnOnce(&mut GzEncoder<Vec<u8>>)) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    fill(&mut gzip);
    gzip.finish().unwrap()
}

fn zeros(mib: usize, to: &mut impl Write) {
    let piece = vec![0; MIB];
    for _ in 0..mib {
        to.write_all(&piece).unwrap();
    }
}

/// The header of a file, and with it what stands before its content.
fn file(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

fn large(name: &str, mib: usize, to: &mut impl Write) {
    to.write_all(file(name, (mib * MIB) as u64).as_bytes())
        .unwrap();
    zeros(mib, to);
}

fn many(count: u32, name: impl Fn(u32) -> String, to: &mut impl Write) {
    for number in 0..count {
        to.write_all(file(&name(number), 0).as_bytes()).unwrap();
    }
    to.write_all(&[0; 1024]).unwrap();
}

fn builds() -> Vec<Body> {
    let in_members = |_| bomb(|to| zeros(32, to));
    let package = |package: &[u8]| packed(DOCKERFILE, package);
    let one_name = bomb(|to| many(1_000_001, |_| "f".to_owned(), to));
    let names = bomb(|to| many(300_000, |number| format!("d/file-{number}"), to));
    let harmless = bomb(|to| many(100_000, |number| format!("d/file-{number}"), to));
    let huge = bomb(|to| {
        large("chaincode", 128, to);
        to.write_all(&[0; 1024]).unwrap();
    });
    vec![
        build(
            bomb(|to| zeros(1024, to)),
            400,
            "Dockerfile is missing",
            SMALL,
        ),
        build(
            (0..8).flat_map(in_members).collect(),
            400,
            "Dockerfile is missing",
            SMALL,
        ),
        build(
            bomb(|to| large("other", 256, to)),
            400,
            "Dockerfile is missing",
            SMALL,
        ),
        build(
            bomb(|to| large("Dockerfile", 256, to)),
            400,
            "more than 65536",
            SMALL,
        ),
        build(package(&one_name), 400, "more than 1000000 entries", NAMES),
        build(package(&names), 400, "more than 250000 names", NAMES),
        build(package(&harmless), 200, "Successfully built", NAMES),
        build(package(&huge), 200, "Successfully built", SMALL),
    ]
}

fn others(builder: &str) -> Vec<Body> {
    let put = |container: &str, path: &str| format!("/containers/{container}/archive?path={path}");
    let other = |method, target, bytes, status, said| Body {
        method,
        target,
        bytes,
        status,
        said,
        cost: SMALL,
    };
    let json = [&br#"{"Image":""#[..], &vec![b'x'; 100 * MIB], br#""}"#].concat();
    let files = bomb(|to| large("etc/key", 256, to));
    let input = bomb(|to| large("src/main.go", 256, to));
    let in_input = put(builder, "/chaincode/input");
    vec![
        other(
            "POST",
            "/containers/create".to_owned(),
            json,
            413,
            "longer than 1048576 bytes",
        ),
        other("PUT", put("cc", "/"), files, 400, "more than 1048576 bytes"),
        other(
            "PUT",
            put("cc", "/"),
            vec![b'x'; 100 * MIB],
            413,
            "longer than 2097152 bytes",
        ),
        // Large, but what an input may be.
        other("PUT", in_input, input, 200, ""),
    ]
}

/// The peak of the server's resident memory since the last [`forget`], and what it is now, in bytes.
fn memory(server: &Server) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<u64>().unwrap() << 10
    };
    (field("VmHWM:"), field("VmRSS:"))
}

/// Lets the peak begin anew.
fn forget(server: &Server) {
    fs::write(format!("/proc/{}/clear_refs", server.id()), "5").unwrap();
}

pub(crate) async fn of_hostile_bodies() {
    let scratch = TempDir::new().unwrap();
    let order = Order {
        store: in_directory(&scratch.path().join("store")),
        registry: "127.0.0.1:1".to_owned(),
        pushed_to: None,
        threads: Threads::Many,
        collecting: Collecting::No,
    };
    let server = Server::start(&order, &[]).await.unwrap();
    let client = server.client;
    let body = packed(DOCKERFILE, &tar(&[("chaincode", b"program")]));
    let first = client.send("POST", "/build?t=first", &body).await;
    assert_eq!(first.status, 200, "{first:?}");
    let order = br#"{"Image":"127.0.0.1:1/ccenv","Cmd":"true"}"#;
    let builder = client.send("POST", "/containers/create", order).await;
    let builder: serde_json::Value = serde_json::from_str(&builder.body).unwrap();
    let builder = builder["Id"].as_str().unwrap();

    // Those that may cost much come last: what the allocator keeps of them would hide what the others cost.
    let mut bodies: Vec<_> = builds().into_iter().chain(others(builder)).collect();
    bodies.sort_by_key(|body| body.cost);
    for (number, body) in bodies.into_iter().enumerate() {
        forget(&server);
        let (_, before) = memory(&server);
        let answer = client.send(body.method, &body.target, &body.bytes).await;
        let what = format!("body {number}, {} bytes", body.bytes.len());
        assert_eq!(answer.status, body.status, "{what}: {answer:?}");
        assert!(answer.body.contains(body.said), "{what}: {answer:?}");
        let (peak, _) = memory(&server);
        let cost = peak.saturating_sub(before);
        assert!(cost < body.cost, "{what}: cost {} KiB", cost >> 10);
    }
    assert!(server.end().await.status.success());
    let left = Store::read(&scratch.path().join("store"));
    assert_eq!(left.ingest, Vec::<std::path::PathBuf>::new());
}
