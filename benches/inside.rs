//! What single steps cost inside of the server, without peers: `/build` of an ordinary program, tars read and written, requests on their way to a
//! handler, the copy of a log to who is attached. The router is the real one over a real store; only the cluster is that of the Engine
//! API's tests, and nothing here waits for it. `make bench` measures what people wait for; this says where inside to look.
//!
//! `cargo bench` compares with the run before it.

#![expect(clippy::unwrap_used, reason = "a measure that cannot go on has failed")]

#[path = "../tests/it/engine_api/bodies.rs"]
#[expect(dead_code, reason = "the tests of the Engine API use the rest")]
mod bodies;
#[path = "../tests/it/engine_api/client.rs"]
#[expect(dead_code, reason = "the tests of the Engine API use the rest")]
mod client;
#[path = "../tests/it/engine_api/cluster.rs"]
mod cluster;
#[path = "../tests/it/engine_api/world.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the tests of the Engine API use the rest"
)]
mod world;

use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use axum::body::Body;
use bodies::{IMAGE, packed, tar};
use criterion::{BatchSize, Criterion, Throughput};
use http::{Request, StatusCode};
use peitho::archive::{self, Limits};
use peitho::engine_api::metrics::Requests;
use peitho::engine_api::{Tenants, router};
use peitho::registry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use world::World;

/// The size of an ordinary program in Go.
const PROGRAM: usize = 18_000_000;

/// Those of a package with its modules, 3 MB in all.
const FILES: usize = 1000;
const FILE: usize = 3000;

/// Bytes of a compile's log; a peer attaches to it whole.
const LOG: usize = 16 << 20;

/// At once, as the agent sends it.
const BATCH: usize = 1 << 20;

const BASE: &str = "127.0.0.1:1/fabric-baseos:2.5";

fn main() {
    let runtime = Runtime::new().unwrap();
    let mut criterion = Criterion::default().configure_from_args();
    let world = runtime.block_on(with_base());
    build(&mut criterion, &runtime, &world);
    tars(&mut criterion);
    routing(&mut criterion, &runtime, &world);
    attach(&mut criterion, &runtime, &world);
    criterion.final_summary();
}

/// A server that has the base of the images.
async fn with_base() -> World {
    let world = World::new().await;
    let manifest = format!(r#"[{{"Config": "c.json", "RepoTags": ["{BASE}"], "Layers": []}}]"#);
    let config = br#"{"config": {}, "rootfs": {"diff_ids": []}}"#;
    let archive = tar(&[("c.json", config), ("manifest.json", manifest.as_bytes())]);
    let imported = registry::import(&world.store, io::Cursor::new(archive), None);
    imported.await.unwrap();
    world
}

/// A real program: this one, as often as it takes.
fn program() -> Vec<u8> {
    let mut own = Vec::new();
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    file.take(PROGRAM as u64).read_to_end(&mut own).unwrap();
    own.iter().copied().cycle().take(PROGRAM).collect()
}

/// From the first byte of a ready body to the end of the answer; each time a program that nobody has seen.
fn build(criterion: &mut Criterion, runtime: &Runtime, world: &World) {
    let dockerfile = format!("FROM {BASE}\nADD binpackage.tar /usr/local/bin");
    let target = format!("/v1.44/build?t={IMAGE}");
    let mut program = program();
    let mut number = 0_u64;
    let mut group = criterion.benchmark_group("build");
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Bytes(PROGRAM as u64));
    group.bench_function("18mb", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                program[..8].copy_from_slice(&number.to_le_bytes());
                packed(dockerfile.as_bytes(), &tar(&[("chaincode", &program)]))
            },
            |body| {
                let built = runtime.block_on(world.send("POST", &target, &body));
                assert_eq!(built.status, 200, "{built:?}");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Of a thousand files: an upload that is checked, a source that is unpacked, an output that is packed.
fn tars(criterion: &mut Criterion) {
    let names: Vec<_> = (0..FILES)
        .map(|n| format!("src/package{}/file{n}.go", n % 50))
        .collect();
    let program = program();
    let files = names.iter().zip(program.chunks_exact(FILE));
    let files: Vec<_> = files.map(|(name, it)| (name.as_str(), it)).collect();
    let archive = tar(&files);
    let tree = TempDir::new().unwrap();
    archive::unpack(&archive[..], Limits::default(), tree.path()).unwrap();
    let mut group = criterion.benchmark_group("tar");
    group.throughput(Throughput::Bytes(archive.len() as u64));
    group.bench_function("check", |bencher| {
        bencher.iter(|| archive::digest(&archive[..], Limits::default()).unwrap());
    });
    group.bench_function("unpack", |bencher| {
        bencher.iter_batched(
            || TempDir::new().unwrap(),
            |into| {
                archive::unpack(&archive[..], Limits::default(), into.path()).unwrap();
                into
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("pack", |bencher| {
        bencher.iter(|| archive::pack(tree.path(), io::sink()).unwrap());
    });
    group.finish();
}

/// All layers from a request's head to its handler and back: the shortest of them, one that reads a record, one that nobody serves.
fn routing(criterion: &mut Criterion, runtime: &Runtime, world: &World) {
    let tenants: Tenants = ["org1".parse().unwrap()].into_iter().collect();
    let router = router(world.state.clone(), tenants, Requests::default());
    // As the other measure left it, or here.
    let dockerfile = format!("FROM {BASE}\nADD binpackage.tar /usr/local/bin");
    let body = packed(dockerfile.as_bytes(), &tar(&[("chaincode", b"program")]));
    let built = runtime.block_on(world.send("POST", &format!("/build?t={IMAGE}"), &body));
    assert_eq!(built.status, 200, "{built:?}");
    let mut group = criterion.benchmark_group("routing");
    for (name, target, status) in [
        ("ping", "/t/org1/v1.44/_ping".to_owned(), StatusCode::OK),
        (
            "image",
            format!("/v1.44/images/{IMAGE}/json"),
            StatusCode::OK,
        ),
        (
            "unknown",
            "/v1.44/nothing/of/docker".to_owned(),
            StatusCode::NOT_FOUND,
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = Request::get(&target).body(Body::empty()).unwrap();
                let answer = runtime.block_on(router.clone().oneshot(request)).unwrap();
                assert_eq!(answer.status(), status);
            });
        });
    }
    group.finish();
}

/// The log of a compile that is over, from the store's disk to the socket: as fsouza reads it, in frames, and as moby does.
fn attach(criterion: &mut Criterion, runtime: &Runtime, world: &World) {
    let id = runtime.block_on(compiled(world));
    let mut group = criterion.benchmark_group("attach");
    group.throughput(Throughput::Bytes(LOG as u64));
    for (name, prefix) in [("frames", ""), ("raw", "/v1.44")] {
        let request = format!(
            "POST {prefix}/containers/{id}/attach?logs=1&stdout=1&stream=1 HTTP/1.1\r\nHost: x\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        );
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let read = runtime.block_on(read_to_end(world, &request));
                assert!(read >= LOG, "{read} bytes");
            });
        });
    }
    group.finish();
}

/// How much comes on the connection of `request`.
async fn read_to_end(world: &World, request: &str) -> usize {
    let mut stream = world.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 128 << 10];
    let mut sum = 0;
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => return sum,
            read => sum += read,
        }
    }
}

/// A builder whose compile wrote [`LOG`] bytes.
async fn compiled(world: &World) -> String {
    let body = r#"{"Image":"127.0.0.1:1/fabric-ccenv:2.5","Cmd":["true"],"Env":null}"#;
    let create = world.send("POST", "/containers/create", body.as_bytes());
    let created: serde_json::Value = serde_json::from_str(&create.await.body).unwrap();
    let id = created["Id"].as_str().unwrap().to_owned();
    let start = format!("/containers/{id}/start");
    assert_eq!(world.ask("POST", &start).await.status, 204);
    let mut ordered = world.cluster.compile.subscribe();
    let key = ordered.wait_for(Option::is_some).await.unwrap().unwrap();
    let line = format!("{}\n", "x".repeat(127));
    let batch = line.repeat(BATCH / line.len());
    for at in (0..LOG).step_by(BATCH) {
        let appended = world.compiles.append_log(&key, at as u64, batch.as_bytes());
        appended.await.unwrap();
    }
    world.compiles.exited(&key, 1).await.unwrap();
    id
}
