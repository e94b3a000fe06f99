//! Builds in the mode `registry`, over a real one.

use super::*;
use crate::config;
use crate::registry::fixture::{Line, Manner, PushedLayer, noise, plain, push_layers, zipped};

/// A Peitho of its own, which pushes as `config` says.
async fn pushing(config: &config::Images) -> (Scratch, Images) {
    let scratch = Scratch::new().await;
    let registries = Registries::of(config, scratch.store.clone()).await.unwrap();
    let pusher = Pusher::impatient(config, registries.clone()).await.unwrap();
    let images = Images::new(scratch.store.clone(), registries);
    (scratch, images.pushed_by(Some(pusher)))
}

/// As `registry.built()`, by a line.
fn built_by(line: &Line, registry: &Registry) -> config::Images {
    let mut config = registry.built();
    config.registry.address.clone_from(&line.host);
    config
}

/// The body of a build of `program` on the base `host/fabric/baseos:2.5`.
fn of(program: &[u8], host: &str) -> Vec<u8> {
    let binpackage = tar(&[("chaincode", program)]);
    let base = format!("{host}/fabric/baseos:2.5");
    let dockerfile = DOCKERFILE.replace("127.0.0.1:1/hyperledger/fabric-baseos:2.5", &base);
    tar(&[
        ("Dockerfile", dockerfile.as_bytes()),
        ("binpackage.tar", &binpackage),
    ])
}

async fn build(scratch: &Scratch, images: &Images, body: &[u8]) -> Result<Image, Error> {
    let ingest = scratch.filled(body).await;
    let (tenant, name) = (Tenant::default_tenant(), chaincode_name());
    images.build(&tenant, &name, ingest).await
}

/// A base of two layers in `registry`.
async fn base_in(registry: &Registry) -> [PushedLayer; 2] {
    let layers = [
        zipped(&noise("lower", 1_500_000)),
        plain(noise("upper", 500_000)),
    ];
    let name = registry.name("fabric/baseos:2.5");
    push_layers(&registry.registries().await, &name, &layers).await;
    layers
}

/// What somebody who has only the registry gets under `name`: the layers' content, the lowest first.
async fn pulled(registry: &Registry, name: &ImageName) -> Vec<Digest> {
    let scratch = Scratch::new().await;
    let registries = registry.registries_over(&scratch.store).await;
    let held = registries.hold(name).await.unwrap();
    for layer in &held.layers {
        let (file, blob) = scratch
            .store
            .open_blob(&layer.blob.digest)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(file.metadata().unwrap().len(), blob.size);
    }
    held.layers.iter().map(|layer| layer.diff_id).collect()
}

#[tokio::test]
async fn what_was_built_is_whole_in_the_registry_and_a_base_beside_it_does_not_move() {
    let registry = Registry::start("").await;
    let [lower, upper] = base_in(&registry).await;
    let line = Line::to(&registry, Manner::Good).await;
    let (scratch, images) = pushing(&built_by(&line, &registry)).await;
    let one = build(&scratch, &images, &of(&noise("one", 300_000), &line.host))
        .await
        .unwrap();
    let layer = one.layer.blob.size;
    assert!(
        line.asked() < layer + layer / 20 + 30_000,
        "{} bytes for a layer of {layer}",
        line.asked()
    );

    let pushed = one.pushed.clone().unwrap();
    assert_eq!(images.whole(&one), one.pushed);
    let repository = format!("{}/fabric/chaincode", line.host);
    assert_eq!(
        pushed.full(),
        format!("{repository}@{}", one.manifest.unwrap().digest)
    );
    let there = registry
        .name("fabric/chaincode")
        .at(&pushed.digest().unwrap().to_string())
        .unwrap();
    let tag = format!(
        "dev-peer0-basic_1-{}",
        &pushed.digest().unwrap().hex()[..12]
    );
    for name in [there.clone(), there.at(&tag).unwrap()] {
        let expected = [lower.diff_id, upper.diff_id, one.layer.diff_id];
        assert_eq!(pulled(&registry, &name).await, expected, "{name}");
    }

    // One changed line: the new layer, and nothing of the base.
    let before = line.asked();
    let two = build(&scratch, &images, &of(&noise("two", 2_000_000), &line.host))
        .await
        .unwrap();
    let (moved, layer) = (line.asked() - before, two.layer.blob.size);
    assert!(
        moved as f64 <= 1.05 * layer as f64,
        "{moved} bytes for a layer of {layer}"
    );
    // What is there already: nothing but questions.
    let before = line.asked();
    let again = build(&scratch, &images, &of(&noise("two", 2_000_000), &line.host))
        .await
        .unwrap();
    assert_eq!(again, two);
    let moved = line.asked() - before;
    assert!(moved < 20_000, "{moved} bytes for nothing");
}

#[tokio::test]
async fn the_base_of_another_registry_is_brought_along() {
    let (far, registry) = (Registry::start("").await, Registry::start("").await);
    let [lower, upper] = base_in(&far).await;
    let mut config = registry.built();
    config.registries = vec![far.config()];
    let (scratch, images) = pushing(&config).await;
    let image = build(&scratch, &images, &of(b"x", &far.host))
        .await
        .unwrap();
    let pushed = image.pushed.unwrap();
    let expected = [lower.diff_id, upper.diff_id, image.layer.diff_id];
    assert_eq!(pulled(&registry, &pushed).await, expected);
    drop(far);
    assert_eq!(pulled(&registry, &pushed).await, expected);
}
