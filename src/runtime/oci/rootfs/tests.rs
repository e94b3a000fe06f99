//! Bases and layers on a real directory, from archives that were imported.

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::registry::import;

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(7);
        header.set_gid(7);
        header.set_size(content.len() as u64);
        if path.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
        }
        tar.append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap()
}

struct World {
    directory: tempfile::TempDir,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).await.unwrap();
        Self { directory, store }
    }

    fn oci(&self) -> PathBuf {
        self.directory.path().join("oci")
    }

    async fn rootfs(&self) -> Rootfs {
        let registries = Registries::new(&[], self.store.clone()).await.unwrap();
        let oci = self.oci();
        let opened = Rootfs::open(&oci, self.store.clone(), registries);
        opened.await.unwrap()
    }

    /// Imports an image of `layers`, each with the diff id that its configuration says.
    async fn hold(&self, layers: &[(Vec<u8>, Digest)]) -> ImageName {
        let config = json!({
            "config": {"User": "7"},
            "rootfs": {"diff_ids": layers.iter().map(|(_, diff_id)| diff_id).collect::<Vec<_>>()},
        });
        let names: Vec<_> = layers
            .iter()
            .map(|(bytes, _)| format!("{}.tar", Digest::of(bytes).hex()))
            .collect();
        let manifest = json!([{"Config": "config.json", "RepoTags": ["base:1"], "Layers": names}]);
        let (manifest, config) = (manifest.to_string(), config.to_string());
        let mut archive = Builder::new(Vec::new());
        let documents = [
            ("manifest.json", manifest.as_bytes()),
            ("config.json", config.as_bytes()),
        ];
        let layers = names
            .iter()
            .zip(layers)
            .map(|(name, (bytes, _))| (&**name, &**bytes));
        for (name, bytes) in documents.into_iter().chain(layers) {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        }
        let archive = Cursor::new(archive.into_inner().unwrap());
        let images = import(&self.store, archive, None).await.unwrap();
        images[0].0.clone()
    }

    async fn hold_good(&self) -> ImageName {
        let lower = tar(&[("etc/", ""), ("etc/a", "lower"), ("etc/b", "lower")]);
        let upper = tar(&[("etc/.wh.b", ""), ("etc/a", "upper")]);
        let diff_ids = [Digest::of(&lower), Digest::of(&upper)];
        self.hold(&[(lower, diff_ids[0]), (gzip(&upper), diff_ids[1])])
            .await
    }

    /// What is in `images` and `layers`.
    fn unpacked(&self) -> Vec<String> {
        let parts = [IMAGES, LAYERS].map(|part| fs::read_dir(self.oci().join(part)).unwrap());
        let names = parts.into_iter().flatten();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_is_unpacked_once_and_stays() {
    let world = World::new().await;
    let name = world.hold_good().await;
    let rootfs = world.rootfs().await;
    let many = (0..8).map(|_| {
        let (rootfs, name) = (rootfs.clone(), name.clone());
        tokio::spawn(async move { rootfs.base(&name).await.unwrap() })
    });
    let bases = futures::future::join_all(many).await;
    let base = bases[0].as_ref().unwrap().clone();
    assert!(bases.into_iter().all(|other| other.unwrap() == base));
    assert_eq!(base.config.numeric_user(), Some(7));
    let a = base.directory.join("etc/a");
    assert_eq!(fs::read_to_string(&a).unwrap(), "upper");
    assert!(!base.directory.join("etc/b").exists());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&base.directory), 0o755);
    assert_eq!(mode(&world.oci()), 0o700);
    let owner = fs::metadata(&a).unwrap().uid();
    let expected = match rootfs.0.owners {
        Owners::Kept => 7,
        Owners::Dropped => fs::metadata(world.oci()).unwrap().uid(),
    };
    assert_eq!(owner, expected);
    assert_eq!(world.unpacked().len(), 1);

    let inode = fs::metadata(&a).unwrap().ino();
    drop(rootfs);
    let again = world.rootfs().await.base(&name).await.unwrap();
    assert_eq!(again, base);
    assert_eq!(fs::metadata(&a).unwrap().ino(), inode);
}

#[tokio::test]
async fn what_a_crash_left_is_removed_but_not_what_another_process_unpacks() {
    let world = World::new().await;
    let name = world.hold_good().await;
    let first = world.rootfs().await;
    first.base(&name).await.unwrap();
    let left = world.oci().join("images/.unpacking-x/etc");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("a"), "half").unwrap();
    let second = world.rootfs().await;
    assert!(left.exists());
    drop((first, second));
    world.rootfs().await.base(&name).await.unwrap();
    assert_eq!(world.unpacked().len(), 1);
}

#[tokio::test]
async fn a_damaged_layer_is_told_and_leaves_nothing() {
    let lower = tar(&[("a", "1")]);
    let wrong = Digest::of(b"something else");
    let hostile = tar(&[("a", "1"), (".wh...", "")]);
    let cut = &gzip(&lower)[..60];
    let id = Digest::of(&lower);
    let cases = [
        (
            gzip(&lower),
            wrong,
            format!("layer {wrong} of the image holds {id}"),
        ),
        (
            gzip(&hostile),
            Digest::of(&hostile),
            "a whiteout of nothing".to_owned(),
        ),
        (
            cut.to_vec(),
            id,
            format!("layer {id} cannot be unpacked: not a readable tar archive"),
        ),
    ];
    for (layer, diff_id, said) in cases {
        let world = World::new().await;
        let name = world.hold(&[(layer, diff_id)]).await;
        let rootfs = world.rootfs().await;
        for _ in 0..2 {
            let error = rootfs.base(&name).await.unwrap_err().to_string();
            assert!(error.contains(&said), "{error}");
            assert!(world.unpacked().is_empty());
        }
    }
}

#[tokio::test]
async fn the_layer_of_a_built_image_lies_beside() {
    let world = World::new().await;
    let plain = tar(&[
        ("usr/", ""),
        ("usr/local/", ""),
        ("usr/local/chaincode", "program"),
    ]);
    let mut ingest = world.store.ingest().await.unwrap();
    ingest.append(&gzip(&plain)).await.unwrap();
    let layer = Layer {
        blob: world.store.commit(ingest).await.unwrap(),
        diff_id: Digest::of(&plain),
        destination: "/usr/local".to_owned(),
        entries: Vec::new(),
    };
    let rootfs = world.rootfs().await;
    let (one, other) = tokio::join!(rootfs.layer(&layer), rootfs.layer(&layer));
    let directory = one.unwrap();
    assert_eq!(directory, other.unwrap());
    assert_eq!(
        directory,
        world.oci().join(LAYERS).join(layer.diff_id.hex())
    );
    let program = fs::read_to_string(directory.join("usr/local/chaincode"));
    assert_eq!(program.unwrap(), "program");

    let blob = Digest::of(b"never stored");
    let lost = Layer {
        blob: Blob {
            digest: blob,
            size: 1,
        },
        diff_id: Digest::of(b"neither"),
        ..layer
    };
    let error = rootfs.layer(&lost).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "layer {blob} is no longer in the store; run `peitho images verify`, and do what it says"
        )
    );
}

#[tokio::test]
async fn a_base_that_nobody_has_is_told_with_the_way_out() {
    let world = World::new().await;
    // Nobody listens on port 1.
    let name = "127.0.0.1:1/a:1".parse().unwrap();
    let error = world.rootfs().await.base(&name).await.unwrap_err();
    assert!(matches!(
        &error,
        RootfsError::Hold(HoldError::OutOfReach { .. })
    ));
    assert!(
        error.to_string().contains("peitho images import"),
        "{error}"
    );
    assert!(world.unpacked().is_empty());
}
