//! Images over a real store, with a real registry and with none (nobody listens on port 1).

use std::pin::Pin;
use std::task::Poll;

use futures::FutureExt as _;

use super::fixtures::{Scratch, tar};
use super::*;
use crate::image_spec::Builder;
use crate::registry::fixture::{Registry, push};

mod pushes;

const DOCKERFILE: &str = "FROM 127.0.0.1:1/hyperledger/fabric-baseos:2.5\n\
    ADD binpackage.tar /usr/local/bin\n\
    LABEL org.hyperledger.fabric.chaincode.type=\"GOLANG\"\n\
    ENV CORE_CHAINCODE_BUILDLEVEL=2.5.16";

async fn images() -> (Scratch, Images) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scratch = Scratch::new().await;
    let registries = Registries::new(&[], scratch.store.clone()).await.unwrap();
    let images = Images::new(scratch.store.clone(), registries);
    (scratch, images)
}

fn chaincode_name() -> ImageName {
    let text = format!("dev-peer0-basic_1-{0}-{0}", "ab".repeat(32));
    text.parse().unwrap()
}

fn body(dockerfile: &str) -> Vec<u8> {
    let binpackage = tar(&[("chaincode", b"program")]);
    tar(&[
        ("Dockerfile", dockerfile.as_bytes()),
        ("binpackage.tar", &binpackage),
    ])
}

#[tokio::test]
async fn a_build_without_its_registry_is_partial_and_the_same_each_time() {
    let (scratch, images) = images().await;
    let (tenant, name) = (Tenant::default_tenant(), chaincode_name());
    let missing = images.inspect(&tenant, &name).await.unwrap_err();
    assert_eq!(missing.to_string(), format!("No such image: {name}"));

    let ingest = scratch.filled(&body(DOCKERFILE)).await;
    let image = images.build(&tenant, &name, ingest).await.unwrap();
    assert_eq!(image.manifest, None);
    assert_eq!(image.base.config, None);
    assert_eq!(image.layer.destination, "/usr/local/bin");
    assert_eq!(image.env.len() + image.labels.len(), 2);
    let blob = scratch
        .store
        .open_blob(&image.layer.blob.digest)
        .await
        .unwrap();
    assert_eq!(blob.unwrap().1, image.layer.blob);

    let inspected = images.inspect(&tenant, &name).await.unwrap();
    assert_eq!(
        (inspected.id, inspected.size),
        (image.id, image.layer.blob.size)
    );
    assert_eq!(images.built(&tenant, &name).await.unwrap().unwrap(), image);
    let other: Tenant = "other".parse().unwrap();
    assert!(images.built(&other, &name).await.unwrap().is_none());
    assert!(images.inspect(&other, &name).await.is_err());

    let ingest = scratch.filled(&body(DOCKERFILE)).await;
    assert_eq!(images.build(&tenant, &name, ingest).await.unwrap(), image);
}

/// Two peers of one tenant build the same package: two names, one id.
#[tokio::test]
async fn an_id_of_several_names_is_no_one_name() {
    let (scratch, images) = images().await;
    let tenant = Tenant::default_tenant();
    let build = async |name: &str, dockerfile: &str| {
        let ingest = scratch.filled(&body(dockerfile)).await;
        let name = name.parse().unwrap();
        images.build(&tenant, &name, ingest).await.unwrap()
    };
    let one = build("dev-peer0-basic", DOCKERFILE).await;
    let two = build("dev-peer1-basic", DOCKERFILE).await;
    assert_eq!(one.id, two.id);
    let id: ImageName = one.id.hex()[..12].parse().unwrap();
    let refused = images.mine_alone(&tenant, &id).await.unwrap_err();
    assert!(
        refused.to_string().starts_with(&format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            &one.id.hex()[..12]
        )),
        "{refused}"
    );
    assert_eq!(images.mine(&tenant, &id).await.unwrap().len(), 2);
    assert_eq!(images.inspect(&tenant, &id).await.unwrap().id, one.id);
    assert_eq!(images.mine_alone(&tenant, &one.name).await.unwrap(), one);

    images.remove(&tenant, &one).await.unwrap();
    assert_eq!(images.mine_alone(&tenant, &id).await.unwrap(), two);
}

/// An id that begins as another one does is found by trying: each has the same four digits once in 65536 times.
#[tokio::test]
async fn the_beginning_of_several_ids_means_none() {
    let (scratch, images) = images().await;
    let tenant = Tenant::default_tenant();
    let ingest = scratch.filled(&body(DOCKERFILE)).await;
    let built = images.build(&tenant, &chaincode_name(), ingest).await;
    let one = built.unwrap();
    let alike = |number: &u32| Digest::of(&number.to_be_bytes()).hex()[..4] == one.id.hex()[..4];
    let other = Image {
        name: "dev-peer0-other".parse().unwrap(),
        id: Digest::of(&(0..).find(alike).unwrap().to_be_bytes()),
        ..one.clone()
    };
    let name = other.name.full();
    let put = scratch
        .store
        .put_ref(RefKind::Image, &tenant, &name, &other);
    put.await.unwrap();
    let short: ImageName = one.id.hex()[..4].parse().unwrap();
    for refused in [
        images.mine(&tenant, &short).await.map(drop),
        images.mine_alone(&tenant, &short).await.map(drop),
        images.inspect(&tenant, &short).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Ambiguous(_))), "{refused:?}");
    }
    let whole: ImageName = one.id.hex().parse::<ImageName>().unwrap();
    assert_eq!(images.mine_alone(&tenant, &whole).await.unwrap(), one);
}

#[tokio::test]
async fn nothing_is_stored_when_a_build_fails() {
    let (scratch, images) = images().await;
    for bytes in [
        tar(&[("Dockerfile", DOCKERFILE.as_bytes())]),
        body("FROM a\nRUN x"),
        b"junk".to_vec(),
        tar(&[
            ("Dockerfile", DOCKERFILE.as_bytes()),
            ("binpackage.tar", &[0; 1024]),
        ]),
    ] {
        let ingest = scratch.filled(&bytes).await;
        let tenant = Tenant::default_tenant();
        let built = images.build(&tenant, &chaincode_name(), ingest).await;
        assert!(built.is_err(), "{built:?}");
        assert_eq!(scratch.objects(), 0);
    }
}

#[tokio::test]
async fn a_builder_image_whose_registry_is_out_of_reach_exists_with_a_stable_id() {
    let (_scratch, images) = images().await;
    let tenant = Tenant::default_tenant();
    let name: ImageName = "127.0.0.1:1/hyperledger/fabric-ccenv:2.5".parse().unwrap();
    let inspected = images.inspect(&tenant, &name).await.unwrap();
    assert_eq!(inspected.id, Digest::of(name.full().as_bytes()));
    assert_eq!(inspected.config, None);
    images.pull(&name).await.unwrap();
    assert_eq!(images.config(&name).await.unwrap(), None);
}

#[tokio::test]
async fn a_build_over_a_base_that_is_at_hand_is_a_complete_image() {
    let registry = Registry::start("").await;
    let registries = registry.registries().await;
    let base = registry.name("hyperledger/fabric-baseos:2.5");
    push(
        &registries,
        &base,
        &registry.name("hyperledger/fabric-baseos:index"),
    )
    .await;
    let scratch = Scratch::new().await;
    let images = Images::new(scratch.store.clone(), registries);
    let (tenant, name) = (Tenant::default_tenant(), chaincode_name());
    let dockerfile = DOCKERFILE.replace("127.0.0.1:1", &registry.host);

    let ingest = scratch.filled(&body(&dockerfile)).await;
    let image = images.build(&tenant, &name, ingest).await.unwrap();
    assert_eq!(image.base.name, base);
    let manifest = json(&scratch.store, &image.manifest.unwrap().digest).await;
    assert_eq!(manifest["config"]["digest"], serde_json::json!(image.id));
    assert_eq!(
        manifest["layers"][0]["digest"],
        serde_json::json!(image.layer.blob.digest)
    );
    let config = json(&scratch.store, &image.id).await;
    assert_eq!(
        config["rootfs"]["diff_ids"],
        serde_json::json!([image.layer.diff_id])
    );
    assert_eq!(
        config["config"]["Env"],
        serde_json::json!(["PATH=/bin", "CORE_CHAINCODE_BUILDLEVEL=2.5.16"])
    );
    let inspected = images
        .inspect(&tenant, &name)
        .await
        .unwrap()
        .config
        .unwrap();
    assert_eq!(inspected.user, "500");
    assert_eq!(inspected.env.len(), 2);

    let found = images.inspect(&tenant, &base).await.unwrap();
    assert_eq!(found.config, images.config(&base).await.unwrap());
    images.pull(&base).await.unwrap();
}

async fn json(store: &Store, digest: &Digest) -> serde_json::Value {
    let (file, _) = store.open_blob(digest).await.unwrap().unwrap();
    serde_json::from_reader(file).unwrap()
}

#[tokio::test]
async fn a_build_over_a_held_base_needs_no_registry() {
    let (scratch, images) = images().await;
    let base: ImageName = "127.0.0.1:1/hyperledger/fabric-baseos:2.5".parse().unwrap();
    let config = r#"{"config": {"Env": ["A=b"]}, "rootfs": {"diff_ids": []}}"#;
    let manifest = format!(r#"[{{"Config": "c.json", "RepoTags": ["{base}"], "Layers": []}}]"#);
    let archive = tar(&[
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let archive = std::io::Cursor::new(archive);
    let imported = crate::registry::import(&scratch.store, archive, None);
    let (_, held) = imported.await.unwrap().remove(0);

    let tenant = Tenant::default_tenant();
    let inspected = images.inspect(&tenant, &base).await.unwrap();
    assert_eq!(inspected.id, held.id);
    let ingest = scratch.filled(&body(DOCKERFILE)).await;
    let built = images.build(&tenant, &chaincode_name(), ingest).await;
    let built = built.unwrap();
    let manifest = json(&scratch.store, &built.manifest.unwrap().digest).await;
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    let config = json(&scratch.store, &built.id).await;
    let env = serde_json::json!(["A=b", "CORE_CHAINCODE_BUILDLEVEL=2.5.16"]);
    assert_eq!(config["config"]["Env"], env);
}

/// Two machines, and two peers: the digests depend on package, builder, base and program alone.
#[tokio::test]
async fn the_same_package_builder_and_program_give_the_same_image_and_say_so() {
    let base = "127.0.0.1:1/hyperledger/fabric-baseos:2.5";
    let config = r#"{"config": {"Env": ["A=b"]}, "rootfs": {"diff_ids": []}}"#;
    let manifest = format!(r#"[{{"Config": "c.json", "RepoTags": ["{base}"], "Layers": []}}]"#);
    let archive = tar(&[
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let program = tar(&[("chaincode", b"program")]);
    let builder = Builder {
        name: "hyperledger/fabric-ccenv:2.5".parse().unwrap(),
        digest: Digest::of(b"ccenv"),
    };
    let hash = "cd".repeat(32);
    let (mut built, mut held) = (Vec::new(), None);
    for peer in ["peer0", "peer1"] {
        let (scratch, images) = images().await;
        let imported =
            crate::registry::import(&scratch.store, std::io::Cursor::new(archive.clone()), None);
        held = Some(imported.await.unwrap().remove(0).1);
        let (tenant, origins) = (Tenant::default_tenant(), Origins::default());
        origins.note(&tenant, Digest::of(&program), builder.clone());
        // Another tenant compiled the same with something else.
        let other = Builder {
            digest: Digest::of(b"other"),
            ..builder.clone()
        };
        let elsewhere = "org2".parse().unwrap();
        origins.note(&elsewhere, Digest::of(&program), other);
        let images = images.made_by(origins);
        let name = format!(
            "dev-{peer}-basic_1-{hash}-{}",
            Digest::of(peer.as_bytes()).hex()
        );
        let ingest = scratch.filled(&body(DOCKERFILE)).await;
        let name = name.parse().unwrap();
        let image = images.build(&tenant, &name, ingest).await.unwrap();
        assert_eq!(image.builder.as_ref(), Some(&builder));
        let manifest = json(&scratch.store, &image.manifest.unwrap().digest).await;
        built.push((image.id, image.manifest, manifest));
    }
    assert_eq!(built[0], built[1]);
    let expected = serde_json::json!({
        "org.opencontainers.image.base.name": base,
        "org.opencontainers.image.base.digest": held.unwrap().manifest.digest,
        "org.hyperledger.fabric.chaincode.type": "GOLANG",
        "dev.peitho.package-hash": hash,
        "dev.peitho.builder": builder.name.full(),
        "dev.peitho.builder.digest": builder.digest,
    });
    assert_eq!(built[0].2["annotations"], expected);
}

#[tokio::test]
async fn what_the_registry_says_is_missing_is_missing() {
    let registry = Registry::start("").await;
    let scratch = Scratch::new().await;
    let images = Images::new(scratch.store.clone(), registry.registries().await);
    let tenant = Tenant::default_tenant();
    let name = registry.name("hyperledger/fabric-baseos:2.5");
    let inspected = images.inspect(&tenant, &name).await;
    assert!(
        matches!(inspected, Err(Error::NotFound(_))),
        "{inspected:?}"
    );
    assert!(matches!(
        images.config(&name).await,
        Err(Error::NotFound(_))
    ));
    let pulled = images.pull(&name).await.unwrap_err().to_string();
    assert_eq!(pulled, format!("pull of {name} failed: manifest unknown"));
    let dockerfile = DOCKERFILE.replace("127.0.0.1:1", &registry.host);
    let ingest = scratch.filled(&body(&dockerfile)).await;
    let built = images.build(&tenant, &chaincode_name(), ingest).await;
    assert_eq!(built.unwrap_err().to_string(), pulled);
    assert_eq!(scratch.objects(), 0);
}

/// As when parts of a build are collected while it is pushed.
#[tokio::test]
async fn a_build_that_comes_too_late_leaves_what_was_there() {
    let (scratch, images) = images().await;
    let (tenant, name) = (Tenant::default_tenant(), chaincode_name());
    let ingest = scratch.filled(&body(DOCKERFILE)).await;
    let before = images.build(&tenant, &name, ingest).await.unwrap();
    let mut late = before.clone();
    late.layer.blob.digest = Digest::of(b"collected");
    let refused = images.name(&tenant, &late, None).await.unwrap_err();
    assert!(matches!(refused, Error::Collected(_)), "{refused}");
    let left = images.built(&tenant, &name).await.unwrap();
    assert_eq!(left, Some(before.clone()));

    images.remove(&tenant, &before).await.unwrap();
    images.name(&tenant, &late, None).await.unwrap_err();
    assert_eq!(images.built(&tenant, &name).await.unwrap(), None);
}

/// Goes on with `work` until it has waited `times` times more; what comes of it, where it ends before.
async fn so_far<F: Future>(work: &mut Pin<Box<F>>, times: usize) -> Option<F::Output> {
    let mut left = times;
    let polled = std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    });
    polled.await
}

/// One build finds its layer collected, and another one of the same package brings it anew and is told that the image is there: at
/// whatever step of the first.
#[tokio::test]
async fn a_build_that_comes_too_late_takes_nothing_from_another_of_the_same() {
    let (scratch, images) = images().await;
    let (tenant, name) = (Tenant::default_tenant(), chaincode_name());
    let ingest = scratch.filled(&body(DOCKERFILE)).await;
    let image = images.build(&tenant, &name, ingest).await.unwrap();
    let hex = image.layer.blob.digest.hex();
    let layer = scratch.directory.path().join("blobs/sha256").join(hex);
    let content = std::fs::read(&layer).unwrap();
    let (mut step, mut refused) = (0, 0);
    loop {
        images.remove(&tenant, &image).await.unwrap();
        std::fs::remove_file(&layer).unwrap();
        let mut late = Box::pin(images.name(&tenant, &image, None));
        let ended = so_far(&mut late, step).await;
        let other = async {
            let ingest = scratch.filled(&content).await;
            scratch.store.commit(ingest).await.unwrap();
            images.name(&tenant, &image, None).await
        };
        let is_over = ended.is_some();
        let key = (tenant.clone(), name.clone());
        let is_free = images.naming.turn(&key).now_or_never().is_some();
        let (late, other) = match ended {
            Some(late) => (late, other.await),
            // As fast as it may be.
            None if is_free => {
                let other = other.await;
                (late.await, other)
            }
            None => futures::join!(late, other),
        };
        other.unwrap();
        refused += u32::from(matches!(late, Err(Error::Collected(_))));
        let left = images.built(&tenant, &name).await.unwrap();
        assert_eq!(left.as_ref(), Some(&image), "step {step}");
        if is_over {
            break;
        }
        step += 1;
    }
    // To write the record, to look for the layer, and to take it back.
    assert!(step >= 4 && refused >= 1, "{step} steps, {refused} refused");
}
