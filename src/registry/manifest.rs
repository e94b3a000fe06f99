//! The documents of an image, read: manifests, indexes, configurations; from registries and from archives. Pure.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::image_spec::ImageConfig;
use crate::names::{Architecture, Digest};
use crate::store::Blob;

/// What manifests without a type are.
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image that cannot be used: what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub(super) String);

impl From<&str> for Unusable {
    fn from(what: &str) -> Self {
        Self(what.to_owned())
    }
}

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Manifest {
    Image(ImageManifest),
    Index(Index),
}

/// The parts of one image.
#[derive(Debug, Deserialize)]
pub(super) struct ImageManifest {
    pub(super) config: Descriptor,
    /// The lowest first.
    pub(super) layers: Vec<Descriptor>,
}

/// The images of one name for several platforms, or all images of an archive.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

/// Where a document or layer is. Read leniently: what is not used may be wrong.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) digest: String,
    pub(super) size: Option<u64>,
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) platform: Option<Platform>,
    pub(super) annotations: Option<HashMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        if let Ok(image) = serde_json::from_slice(bytes) {
            return Ok(Self::Image(image));
        }
        serde_json::from_slice(bytes)
            .map(Self::Index)
            .map_err(|_| "neither a manifest nor an index".into())
    }
}

/// What a manifest says of itself and its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The manifest's own.
    pub media_type: String,
    /// The configuration.
    pub config: Blob,
    /// The lowest first.
    pub layers: Vec<Blob>,
}

impl Contents {
    /// Reads a manifest of one image; `Err` is what is wrong with it.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(manifest: &[u8]) -> Result<Self, Unusable> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed {
            media_type: Option<String>,
            config: Descriptor,
            layers: Vec<Descriptor>,
        }
        let manifest: Typed = serde_json::from_slice(manifest)
            .map_err(|error| Unusable(format!("its manifest is unreadable: {error}")))?;
        let layers = manifest.layers.iter().map(Descriptor::blob);
        Ok(Self {
            config: manifest.config.blob()?,
            layers: layers.collect::<Result<_, _>>()?,
            media_type: (manifest.media_type).unwrap_or_else(|| OCI_MANIFEST.to_owned()),
        })
    }
}

impl Descriptor {
    fn blob(&self) -> Result<Blob, Unusable> {
        let digest = self.digest.parse();
        Ok(Blob {
            digest: digest.map_err(|error| Unusable(format!("a layer: {error}")))?,
            size: self.size.ok_or("a layer without its size")?,
        })
    }
}

impl Index {
    /// The image for linux on `architecture`, the plainest variant first.
    pub(super) fn of(&self, architecture: &Architecture) -> Result<&Descriptor, Unusable> {
        let architecture = architecture.as_str();
        let fitting = self.manifests.iter().filter_map(|entry| {
            let platform = entry.platform.as_ref()?;
            (platform.os == "linux" && platform.architecture == architecture)
                .then_some((platform.variant.as_deref().unwrap_or_default(), entry))
        });
        fitting
            .min_by_key(|(variant, _)| *variant)
            .map(|(_, entry)| entry)
            .ok_or_else(|| Unusable(format!("its index has none for linux/{architecture}")))
    }
}

/// An image's configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    /// How a container of it starts.
    pub(super) start: ImageConfig,
    architecture: String,
    diff_ids: Vec<String>,
}

impl Configuration {
    /// Reads a configuration and holds it against the number of layers in its manifest.
    pub(super) fn parse(bytes: &[u8], layers: usize) -> Result<Self, Unusable> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            config: Option<Start>,
            #[serde(default)]
            architecture: String,
            rootfs: Rootfs,
        }
        #[derive(Deserialize)]
        struct Rootfs {
            diff_ids: Vec<String>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Start {
            user: Option<String>,
            env: Value,
            entrypoint: Option<Vec<String>>,
            cmd: Option<Vec<String>>,
            working_dir: Option<String>,
        }
        let config: Config = serde_json::from_slice(bytes)
            .map_err(|e| Unusable(format!("its configuration is unreadable: {e}")))?;
        let diff_ids = config.rootfs.diff_ids;
        if diff_ids.len() != layers {
            let listed = diff_ids.len();
            let what = format!("its configuration lists {listed} layers, its manifest {layers}");
            return Err(Unusable(what));
        }
        let start = config.config.unwrap_or_default();
        Ok(Self {
            architecture: config.architecture,
            diff_ids,
            start: ImageConfig {
                user: start.user.unwrap_or_default(),
                env: split_env(&start.env),
                entrypoint: start.entrypoint.unwrap_or_default(),
                cmd: start.cmd.unwrap_or_default(),
                working_dir: start.working_dir.unwrap_or_default(),
            },
        })
    }

    /// The digests of its uncompressed layers, the lowest first.
    pub(super) fn diff_ids(&self) -> Result<Vec<Digest>, Unusable> {
        let parsed = self.diff_ids.iter().map(|text| text.parse());
        (parsed.collect::<Result<_, _>>()).map_err(|e| Unusable(format!("its layers: {e}")))
    }

    /// What it is made for, where it says that.
    pub(super) fn architecture(&self) -> Option<Architecture> {
        self.architecture.parse().ok()
    }

    /// Whether its programs run here: else "exec format error" would be all that anybody learns.
    pub(super) fn runs_here(&self) -> Result<(), Unusable> {
        let its = self.architecture.as_str();
        let here = Architecture::word_for_this_machine();
        if its.is_empty() || its == here {
            return Ok(());
        }
        Err(Unusable(format!(
            "it is made for linux/{its}, and this machine is linux/{here}"
        )))
    }
}

/// `["NAME=VALUE", …]` as pairs, split at the first `=`; what has no name is left out, and `null` is empty.
pub(crate) fn split_env(env: &Value) -> Vec<(String, String)> {
    let items = env.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(Value::as_str)
        .map(|item| item.split_once('=').unwrap_or((item, "")))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_plainest_image_for_the_architecture_is_taken() {
        let entry = |digest: &str, os: &str, architecture: &str, variant: Value| json!({"digest": digest, "platform": {"os": os, "architecture": architecture, "variant": variant}});
        let index = json!({"manifests": [
            {"digest": "attestation"},
            entry("windows", "windows", "amd64", Value::Null),
            entry("v3", "linux", "amd64", json!("v3")),
            entry("plain", "linux", "amd64", Value::Null),
            entry("arm", "linux", "arm64", json!("v8")),
        ]});
        let Manifest::Index(index) = Manifest::parse(index.to_string().as_bytes()).unwrap() else {
            panic!("an index");
        };
        let of = |name: &str| index.of(&name.parse().unwrap());
        let digest = |name| of(name).unwrap().digest.clone();
        assert_eq!(digest("amd64"), "plain");
        assert_eq!(digest("arm64"), "arm");
        let error = of("s390x").unwrap_err();
        assert_eq!(error.to_string(), "its index has none for linux/s390x");
    }

    #[test]
    fn the_configuration_is_read_with_its_nulls() {
        let read =
            |value: Value, layers| Configuration::parse(value.to_string().as_bytes(), layers);
        let diff_id = Digest::of(b"layer");
        let full = json!({
            "config": {"User": "500:500", "Env": ["A=b=c", "D"], "Entrypoint": ["/e"], "Cmd": null, "WorkingDir": "/w"},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let expected = ImageConfig {
            user: "500:500".to_owned(),
            env: vec![
                ("A".to_owned(), "b=c".to_owned()),
                ("D".to_owned(), String::new()),
            ],
            entrypoint: vec!["/e".to_owned()],
            cmd: Vec::new(),
            working_dir: "/w".to_owned(),
        };
        let config = read(full.clone(), 1).unwrap();
        assert_eq!(config.start, expected);
        assert_eq!(config.diff_ids(), Ok(vec![diff_id]));
        let empty = json!({"config": null, "rootfs": {"diff_ids": []}});
        assert_eq!(read(empty, 0).unwrap().start, ImageConfig::default());
        assert!(read(full, 2).is_err(), "two layers in the manifest");
        assert!(read(json!({}), 0).is_err());
        assert!(Manifest::parse(b"<html>").is_err());
    }

    #[test]
    fn an_image_for_another_machine_is_told() {
        let runs = |architecture: Value| {
            let config = json!({"architecture": architecture, "rootfs": {"diff_ids": []}});
            let config = Configuration::parse(config.to_string().as_bytes(), 0).unwrap();
            config.runs_here().map_err(|e| e.to_string())
        };
        assert_eq!(runs(json!(Architecture::word_for_this_machine())), Ok(()));
        assert_eq!(runs(json!("")), Ok(()));
        let told = format!(
            "it is made for linux/mips, and this machine is linux/{}",
            Architecture::word_for_this_machine()
        );
        assert_eq!(runs(json!("mips")), Err(told));
    }
}
