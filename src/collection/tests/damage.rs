//! What the check finds, and what becomes of it.

use super::super::check::{Needs, Whole, Whose, lost};
use super::*;

#[tokio::test]
async fn damage_of_a_directory_is_told() {
    let world = World::new().await;
    damage_is_told_and_moved_and_never_served(&world, &world.store).await;
}

/// By the check of `store`, which opens what `world` has.
pub(super) async fn damage_is_told_and_moved_and_never_served(world: &World, store: &Store) {
    let mut images = Vec::new();
    for name in ["sound", "cut", "gone", "other"] {
        let layer = world.put_old(name.as_bytes()).await;
        images.push(world.image(&format!("dev-{name}"), layer).await);
    }
    let (cut, gone) = (&images[1].layer.blob, &images[2].layer.blob);
    fs::write(world.blob(cut), "c").unwrap();
    fs::remove_file(world.blob(gone)).unwrap();
    fs::copy(
        world.record("image", &images[0].name.full()),
        world.record("image", &images[3].name.full()),
    )
    .unwrap();
    let findings = checked(store, Depth::Lengths).await;
    assert_eq!(findings.images, 3);
    let told = findings.troubles.join("\n");
    assert_eq!(findings.troubles.len(), 4, "{told}");
    for part in [
        "the image dev-cut:latest of the tenant default has lost its layer",
        "the image dev-gone:latest of the tenant default has lost its layer",
        "install its package again",
        &format!("the blob {} does not have the content", cut.digest),
        "it is the record of \"docker.io/library/dev-sound:latest\"",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let left = world.store.list_refs(RefKind::Image, &world.tenant).await;
    assert_eq!(left.unwrap(), [images[0].name.full()]);
    assert!(!world.blob(cut).exists());
    let quarantined = world.path("quarantine/blobs/sha256").join(cut.digest.hex());
    assert_eq!(fs::read(quarantined).unwrap(), b"c");
    let again = checked(store, Depth::Lengths).await;
    assert_eq!((again.images, again.troubles.len()), (1, 0));
}

#[tokio::test]
async fn only_a_close_look_sees_a_flipped_bit() {
    let world = World::new().await;
    let layer = world.put_old(b"layer").await;
    world.image("dev-peer0-basic", layer).await;
    let in_trash = world.put_old(b"moved by a slow pass").await;
    world.collect().await;
    world.image("dev-peer1-basic", in_trash).await;
    fs::write(world.blob(&layer), b"lager").unwrap();
    let findings = checked(&world.store, Depth::Lengths).await;
    assert_eq!(findings.troubles, Vec::<String>::new());
    let findings = checked(&world.store, Depth::Contents).await;
    assert_eq!(findings.troubles.len(), 2, "{findings:?}");
    assert!(!world.blob(&layer).exists());
    assert!(world.blob(&in_trash).exists());
}

#[tokio::test]
async fn what_another_release_wrote_is_left_alone() {
    let world = World::new().await;
    let (store, tenant) = (&world.store, &world.tenant);
    let value = json!({"shape": "new"});
    let put = store.put_ref(RefKind::Image, tenant, "dev-new", &value);
    put.await.unwrap();
    let findings = checked(store, Depth::Lengths).await;
    assert_eq!(findings.troubles.len(), 1);
    assert!(
        findings.troubles[0].contains("it is left alone"),
        "{findings:?}"
    );
    assert!(world.record("image", "dev-new").exists());
}

/// Two images share a layer that was lost. The one is built again while the check is still at it, and then it comes to the other.
#[tokio::test]
async fn what_was_brought_during_the_check_is_not_lost() {
    let world = World::new().await;
    let layer = world.put(b"shared").await;
    let image = world.image("dev-peer1-basic", layer).await;
    let read = world.store.every_ref::<Image>(RefKind::Image);
    let read: Vec<_> = read.try_collect().await.unwrap();
    let Some(Read::Ref { place, .. }) = read.into_iter().next() else {
        panic!("the image is not read");
    };
    let needs = |layer: Blob| Needs {
        whose: Whose::Built(world.tenant.clone(), Whole::HereAlone),
        name: image.name.clone(),
        place: place.clone(),
        layers: vec![layer],
        documents: Vec::new(),
    };
    let mut findings = Findings::default();
    lost(&world.store, &needs(layer), &mut findings)
        .await
        .unwrap();
    assert_eq!(findings.troubles, Vec::<String>::new());

    // And a record that was written meanwhile is not the one that named what is lost.
    let other = world.put(b"of a later build").await;
    let rebuilt = world.image("dev-peer1-basic", other).await;
    fs::remove_file(world.blob(&layer)).unwrap();
    lost(&world.store, &needs(layer), &mut findings)
        .await
        .unwrap();
    assert_eq!(findings.troubles, Vec::<String>::new());
    let name = rebuilt.name.full();
    let found = world.store.get_ref(RefKind::Image, &world.tenant, &name);
    assert_eq!(found.await.unwrap(), Some(rebuilt));
}

/// As network file systems and people leave them.
#[tokio::test]
async fn what_is_no_record_by_its_name_is_left_alone() {
    let world = World::new().await;
    let layer = world.put_old(b"layer").await;
    let image = world.image("dev-peer0-basic", layer).await;
    let record = world.record("image", &image.name.full());
    let others = [".nfs0000000000d5", "a.json", "copy of it.json~"];
    for other in others {
        fs::write(record.with_file_name(other), "{").unwrap();
    }
    let findings = checked(&world.store, Depth::Contents).await;
    assert_eq!((findings.images, findings.troubles.len()), (1, 0));
    assert_eq!(world.collect().await, Collected::default());
    let listed = world.store.list_refs(RefKind::Image, &world.tenant).await;
    assert_eq!(listed.unwrap(), [image.name.full()]);
    let told = world.store.no_refs().await.unwrap();
    assert_eq!(told.len(), others.len(), "{told:?}");
}
