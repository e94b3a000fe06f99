//! `agent fetch`: what a chaincode pod gets before it starts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use peitho::agent::fetch::{Args, run};
use peitho::names::Digest;
use peitho::store::Blob;

use crate::world::{Server, World, any_port, gzip, names, tar};

struct Case {
    world: World,
    server: Server,
    blob: Blob,
    args: Args,
}

/// A container with a layer of two files, and its pod's arguments.
async fn case() -> Case {
    let world = World::new().await;
    let server = world.serve(any_port()).await;
    let layer = tar(&[
        ("usr/local/bin/chaincode", 0o755, b"#!program"),
        ("usr/local/bin/META-INF/index.json", 0o644, b"{}"),
    ]);
    let blob = world.blob(&gzip(&layer)).await;
    let credentials = world.credentials(&world.container(blob));
    let args = Args {
        address: server.url.clone(),
        digest: blob.digest,
        into: world.scratch("volume"),
        strip: PathBuf::from("/usr/local/bin"),
        expect: vec!["chaincode".to_owned(), "META-INF".to_owned()],
        credentials,
    };
    Case {
        world,
        server,
        blob,
        args,
    }
}

#[tokio::test]
async fn brings_the_content_of_the_destination_and_nothing_else() {
    let Case {
        world,
        server: _server,
        blob,
        args,
    } = case().await;
    let volume = args.into.clone();
    run(args).await.unwrap();
    assert_eq!(names(&volume), ["META-INF", "chaincode"]);
    assert_eq!(
        std::fs::read(volume.join("chaincode")).unwrap(),
        b"#!program"
    );
    let mode = |name: &str| volume.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("chaincode"), 0o755);
    assert_eq!(
        std::fs::read(volume.join("META-INF/index.json")).unwrap(),
        b"{}"
    );
    // Twice the bytes would be twice the time of a launch.
    assert_eq!(world.counters.layer_bytes(), blob.size);
    assert_eq!(world.counters.layers(), 1);
}

#[tokio::test]
async fn an_init_container_that_runs_again_finds_the_same() {
    let case = case().await;
    let again = Args {
        address: case.args.address.clone(),
        into: case.args.into.clone(),
        strip: case.args.strip.clone(),
        expect: case.args.expect.clone(),
        credentials: case.args.credentials.clone(),
        digest: case.args.digest,
    };
    let volume = case.args.into.clone();
    run(case.args).await.unwrap();
    run(again).await.unwrap();
    assert_eq!(names(&volume), ["META-INF", "chaincode"]);
    assert_eq!(names(&volume.join("META-INF")), ["index.json"]);
}

#[tokio::test]
async fn damaged_bytes_are_not_unpacked() {
    let case = case().await;
    damage(
        case.world.directory.path().join("store"),
        &case.blob.digest.hex(),
    );
    let volume = case.args.into.clone();
    let error = run(case.args).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("expected {}, received sha256:", case.blob.digest)),
        "{error}"
    );
    assert!(names(&volume).is_empty(), "{:?}", names(&volume));
}

/// Changes a byte of the blob on disk.
fn damage(directory: PathBuf, hex: &str) {
    let mut directories = vec![directory];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_string_lossy().contains(hex) {
                let mut bytes = std::fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, bytes).unwrap();
                return;
            }
        }
    }
    panic!("no file of {hex}");
}

#[tokio::test]
async fn another_layer_is_refused() {
    let mut case = case().await;
    let other = case.world.blob(b"somebody else's").await;
    case.args.digest = other.digest;
    let error = run(case.args).await.unwrap_err().to_string();
    assert!(error.contains("403"), "{error}");
    assert!(
        error.contains(&format!("not for {}", other.digest)),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_of_another_instance_is_refused() {
    let case = case().await;
    std::fs::write(case.args.credentials.join("token"), "e30.AAAA").unwrap();
    let error = run(case.args).await.unwrap_err().to_string();
    assert!(
        error.contains("401") && error.contains("not one of this instance"),
        "{error}"
    );
}

#[tokio::test]
async fn the_token_of_a_removed_container_is_refused() {
    let case = case().await;
    case.world.cluster.containers.lock().unwrap().clear();
    let error = run(case.args).await.unwrap_err().to_string();
    assert!(
        error.contains("403") && error.contains("was removed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_layer_that_is_not_in_the_store_says_what_to_do() {
    let case = case().await;
    let digest = Digest::of(b"never stored");
    let grant = case.world.container(Blob { digest, size: 12 });
    let args = Args {
        digest,
        credentials: case.world.credentials(&grant),
        ..case.args
    };
    let error = run(args).await.unwrap_err().to_string();
    assert!(
        error.contains("404") && error.contains("run `peitho images verify`"),
        "{error}"
    );
}

#[tokio::test]
async fn what_would_be_mounted_and_is_missing_ends_the_launch() {
    let mut case = case().await;
    case.args.expect.push("absent".to_owned());
    let error = run(case.args).await.unwrap_err().to_string();
    assert!(
        error.contains("no \"absent\" in \"/usr/local/bin\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_with_another_authority_is_not_trusted() {
    let case = case().await;
    let stranger = World::new().await;
    let server = stranger.serve(any_port()).await;
    let args = Args {
        address: server.url.clone(),
        ..case.args
    };
    let error = run(args).await.unwrap_err().to_string();
    assert!(error.contains("not trusted"), "{error}");
}

#[tokio::test]
async fn a_server_that_starts_late_is_waited_for() {
    let case = case().await;
    let address = case.server.stop().await;
    let (fetched, server) = tokio::join!(run(case.args), async {
        // The first attempt meets a closed port.
        tokio::task::yield_now().await;
        case.world.serve(address).await
    });
    fetched.unwrap();
    drop(server);
}
