//! Owns the making of container images without a daemon: one layer, alone or over those of another image, a configuration and a
//! manifest in an OCI layout, made of plain files. The same content gives the same bytes. [`crate::images`] says which images there are.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::cache::hex;

/// Who owns an entry of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Root,
    /// The user that Fabric's images run chaincode as.
    Chaincode,
}

impl Owner {
    fn id(self) -> u64 {
        match self {
            Owner::Root => 0,
            Owner::Chaincode => 500,
        }
    }
}

/// A layer under construction: a tar stream that is compressed, hashed and written as entries are added.
pub(crate) struct Layer {
    tar: tar::Builder<Hashing<GzEncoder<Hashing<File>>>>,
    path: PathBuf,
}

impl Layer {
    /// Starts a layer in the layout directory `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Layer> {
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        let path = dir.join("layer");
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let compressed = GzEncoder::new(Hashing::new(file), Compression::fast());
        Ok(Layer {
            tar: tar::Builder::new(Hashing::new(compressed)),
            path,
        })
    }

    pub(crate) fn directory(&mut self, name: &str, mode: u32, owner: Owner) -> Result<()> {
        let header = header(EntryType::Directory, mode, 0, owner);
        self.append(header, &format!("{name}/"), std::io::empty())
    }

    pub(crate) fn text(&mut self, name: &str, mode: u32, text: &str) -> Result<()> {
        let header = header(EntryType::Regular, mode, text.len() as u64, Owner::Root);
        self.append(header, name, text.as_bytes())
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, from: &Path) -> Result<()> {
        let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
        let size = file.metadata()?.len();
        self.append(
            header(EntryType::Regular, mode, size, Owner::Root),
            name,
            file,
        )
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) -> Result<()> {
        let mut header = header(EntryType::Symlink, 0o777, 0, Owner::Root);
        self.tar
            .append_link(&mut header, name, target)
            .with_context(|| format!("cannot add {name}"))
    }

    /// Adds a directory with all below it, in the order of names, without what `skip` names.
    pub(crate) fn tree(&mut self, name: &str, from: &Path, skip: fn(&str) -> bool) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        self.directory(name, 0o755, Owner::Root)?;
        let mut entries = fs::read_dir(from)
            .with_context(|| format!("cannot read {}", from.display()))?
            .collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let child = entry.file_name().to_string_lossy().into_owned();
            if skip(&child) {
                continue;
            }
            let (path, child) = (entry.path(), format!("{name}/{child}"));
            let metadata = fs::metadata(&path)?;
            if metadata.is_dir() {
                self.tree(&child, &path, skip)?;
            } else {
                self.file(&child, metadata.permissions().mode() & 0o755, &path)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, mut header: Header, name: &str, content: impl Read) -> Result<()> {
        self.tar
            .append_data(&mut header, name, content)
            .with_context(|| format!("cannot add {name}"))
    }

    /// Ends the layer and writes the image around it. `config` is what an image configuration has under `config`.
    /// Returns the manifest's digest.
    pub(crate) fn finish(self, dir: &Path, config: &Value) -> Result<String> {
        self.finish_over(Below::default(), dir, config)
    }

    /// The same with the layers of another image below it.
    pub(crate) fn finish_over(self, below: Below, dir: &Path, config: &Value) -> Result<String> {
        let plain = self.tar.into_inner()?;
        let diff_id = plain.digest();
        let compressed = plain.inner.finish()?;
        let layer = Blob {
            digest: compressed.digest(),
            size: compressed.written,
        };
        let blobs = dir.join("blobs/sha256");
        fs::rename(&self.path, blobs.join(&layer.digest))?;
        for file in &below.files {
            let name = file.file_name().context("a blob has a name")?;
            fs::hard_link(file, blobs.join(name))
                .with_context(|| format!("cannot link {}", file.display()))?;
        }

        let media = "application/vnd.oci.image";
        let (mut layers, mut diff_ids) = (below.layers, below.diff_ids);
        layers.push(layer.descriptor(&format!("{media}.layer.v1.tar+gzip")));
        diff_ids.push(json!(format!("sha256:{diff_id}")));
        let history = vec![json!({ "created_by": "peitho testbed" }); layers.len()];
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        });
        let config = Blob::write(dir, &config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": format!("{media}.manifest.v1+json"),
            "config": config.descriptor(&format!("{media}.config.v1+json")),
            "layers": layers,
        });
        let manifest = Blob::write(dir, &manifest)?;
        let index = json!({
            "schemaVersion": 2,
            "manifests": [manifest.descriptor(&format!("{media}.manifest.v1+json"))],
        });
        fs::write(dir.join("index.json"), index.to_string())?;
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(format!("sha256:{}", manifest.digest))
    }
}

/// The layers of a finished image, for another to stand on.
#[derive(Default)]
pub(crate) struct Below {
    layers: Vec<Value>,
    diff_ids: Vec<Value>,
    files: Vec<PathBuf>,
}

impl Below {
    /// Those of the image in the layout directory `dir`.
    pub(crate) fn of(dir: &Path) -> Result<Below> {
        let blob = |descriptor: &Value| -> Result<PathBuf> {
            let digest = descriptor["digest"].as_str().context("no digest")?;
            let name = digest.strip_prefix("sha256:").context("not SHA-256")?;
            Ok(dir.join("blobs/sha256").join(name))
        };
        let read = |file: &Path| -> Result<Value> {
            let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            Ok(serde_json::from_slice(&text)?)
        };
        let index = read(&dir.join("index.json"))?;
        let manifest = read(&blob(&index["manifests"][0])?)?;
        let config = read(&blob(&manifest["config"])?)?;
        let list = |value: &Value| value.as_array().cloned().context("not a list");
        let layers = list(&manifest["layers"])?;
        Ok(Below {
            files: layers.iter().map(blob).collect::<Result<_>>()?,
            diff_ids: list(&config["rootfs"]["diff_ids"])?,
            layers,
        })
    }

    /// Lays out what the layers hold in `root`, the lowest first.
    pub(crate) fn unpack(&self, root: &Path) -> Result<()> {
        for file in &self.files {
            let layer = GzDecoder::new(File::open(file)?);
            tar::Archive::new(layer)
                .unpack(root)
                .with_context(|| format!("cannot unpack {}", file.display()))?;
        }
        Ok(())
    }
}

struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn write(dir: &Path, content: &Value) -> Result<Blob> {
        let text = content.to_string();
        let digest = hex(&Sha256::digest(&text));
        fs::write(dir.join("blobs/sha256").join(&digest), &text)?;
        let size = text.len() as u64;
        Ok(Blob { digest, size })
    }

    fn descriptor(&self, media_type: &str) -> Value {
        let digest = format!("sha256:{}", self.digest);
        json!({ "mediaType": media_type, "digest": digest, "size": self.size })
    }
}

/// No times and no names of users: they would change the digest from machine to machine.
pub(crate) fn header(kind: EntryType, mode: u32, size: u64, owner: Owner) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(owner.id());
    header.set_gid(owner.id());
    header.set_mtime(0);
    header
}

/// This machine's architecture in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Passes bytes on, counted and hashed.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    written: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Hashing<W> {
        let hash = Sha256::new();
        Hashing {
            inner,
            hash,
            written: 0,
        }
    }

    fn digest(&self) -> String {
        hex(&self.hash.clone().finalize())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
