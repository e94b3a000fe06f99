//! Images brought whole from a real registry, over lines that break.

use futures::TryStreamExt as _;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::super::fixture::{Line, Manner, noise, plain, push_layers, put, zipped};
use super::*;
use crate::store::{Blob, RefKind, Scope};

async fn empty_store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    (directory, store)
}

async fn content(store: &Store, digest: &Digest) -> Vec<u8> {
    let (file, _) = store.open_blob(digest).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    let mut file = tokio::fs::File::from_std(file);
    file.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn an_image_is_pulled_whole_once_and_stays_when_the_registry_is_gone() {
    let registry = Registry::start("").await;
    let name = registry.name("a/b:1");
    let (lower, upper) = (noise("lower", 300_000), noise("upper", 100_000));
    let layers = [zipped(&lower), plain(upper.clone())];
    let manifest = push_layers(&registry.registries().await, &name, &layers).await;

    let (_directory, store) = empty_store().await;
    let line = Line::to(&registry, Manner::Good).await;
    let registries = line.registries(&store).await;
    let here: ImageName = format!("{}/a/b:1", line.host).parse().unwrap();
    let (one, other) = tokio::join!(registries.hold(&here), registries.hold(&here));
    let image = one.unwrap();
    assert_eq!(image, other.unwrap());
    let passed = line.answered();
    let size = image.size();
    assert!(passed > size && passed < size * 3 / 2, "{passed} bytes");
    assert_eq!(
        content(&store, &image.manifest.digest).await,
        manifest.to_string().as_bytes()
    );
    assert_eq!(image.id, image.config.digest);
    assert_eq!(image.start.numeric_user(), Some(500));
    for (held, pushed) in image.layers.iter().zip(&layers) {
        assert_eq!(held.diff_id, pushed.diff_id);
        assert!(content(&store, &held.blob.digest).await == pushed.bytes);
    }
    assert!(image.layers[0].media_type.ends_with("tar+gzip"));

    drop(registry);
    assert_eq!(registries.hold(&here).await.unwrap(), image);
    let found = found(registries.look_up(&here).await);
    assert_eq!(
        (found.id, found.digest, found.config),
        (image.id, image.manifest.digest, image.start.clone())
    );
    assert_eq!(Digest::of(&found.raw_config), found.id);
    assert_eq!(list_held(&store).await.unwrap(), [(here, image)]);
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    let registry = Registry::start("").await;
    let layers = ["a", "b", "c", "d"].map(|seed| plain(noise(seed, 2_000_000)));
    let total: usize = layers.iter().map(|layer| layer.bytes.len()).sum();
    push_layers(
        &registry.registries().await,
        &registry.name("cut:1"),
        &layers,
    )
    .await;

    let (_directory, store) = empty_store().await;
    let line = Line::to(&registry, Manner::CutsAnswers(1_200_000)).await;
    let name = format!("{}/cut:1", line.host).parse().unwrap();
    let registries = line.registries(&store).await;
    let image = registries.hold(&name).await.unwrap();
    for (held, pushed) in image.layers.iter().zip(&layers) {
        assert!(content(&store, &held.blob.digest).await == pushed.bytes);
    }
    // Every layer was cut at least once. What came before a cut was not sent again, but for what was still under way.
    let passed = line.answered() as usize;
    assert!(
        passed > total && passed < total + total / 2,
        "{passed} bytes for {total} bytes of layers"
    );
}

#[tokio::test]
async fn what_is_not_whole_is_not_held() {
    let registry = Registry::start("").await;
    let registries = registry.registries().await;
    let (_directory, store) = empty_store().await;
    let puller = registry.registries_over(&store).await;
    let refused = async |name: &ImageName, said: &str| {
        let error = puller.hold(name).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(error.contains(&name.to_string()), "{error}");
        assert_eq!(list_held(&store).await.unwrap(), []);
    };

    let missing = registry.name("nothing:1");
    refused(&missing, "its registry says: manifest unknown").await;

    let good = registry.name("good:1");
    let layer = || plain(noise("x", 5000));
    let manifest = push_layers(&registries, &good, &[layer()]).await;
    let odd = async |rest: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let name = registry.name(rest);
        let mut changed = manifest.clone();
        change(&mut changed);
        put(&registries, &name, &changed).await;
        name
    };
    let name = odd("good:short", &|m| m["layers"][0]["size"] = json!(4000)).await;
    refused(&name, "longer than its manifest says").await;
    let name = odd("good:odd", &|m| {
        m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+encrypted");
    })
    .await;
    refused(&name, "tar+encrypted").await;
    let name = odd("good:none", &|m| m["layers"] = json!([])).await;
    refused(&name, "lists 1 layers, its manifest 0").await;

    // The registry's own disk lies.
    let file = registry.blob(&layer().diff_id);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    refused(&good, "its registry sends a damaged layer").await;
}

#[tokio::test]
async fn out_of_reach_is_told_with_cause_and_way_out() {
    let registry = Registry::start("").await;
    let name = registry.name("a:1");
    let (_directory, store) = empty_store().await;
    let registries = registry.registries_over(&store).await;
    drop(registry);
    let error = registries.hold(&name).await.unwrap_err();
    assert!(matches!(error, HoldError::OutOfReach { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("refused"), "{told}");
    assert!(told.ends_with("or bring it with `peitho images import FILE`"));
}

#[tokio::test]
async fn a_held_image_that_lost_a_part_is_pulled_again() {
    let registry = Registry::start("").await;
    let name = registry.name("a/b:1");
    let layers = [zipped(&noise("l", 10_000))];
    push_layers(&registry.registries().await, &name, &layers).await;
    let (directory, store) = empty_store().await;
    let registries = registry.registries_over(&store).await;
    let image = registries.hold(&name).await.unwrap();
    for blob in [image.layers[0].blob, image.config] {
        let path = format!("blobs/sha256/{}", blob.digest.hex());
        std::fs::remove_file(directory.path().join(path)).unwrap();
        assert_eq!(registries.hold(&name).await.unwrap(), image);
        content(&store, &blob.digest).await;
    }
}

#[tokio::test]
async fn what_only_the_store_has_is_not_had_by_its_digest() {
    let registry = Registry::start("").await;
    let layer = plain(noise("of a tenant", 5000));
    let (name, other) = (registry.name("a/b:1"), registry.name("c/d:1"));
    for name in [&name, &other] {
        push_layers(
            &registry.registries().await,
            name,
            &[plain(noise("of a tenant", 5000))],
        )
        .await;
    }
    let file = registry.blob(&layer.diff_id);
    std::fs::remove_file(&file).unwrap();
    let (_directory, store) = empty_store().await;
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(&layer.bytes).await.unwrap();
    let blob = store.commit(ingest).await.unwrap();
    assert_eq!(blob.digest, layer.diff_id);

    // The registry promises it, and does not show it.
    let puller = registry.registries_over(&store).await;
    puller.hold(&name).await.unwrap_err();
    assert_eq!(list_held(&store).await.unwrap(), []);
    let content = puller.layer_of(&name, &blob, 0..blob.size).await;
    assert!(matches!(content, Err(LayerError::OutOfReach { .. })));

    // Who shows it may have it, and others need not show it again.
    std::fs::write(&file, &layer.bytes).unwrap();
    let image = puller.hold(&name).await.unwrap();
    assert_eq!(image.layers[0].blob, blob);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(puller.hold(&other).await.unwrap(), image);
}

#[tokio::test]
async fn the_base_of_before_is_had_while_its_layers_are_there_and_told_as_such_when_not() {
    let mut registry = Registry::start("").await;
    let name = registry.name("a/b:1");
    let push = async |layer| {
        push_layers(&registry.registries().await, &name, &[layer]).await;
    };
    let (old, new) = (plain(noise("old", 5000)), plain(noise("new", 5000)));
    push(plain(noise("old", 5000))).await;
    let (directory, store) = empty_store().await;
    let registries = registry.registries_over(&store).await;
    let before = registries.hold(&name).await.unwrap().layers[0].blob;
    assert_eq!(before.digest, old.diff_id);
    push(new).await;
    assert!(
        store
            .remove_ref(RefKind::Held, Scope::Nobody, &name.full())
            .await
            .unwrap()
    );
    let after = registries.hold(&name).await.unwrap().layers[0].blob;
    assert_ne!(after, before);

    let had = registries.layer_of(&name, &before, 0..before.size).await;
    assert!(matches!(had, Ok(LayerContent::Held(_))));
    for digest in [before.digest, after.digest] {
        let path = format!("blobs/sha256/{}", digest.hex());
        std::fs::remove_file(directory.path().join(path)).unwrap();
    }
    registry.process.kill().await.unwrap();
    let gone = async |layer: &Blob| {
        let had = registries.layer_of(&name, layer, 0..layer.size).await;
        had.err().unwrap().to_string()
    };
    let told = gone(&before).await;
    assert!(told.contains("is another image than the one"), "{told}");
    assert!(
        told.contains("cannot be read") && told.contains(&name.to_string()),
        "{told}"
    );
    let told = gone(&after).await;
    assert!(told.ends_with("pull again when that is mended"), "{told}");
}

#[tokio::test]
async fn so_many_layers_pass_at_once_and_no_more() {
    let registry = Registry::start("").await;
    let name = registry.name("a/b:1");
    let layer = plain(noise("l", 1000));
    let blob = Blob {
        digest: layer.diff_id,
        size: layer.bytes.len() as u64,
    };
    push_layers(&registry.registries().await, &name, &[layer]).await;
    let (_directory, store) = empty_store().await;
    let registries = registry.registries_over(&store).await;
    let bring = || registries.layer_of(&name, &blob, 0..blob.size);
    let mut passing = Vec::new();
    let error = loop {
        match bring().await {
            Ok(content) => passing.push(content),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LayerError::Busy), "{error}");
    let most = passing.len();
    assert!(
        error.to_string().starts_with(&format!("{most} layers")),
        "{error}"
    );
    // One that is through makes room for the next one.
    let Some(LayerContent::Brought(content)) = passing.pop() else {
        panic!("its registry sends it");
    };
    let pieces: Vec<_> = content.try_collect().await.unwrap();
    assert!(pieces.concat() == noise("l", 1000));
    bring().await.unwrap();
}
