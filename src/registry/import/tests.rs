//! Archives as Docker, podman, skopeo and buildkit write them, and as nobody should.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::*;
use crate::names::Architecture;
use crate::registry::{Lookup, Registries, list_held};

/// Members in the order of the archive.
#[derive(Default, Clone)]
struct Archive(Vec<(String, Content)>);

#[derive(Clone)]
enum Content {
    File(Vec<u8>),
    Symlink(&'static str),
}

impl Archive {
    fn file(mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push((name.into(), Content::File(bytes.into())));
        self
    }

    fn json(self, name: impl Into<String>, value: &Value) -> Self {
        self.file(name, value.to_string())
    }

    fn link(mut self, name: &str, target: &'static str) -> Self {
        self.0.push((name.to_owned(), Content::Symlink(target)));
        self
    }

    fn blob(self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let name = format!("blobs/sha256/{}", Digest::of(&bytes).hex());
        self.file(name, bytes)
    }

    fn tar(&self) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (name, content) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            match content {
                Content::File(bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, name, &bytes[..]).unwrap();
                }
                Content::Symlink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, name, target).unwrap();
                }
            }
        }
        tar.into_inner().unwrap()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap()
}

fn config(layers: &[&[u8]]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({
        "architecture": Architecture::word_for_this_machine(), "os": "linux", "config": {"User": "7", "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// A small layer and one that does not stay in memory.
fn layers() -> (Vec<u8>, Vec<u8>) {
    (b"lower".to_vec(), vec![7; 300_000])
}

/// As `docker save` of one image, with the manifest as its last member.
fn saved(tags: &Value) -> Archive {
    let (lower, upper) = layers();
    let config = config(&[&lower, &upper]).to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": ["l/layer.tar", "u/layer.tar"]}]);
    Archive::default()
        .file("u/layer.tar", upper)
        .file("u/VERSION", "1.0")
        .file(config_name, config)
        .file("l/layer.tar", lower)
        .json("repositories", &json!({}))
        .json("manifest.json", &manifest)
}

/// An OCI layout of one image with gzip layers; the descriptor of its manifest gets `entry` added.
fn layout(entry: Value) -> Archive {
    let (lower, upper) = layers();
    let config = config(&[&lower, &upper]).to_string();
    let (lower, upper) = (gzip(&lower), gzip(&upper));
    let kind = "layer.v1.tar+gzip";
    let manifest = json!({
        "schemaVersion": 2, "config": descriptor("config.v1+json", config.as_bytes()),
        "layers": [descriptor(kind, &lower), descriptor(kind, &upper)],
    });
    let manifest = manifest.to_string();
    let mut named = descriptor("manifest.v1+json", manifest.as_bytes());
    let Value::Object(entry) = entry else {
        panic!("an object")
    };
    named.as_object_mut().unwrap().extend(entry);
    Archive::default()
        .json("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))
        .json(
            "index.json",
            &json!({"schemaVersion": 2, "manifests": [named]}),
        )
        .blob(config)
        .blob(manifest)
        .blob(lower)
        .blob(upper)
}

fn named(name: &str) -> Value {
    json!({"annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1"}})
}

struct Scratch {
    directory: tempfile::TempDir,
    store: Store,
}

impl Scratch {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        Self { directory, store }
    }

    async fn import(
        &self,
        archive: Vec<u8>,
        name: Option<&str>,
    ) -> Result<Vec<(ImageName, HeldImage)>, ImportError> {
        let name = name.map(|name| name.parse().unwrap());
        import(&self.store, io::Cursor::new(archive), name).await
    }

    async fn names(&self) -> Vec<String> {
        let held = list_held(&self.store).await.unwrap();
        held.iter().map(|(name, _)| name.to_string()).collect()
    }

    /// Every file with its content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(at: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.insert(path.clone(), std::fs::read(path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(self.directory.path(), &mut files);
        files
    }

    /// Those of a server that has the same directory open.
    async fn registries(&self) -> Registries {
        let store = Store::open(self.directory.path()).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        Registries::new(&[], store).await.unwrap()
    }
}

#[tokio::test]
async fn what_docker_saved_is_held_and_answers_before_any_registry() {
    let scratch = Scratch::new().await;
    // Nobody listens on port 1.
    let name: ImageName = "127.0.0.1:1/a/b:1".parse().unwrap();
    let server = scratch.registries().await;
    assert!(matches!(server.look_up(&name).await, Lookup::Unknown(_)));

    let archive = saved(&json!(["127.0.0.1:1/a/b:1", "b:2"])).tar();
    let images = scratch.import(archive.clone(), None).await.unwrap();
    assert_eq!(scratch.names().await, ["127.0.0.1:1/a/b:1", "b:2"]);
    let (lower, upper) = layers();
    let config = config(&[&lower, &upper]).to_string();
    let image = &images[0].1;
    assert_eq!(image.id, Digest::of(config.as_bytes()));
    for (layer, plain) in image.layers.iter().zip([lower, upper]) {
        assert_eq!(layer.diff_id, Digest::of(&plain));
        assert_eq!(layer.blob.digest, layer.diff_id);
        assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar");
    }
    // The server that has the store open sees it, though it has just missed it.
    let Lookup::Found(found) = server.look_up(&name).await else {
        panic!("it is held");
    };
    assert_eq!(
        (found.id, found.raw_config),
        (image.id, config.into_bytes())
    );
    let manifest: Value = serde_json::from_slice(&found.manifest).unwrap();
    assert_eq!(
        manifest["layers"][1]["digest"],
        json!(image.layers[1].blob.digest)
    );
    assert_eq!(manifest["config"]["digest"], json!(image.id));
    assert_eq!(server.hold(&name).await.unwrap(), *image);

    let before = scratch.files();
    for again in [gzip(&archive), archive] {
        assert_eq!(scratch.import(again, None).await.unwrap(), images);
        assert_eq!(scratch.files(), before);
    }
}

#[tokio::test]
async fn the_order_of_members_does_not_matter() {
    let archive = saved(&json!(["a:1"]));
    let mut seen = Vec::new();
    for turn in 0..archive.0.len() {
        let mut turned = archive.clone();
        turned.0.rotate_left(turn);
        let images = Scratch::new().await.import(turned.tar(), None).await;
        seen.push(images.unwrap());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn a_layer_that_old_docker_wrote_once_serves_two_images() {
    let (lower, upper) = layers();
    let (one, both) = (config(&[&lower]), config(&[&lower, &upper]));
    let manifest = json!([
        {"Config": "one.json", "RepoTags": ["a:1"], "Layers": ["x/layer.tar"]},
        {"Config": "both.json", "RepoTags": ["a:2"], "Layers": ["y/layer.tar", "./z/layer.tar"]},
    ]);
    let archive = Archive::default()
        .json("one.json", &one)
        .json("both.json", &both)
        .json("manifest.json", &manifest)
        .link("y/layer.tar", "../x/layer.tar")
        .file("x/layer.tar", lower)
        .file("z/layer.tar", upper);
    let scratch = Scratch::new().await;
    let images = scratch.import(archive.tar(), None).await.unwrap();
    assert_eq!(scratch.names().await, ["a:1", "a:2"]);
    assert_eq!(images[0].1.layers[0], images[1].1.layers[0]);
}

#[tokio::test]
async fn a_layout_keeps_its_manifest_and_its_layers_as_they_are() {
    let scratch = Scratch::new().await;
    // As newer versions of Docker: both at once.
    let archive = layout(named("docker.io/library/a:1")).json("manifest.json", &json!("not read"));
    let images = scratch.import(archive.tar(), None).await.unwrap();
    assert_eq!(scratch.names().await, ["a:1"]);
    let (lower, _) = layers();
    let layer = &images[0].1.layers[0];
    assert_eq!(layer.diff_id, Digest::of(&lower));
    assert_eq!(layer.blob.digest, Digest::of(&gzip(&lower)));
    let Content::File(manifest) = &archive.0[3].1 else {
        panic!("a file")
    };
    assert_eq!(images[0].1.manifest.digest, Digest::of(manifest));
}

#[tokio::test]
async fn names_come_from_annotations_tags_or_the_command_line() {
    let by_ref =
        |name: &str| layout(json!({"annotations": {"org.opencontainers.image.ref.name": name}}));
    for (archive, given, expected) in [
        (by_ref("h.example.com/a/b:1"), None, "h.example.com/a/b:1"),
        (by_ref("a/b"), None, "a/b:latest"),
        (by_ref("2.5"), Some("a/b:2.5"), "a/b:2.5"),
        (layout(json!({})), Some("c"), "c:latest"),
        (layout(named("other:1")), Some("mine:1"), "mine:1"),
        (saved(&Value::Null), Some("c"), "c:latest"),
        (saved(&json!(["<none>:<none>"])), Some("c"), "c:latest"),
    ] {
        let scratch = Scratch::new().await;
        scratch.import(archive.tar(), given).await.unwrap();
        assert_eq!(scratch.names().await, [expected]);
    }
}

#[tokio::test]
async fn the_image_for_this_machine_is_taken_and_a_foreign_one_told() {
    let platform =
        |architecture: &str| json!({"platform": {"os": "linux", "architecture": architecture}});
    let inner = layout(platform(Architecture::word_for_this_machine()));
    let Content::File(index) = &inner.0[1].1 else {
        panic!("a file")
    };
    let mut entry = descriptor("index.v1+json", index);
    entry["annotations"] = named("a:1")["annotations"].clone();
    let foreign = json!({"digest": Digest::of(b"not there"), "platform": {"os": "unknown", "architecture": "unknown"}});
    let mut outer = inner.clone().blob(index.clone());
    outer.0[1] = Archive::default()
        .json("index.json", &json!({"manifests": [foreign, entry]}))
        .0
        .remove(0);
    let scratch = Scratch::new().await;
    scratch.import(outer.tar(), None).await.unwrap();
    assert_eq!(scratch.names().await, ["a:1"]);

    let error = scratch.import(layout(platform("mips")).tar(), None).await;
    let told = format!(
        "no image for this machine, linux/{}: only for linux/mips",
        Architecture::word_for_this_machine()
    );
    assert_eq!(error.unwrap_err().to_string(), told);
}

#[tokio::test]
async fn what_is_no_archive_of_images_is_told_and_leaves_nothing() {
    let without = |archive: Archive, suffix: &str| {
        let mut archive = archive;
        archive.0.retain(|(name, _)| !name.ends_with(suffix));
        archive.tar()
    };
    let damaged = |mut archive: Archive, at: usize| {
        let Content::File(bytes) = &mut archive.0[at].1 else {
            panic!("a file")
        };
        bytes[0] ^= 1;
        archive.tar()
    };
    let good = saved(&json!(["a:1"]));
    let whole = good.tar();
    let zipped = gzip(&whole);
    let two = json!([
        {"Config": "c.json", "RepoTags": ["a:1"], "Layers": []},
        {"Config": "c.json", "RepoTags": ["a:2"], "Layers": ["nowhere.tar"]},
    ]);
    let foreign = json!({"architecture": "mips", "rootfs": {"diff_ids": []}});
    let two = Archive::default().json("manifest.json", &two);
    let one = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": []}]);
    let one = Archive::default().json("manifest.json", &one);
    let cases: Vec<(Vec<u8>, Option<&str>, &str)> = vec![
        (
            b"root:x:0:0::/root:/bin/sh\n".repeat(50),
            None,
            "not a tar archive",
        ),
        (
            vec![0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3],
            None,
            "not a tar archive",
        ),
        (Vec::new(), None, "not a tar archive"),
        (
            Archive::default().file("a", "b").tar(),
            None,
            "neither manifest.json",
        ),
        (whole[..200_000].to_vec(), None, "cut"),
        (
            zipped[..zipped.len() - 20].to_vec(),
            None,
            "not a readable tar archive",
        ),
        (
            without(good.clone(), "u/layer.tar"),
            None,
            "u/layer.tar is not in it, and manifest.json names it",
        ),
        (
            damaged(good.clone(), 0),
            None,
            "u/layer.tar: its content has the digest",
        ),
        (
            damaged(good.clone(), 3),
            None,
            "l/layer.tar: its content has the digest",
        ),
        (
            damaged(good.clone(), 2),
            None,
            ".json: its content has the digest",
        ),
        (
            damaged(good.clone(), 5),
            None,
            "manifest.json: not the list",
        ),
        (
            saved(&Value::Null).tar(),
            None,
            "give the one of a single image with --name",
        ),
        (
            saved(&json!(["A B"])).tar(),
            None,
            "invalid image name \"A B\"",
        ),
        (layout(json!({})).tar(), None, "--name"),
        (damaged(layout(named("a")), 3), None, "blobs/sha256/"),
        (damaged(layout(named("a")), 5), None, "blobs/sha256/"),
        (
            damaged(layout(named("a")), 1),
            None,
            "index.json: not an index",
        ),
        (
            two.clone().json("c.json", &config(&[])).tar(),
            None,
            "lists 0 layers, its manifest 1",
        ),
        (
            two.json("c.json", &config(&[])).tar(),
            Some("x"),
            "lists 0 layers",
        ),
        (
            one.json("c.json", &foreign).tar(),
            None,
            "a:1: it is made for linux/mips",
        ),
        (
            good.clone().link("manifest.json", "manifest.json").tar(),
            None,
            "manifest.json is not in it",
        ),
    ];
    for (number, (archive, name, said)) in cases.into_iter().enumerate() {
        let scratch = Scratch::new().await;
        let error = scratch.import(archive, name).await.unwrap_err().to_string();
        assert!(error.contains(said), "{number}: {error}");
        assert!(!error.contains('\n'), "{number}: {error}");
        assert!(scratch.names().await.is_empty(), "{number}");
        let ingest = scratch.directory.path().join("ingest");
        let left: Vec<_> = std::fs::read_dir(ingest).unwrap().collect();
        assert_eq!(left.len(), 1, "{number}: only the lock");
    }
    let several = saved(&json!(["a:1"])).json(
        "manifest.json",
        &json!([{"Config": "c.json", "Layers": []}, {"Config": "c.json", "Layers": []}]),
    );
    let several = several.json("c.json", &config(&[])).tar();
    let error = Scratch::new().await.import(several, Some("x")).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "--name is for one image, and it has 2"
    );
}
