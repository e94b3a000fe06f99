//! A builder's way on the wire: create, input, attach, start, wait, output, delete.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use peitho::config;
use peitho::container::Policy;
use peitho::listener::Speech;
use peitho::names::CompileKey;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::bodies::{IMAGE, packed, tar};
use super::world::{PATIENT, SOON, World, in_directory, read_head};

impl World {
    /// Creates a builder whose image no registry can be asked for; gives its id.
    pub(crate) async fn builder(&self) -> String {
        self.builder_of("true").await
    }

    pub(crate) async fn builder_of(&self, command: &str) -> String {
        let body = format!(
            r#"{{"Image":"127.0.0.1:1/fabric-ccenv:2.5","Cmd":["/bin/sh","-c","{command}"],"Env":null}}"#
        );
        let created = self
            .send("POST", "/v1.44/containers/create", body.as_bytes())
            .await;
        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(created.header("content-type"), Some("application/json"));
        let created: serde_json::Value = serde_json::from_str(&created.body).unwrap();
        assert_eq!(created["Warnings"], serde_json::json!([]));
        created["Id"].as_str().unwrap().to_owned()
    }

    /// The compile that the cluster was asked for.
    pub(super) async fn compile(&self) -> CompileKey {
        let mut compile = self.cluster.compile.subscribe();
        let asked = timeout(SOON, compile.wait_for(Option::is_some)).await;
        asked.unwrap().unwrap().unwrap()
    }

    /// What the agent in the compile's pod would report of a success.
    async fn report(&self, key: &CompileKey, output: &[u8]) {
        let mut ingest = self.store.ingest().await.unwrap();
        ingest.append(output).await.unwrap();
        self.compiles.put_output(key, ingest).await.unwrap();
        self.compiles.exited(key, 0).await.unwrap();
    }
}

/// Protocol rule 13: a character cut in two is whole, and what is no character cannot spoil the peer's error.
#[tokio::test]
async fn a_compiles_output_is_utf8_and_its_code_is_true() {
    let world = World::new().await;
    let id = world.builder().await;
    let attach = format!(
        "POST /v1.44/containers/{id}/attach?logs=1&stderr=1&stdout=1&stream=1 HTTP/1.1\r\nHost: x\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    let mut attached = world.open(&attach).await;
    let (head, mut output) = read_head(&mut attached).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let start = format!("/v1.44/containers/{id}/start");
    assert_eq!(world.ask("POST", &start).await.status, 204);
    let key = world.compile().await;
    world.compiles.append_log(&key, 0, b"f\xc3").await.unwrap();
    world
        .compiles
        .append_log(&key, 2, b"\xbcr \xff\n")
        .await
        .unwrap();
    world.compiles.exited(&key, 2).await.unwrap();
    let waited = world
        .ask("POST", &format!("/v1.44/containers/{id}/wait"))
        .await;
    assert_eq!(waited.body, r#"{"StatusCode":2,"Error":null}"#);
    timeout(SOON, attached.read_to_end(&mut output))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(String::from_utf8(output).unwrap(), "für \u{FFFD}\n");
    let delete = format!("/v1.44/containers/{id}");
    assert_eq!(world.ask("DELETE", &delete).await.status, 204);
    assert_eq!(world.ask("DELETE", &delete).await.status, 404);
}

#[tokio::test]
async fn input_goes_in_and_output_comes_out() {
    let world = World::new().await;
    let id = world.builder().await;
    let input = format!("/containers/{id}/archive?path=%2Fchaincode%2Finput");
    let source = tar(&[("src/main.go", b"package main")]);
    let put = world.send("PUT", &input, &source).await;
    assert_eq!((put.status, put.body.as_str()), (200, ""));
    let output = format!("/containers/{id}/archive?path=%2Fchaincode%2Foutput%2F.");
    assert_eq!(world.ask("GET", &output).await.status, 404);
    assert_eq!(
        world
            .ask("POST", &format!("/containers/{id}/start"))
            .await
            .status,
        204
    );
    let key = world.compile().await;
    let package = tar(&[("chaincode", b"program")]);
    world.report(&key, &package).await;
    let waited = world.ask("POST", &format!("/containers/{id}/wait")).await;
    assert_eq!(waited.body, r#"{"StatusCode":0,"Error":null}"#);
    for (method, length) in [("GET", package.len()), ("HEAD", 0)] {
        let got = world.ask(method, &output).await;
        assert_eq!((got.status, got.body.len()), (200, length), "{method}");
        assert_eq!(got.header("content-type"), Some("application/x-tar"));
        let told = got.header("content-length").unwrap();
        assert_eq!(told, package.len().to_string(), "{method}");
        let stat = got.header("x-docker-container-path-stat").unwrap();
        let stat = BASE64_STANDARD.decode(stat).unwrap();
        let stat: serde_json::Value = serde_json::from_slice(&stat).unwrap();
        assert_eq!(stat["mode"], 2_147_484_159_u32);
    }
    let got = world.ask("GET", &output).await;
    assert_eq!(got.body.as_bytes(), package);
    // As when room was made on a full volume.
    let blob = peitho::names::Digest::of(&package).hex();
    std::fs::remove_file(world.directory.join("blobs/sha256").join(blob)).unwrap();
    let got = world.ask("GET", &output).await;
    assert_eq!(got.status, 404);
    assert!(got.body.contains("removed to make room"), "{got:?}");
}

/// The peer's next install compiles again, and so its administrator is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_is_damaged_in_its_bucket_is_told_as_gone() {
    let started = tokio::task::spawn_blocking(|| {
        let server = testbed::S3::start().unwrap();
        let objects = server.make_bucket("outputs").unwrap();
        (server, objects)
    });
    let (server, objects) = started.await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let secret = scratch.path().join("secret");
    std::fs::write(&secret, testbed::S3::SECRET_KEY).unwrap();
    let mut store = in_directory(&scratch.path().join("store"));
    store.s3 = config::S3 {
        bucket: "outputs".to_owned(),
        endpoint: Some(server.endpoint()),
        access_key_id: Some(testbed::S3::ACCESS_KEY.to_owned()),
        secret_access_key_file: Some(secret),
        ..config::S3::default()
    };
    let (images, policy) = (config::Images::default(), Policy::default());
    let world = World::over(&store, &images, Speech::default(), policy, PATIENT).await;
    let id = world.builder().await;
    let start = format!("/containers/{id}/start");
    assert_eq!(world.ask("POST", &start).await.status, 204);
    let key = world.compile().await;
    world.report(&key, &tar(&[("chaincode", b"program")])).await;
    let waited = world.ask("POST", &format!("/containers/{id}/wait")).await;
    assert_eq!(waited.body, r#"{"StatusCode":0,"Error":null}"#);

    let blob = peitho::names::Digest::of(&tar(&[("chaincode", b"program")])).hex();
    let object = objects.join("blobs/sha256").join(&blob);
    std::fs::write(&object, "rotten").unwrap();
    // As on a machine that has no copy.
    std::fs::remove_file(world.directory.join("copies").join(&blob)).unwrap();
    let output = format!("/containers/{id}/archive?path=%2Fchaincode%2Foutput%2F.");
    let got = world.ask("GET", &output).await;
    assert_eq!(got.status, 404, "{got:?}");
    assert!(got.body.contains("install the package again"), "{got:?}");
    assert!(!object.exists());
}

/// What was compiled here tells its builder, by the output that the build brings back.
#[tokio::test]
async fn an_image_knows_its_builder_and_its_base() {
    let world = World::new().await;
    let [builder, base] =
        ["fabric-ccenv:2.5", "fabric-baseos:2.5"].map(|name| format!("127.0.0.1:1/{name}"));
    let mut digests = Vec::new();
    for name in [&builder, &base] {
        let config =
            format!(r#"{{"config": {{"Env": ["OF={name}"]}}, "rootfs": {{"diff_ids": []}}}}"#);
        let manifest = format!(r#"[{{"Config": "c.json", "RepoTags": ["{name}"], "Layers": []}}]"#);
        let archive = tar(&[
            ("c.json", config.as_bytes()),
            ("manifest.json", manifest.as_bytes()),
        ]);
        let imported = peitho::registry::import(&world.store, std::io::Cursor::new(archive), None);
        digests.push(imported.await.unwrap()[0].1.manifest.digest.to_string());
    }
    let id = world.builder().await;
    let start = format!("/containers/{id}/start");
    assert_eq!(world.ask("POST", &start).await.status, 204);
    let key = world.compile().await;
    // With bytes after the archive's end, as some tar programs write.
    let package = [tar(&[("chaincode", b"program")]), vec![0; 4096]].concat();
    world.report(&key, &package).await;
    world.ask("POST", &format!("/containers/{id}/wait")).await;
    let output = format!("/containers/{id}/archive?path=%2Fchaincode%2Foutput%2F.");
    let got = world.ask("GET", &output).await;
    let dockerfile = format!(
        "FROM {base}\nADD binpackage.tar /usr/local/bin\nLABEL org.hyperledger.fabric.version=\"2.5.16\""
    );
    let body = packed(dockerfile.as_bytes(), got.body.as_bytes());
    let built = world
        .send("POST", &format!("/build?t={IMAGE}"), &body)
        .await;
    assert_eq!(built.status, 200, "{built:?}");
    let inspected = world.ask("GET", &format!("/images/{IMAGE}/json")).await;
    let inspected: serde_json::Value = serde_json::from_str(&inspected.body).unwrap();
    let labels = &inspected["Config"]["Labels"];
    assert_eq!(labels["dev.peitho.builder"], builder.as_str());
    assert_eq!(labels["dev.peitho.builder.digest"], digests[0].as_str());
    assert_eq!(labels["dev.peitho.base"], base.as_str());
    assert_eq!(labels["dev.peitho.base.digest"], digests[1].as_str());
    assert_eq!(labels["org.hyperledger.fabric.version"], "2.5.16");
}
