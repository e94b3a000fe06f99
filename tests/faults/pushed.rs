//! The server is killed at every call by which it sends something while it pushes what it built: to the base's registry, of
//! which a layer passes through, to the one that it pushes to, to the client. An image that exists afterwards is whole in the
//! registry. And the server starts where there is no registry yet.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::bodies::{packed, tar};
use crate::client::{Answer, Client};
use crate::disk::Store;
use crate::docker_registry::DockerRegistry;
use crate::registry::{Base, MANIFEST};
use crate::server::{Collecting, Order, Server, Threads, built};
use crate::step;
use crate::world::in_directory;

/// By which the server sends.
const CALLS: &str = "write,writev,sendto,sendmsg";

/// To a base and back, three blobs in two requests each at least, a manifest, the tag, the answer.
const AT_LEAST: u32 = 10;

/// Longer than the server goes on trying to reach a registry.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a build on `base` is pushed.
struct Build {
    base: Base,
    registry: DockerRegistry,
    body: Vec<u8>,
}

impl Build {
    fn order(&self, store: &Path) -> Order {
        Order {
            store: in_directory(store),
            registry: self.base.host(),
            pushed_to: Some(self.registry.address.to_string()),
            threads: Threads::Counted,
            collecting: Collecting::No,
        }
    }

    /// Asserts that the registry has the one image of the store, all of it.
    async fn is_pushed(&self, store: &Path) {
        let found = Store::read(store);
        let [image] = &found.refs[..] else {
            panic!("{found:?}");
        };
        let image: serde_json::Value =
            serde_json::from_slice(&std::fs::read(image).unwrap()).unwrap();
        let pushed = image["value"]["pushed"].as_str().unwrap();
        let registry = Client(self.registry.address);
        let request = format!(
            "GET /v2/chaincode/manifests/{} HTTP/1.1\r\nHost: x\r\nAccept: {MANIFEST}\r\nConnection: close\r\n\r\n",
            digest(pushed)
        );
        let manifest = Answer::read(&mut registry.open(&request).await).await;
        assert_eq!(manifest.status, 200, "{manifest:?}");
        let manifest: serde_json::Value = serde_json::from_str(&manifest.body).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        // The base's, and the new one.
        assert_eq!(layers.len(), 2);
        for blob in layers.iter().chain([&manifest["config"]]) {
            let blob = format!("/v2/chaincode/blobs/{}", blob["digest"].as_str().unwrap());
            assert_eq!(registry.ask("HEAD", &blob).await.status, 200, "{blob}");
        }
    }
}

fn digest(name: &str) -> &str {
    name.split_once('@').expect("a name by digest").1
}

/// The server starts without it; a build says what is missing, and the same one succeeds when it is there.
pub(crate) async fn registry_away_at_the_start() {
    let base = Base::serve().await;
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let scratch = TempDir::new().unwrap();
    let store = scratch.path().join("store");
    let order = Order {
        store: in_directory(&store),
        registry: base.host(),
        pushed_to: Some(address.to_string()),
        threads: Threads::Many,
        collecting: Collecting::No,
    };
    let body = packed(&base.dockerfile(), &tar(&[("chaincode", b"program")]));
    let server = Server::start(&order, &[]).await.unwrap();
    let answer = server.build_within(&body, PATIENCE).await.unwrap();
    for words in [
        &format!("cannot be pushed to {address}/chaincode: "),
        "Connection refused",
    ] {
        assert!(answer.body.contains(words), "{words}: {answer:?}");
    }
    assert_eq!(server.inspect().await, None);
    let registry = DockerRegistry::start_at(address).await;
    let build = Build {
        base,
        registry,
        body,
    };
    let id = built(&server.build(&build.body).await.unwrap());
    assert_eq!(server.inspect().await, Some(id));
    build.is_pushed(&store).await;
    server.end().await;
}

pub(crate) async fn killed_at_every_step() {
    let mut build = Build {
        base: Base::serve().await,
        registry: DockerRegistry::start().await,
        body: Vec::new(),
    };
    // How many were killed before there was an image, and how many after.
    let (mut absent, mut complete) = (0, 0);
    let mut step = 1;
    loop {
        // Another program each time, or the registry would have it already.
        let program = format!("program {step}");
        let package = tar(&[("chaincode", program.as_bytes())]);
        build.body = packed(&build.base.dockerfile(), &package);
        let scratch = TempDir::new().unwrap();
        let store = scratch.path().join("store");
        let order = build.order(&store);
        let (answer, is_killed) = step::life_until(&order, CALLS, step, &build.body).await;
        let server = Server::start(&build.order(&store), &[]).await.unwrap();
        match server.inspect().await {
            Some(_) => {
                build.is_pushed(&store).await;
                complete += 1;
            }
            None => absent += 1,
        }
        let id = built(&server.build(&build.body).await.unwrap());
        if let Some(answer) = answer {
            assert_eq!(built(&answer), id);
        }
        build.is_pushed(&store).await;
        server.end().await;
        if !is_killed {
            break;
        }
        step += 1;
    }
    assert!(step > AT_LEAST, "only {step} steps");
    assert!(absent >= 5 && complete >= 2, "{absent}, {complete}");
}
