//! What registries answer, read: manifests, indexes, configurations, and refusals. Pure.

use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use serde::Deserialize;
use serde_json::Value;

use crate::image_spec::ImageConfig;

/// What is asked for.
pub(super) const MEDIA_TYPES: &[&str] = &[
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// Why there is no image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The registry says so.
    Missing(String),
    /// Nobody can tell.
    Unknown(String),
}

impl Refusal {
    pub(super) fn unusable(what: &str) -> Self {
        Self::Unknown(format!("the registry's answer is no image: {what}"))
    }
}

impl From<OciDistributionError> for Refusal {
    fn from(error: OciDistributionError) -> Self {
        use OciErrorCode as Code;
        match &error {
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[Code]| envelope.errors.iter().any(|e| codes.contains(&e.code));
                let words = (envelope.errors.iter())
                    .map(|e| match e.message.as_str() {
                        "" => format!("{:?}", e.code),
                        message => message.to_owned(),
                    })
                    .collect::<Vec<_>>();
                let words = cut(&words.join("; "));
                if has(&[Code::Denied, Code::Unauthorized]) {
                    Self::Unknown(format!("denied: {words}"))
                } else if has(&[Code::ManifestUnknown, Code::NameUnknown, Code::NotFound]) {
                    Self::Missing(words)
                } else {
                    Self::Unknown(words)
                }
            }
            OciDistributionError::ServerError { code: 404, .. } => {
                Self::Missing("the registry answered 404 Not Found".to_owned())
            }
            OciDistributionError::ServerError {
                code: code @ (401 | 403),
                ..
            } => Self::Unknown(format!("denied: the registry answered {code}")),
            OciDistributionError::UnauthorizedError { .. } => {
                Self::Unknown("denied: the registry answered 401 Unauthorized".to_owned())
            }
            OciDistributionError::AuthenticationFailure(words) => {
                Self::Unknown(format!("denied: {}", cut(words)))
            }
            error => Self::Unknown(chain(error)),
        }
    }
}

/// The error and its causes in one line: a client's own text often leaves out the one that matters.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    cut(&text)
}

/// Strangers' words in one line of at most 300 characters.
fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Manifest {
    Image(Descriptor),
    Index(Index),
}

/// An image's configuration and the number of its layers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) digest: String,
    layers: usize,
}

/// The images of one name for several platforms.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    manifests: Vec<IndexEntry>,
}

#[derive(Debug, Deserialize)]
struct IndexEntry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Image {
            config: ConfigDescriptor,
            layers: Vec<serde::de::IgnoredAny>,
        }
        #[derive(Deserialize)]
        struct ConfigDescriptor {
            digest: String,
        }
        if let Ok(image) = serde_json::from_slice::<Image>(bytes) {
            return Ok(Self::Image(Descriptor {
                digest: image.config.digest,
                layers: image.layers.len(),
            }));
        }
        serde_json::from_slice(bytes)
            .map(Self::Index)
            .map_err(|_| Refusal::unusable("neither a manifest nor an index"))
    }
}

impl Index {
    /// The digest of the image for linux on this machine's architecture, the plainest variant first.
    ///
    /// That none is there says nothing of the nodes, whose architecture may be another.
    pub(super) fn for_this_machine(&self) -> Result<String, Refusal> {
        self.for_architecture(architecture())
    }

    fn for_architecture(&self, architecture: &str) -> Result<String, Refusal> {
        let fitting = self.manifests.iter().filter_map(|entry| {
            let platform = entry.platform.as_ref()?;
            (platform.os == "linux" && platform.architecture == architecture)
                .then_some((platform.variant.as_deref().unwrap_or_default(), entry))
        });
        fitting
            .min_by_key(|(variant, _)| *variant)
            .map(|(_, entry)| entry.digest.clone())
            .ok_or_else(|| {
                Refusal::unusable(&format!("its index has none for linux/{architecture}"))
            })
    }
}

/// This machine's architecture in the words of images (those of Go).
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Reads a configuration and holds it against its manifest.
pub(super) fn config(bytes: &[u8], manifest: &Descriptor) -> Result<ImageConfig, Refusal> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        config: Option<Start>,
        rootfs: Rootfs,
    }
    #[derive(Deserialize)]
    struct Rootfs {
        diff_ids: Vec<serde::de::IgnoredAny>,
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
        .map_err(|e| Refusal::unusable(&format!("its configuration is unreadable: {e}")))?;
    let (listed, layers) = (config.rootfs.diff_ids.len(), manifest.layers);
    if listed != layers {
        let what = format!("its configuration lists {listed} layers, its manifest {layers}");
        return Err(Refusal::unusable(&what));
    }
    let start = config.config.unwrap_or_default();
    Ok(ImageConfig {
        user: start.user.unwrap_or_default(),
        env: split_env(&start.env),
        entrypoint: start.entrypoint.unwrap_or_default(),
        cmd: start.cmd.unwrap_or_default(),
        working_dir: start.working_dir.unwrap_or_default(),
    })
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

    fn refusal(code: OciErrorCode, message: &str) -> Refusal {
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        let envelope = serde_json::from_str(&body).unwrap();
        let url = "https://r/v2/".to_owned();
        OciDistributionError::RegistryError { envelope, url }.into()
    }

    #[test]
    fn only_a_clear_no_is_missing() {
        let server = |code| {
            Refusal::from(OciDistributionError::ServerError {
                code,
                url: String::new(),
                message: "<html>".to_owned(),
            })
        };
        let missing = |refusal: &Refusal| matches!(refusal, Refusal::Missing(_));
        for (refusal, is_missing) in [
            (refusal(OciErrorCode::ManifestUnknown, "x"), true),
            (refusal(OciErrorCode::NameUnknown, "x"), true),
            (refusal(OciErrorCode::NotFound, "x"), true),
            (server(404), true),
            (refusal(OciErrorCode::Denied, "x"), false),
            (refusal(OciErrorCode::Unauthorized, "x"), false),
            (refusal(OciErrorCode::Toomanyrequests, "x"), false),
            (server(401), false),
            (server(403), false),
            (server(500), false),
            (
                OciDistributionError::AuthenticationFailure("no".to_owned()).into(),
                false,
            ),
        ] {
            assert_eq!(missing(&refusal), is_missing, "{refusal:?}");
        }
        assert_eq!(
            refusal(OciErrorCode::ManifestUnknown, "manifest\n unknown\u{7}"),
            Refusal::Missing("manifest unknown".to_owned())
        );
    }

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
        assert_eq!(index.for_architecture("amd64").unwrap(), "plain");
        assert_eq!(index.for_architecture("arm64").unwrap(), "arm");
        assert!(matches!(
            index.for_architecture("s390x"),
            Err(Refusal::Unknown(_))
        ));
    }

    #[test]
    fn the_configuration_is_read_with_its_nulls() {
        let descriptor = |layers| Descriptor {
            digest: String::new(),
            layers,
        };
        let read = |value: Value, layers| config(value.to_string().as_bytes(), &descriptor(layers));
        let full = json!({
            "config": {"User": "500:500", "Env": ["A=b=c", "D"], "Entrypoint": ["/e"], "Cmd": null, "WorkingDir": "/w"},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:0"]},
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
        assert_eq!(read(full.clone(), 1).unwrap(), expected);
        let empty = json!({"config": null, "rootfs": {"diff_ids": []}});
        assert_eq!(read(empty, 0).unwrap(), ImageConfig::default());
        assert!(read(full, 2).is_err(), "two layers in the manifest");
        assert!(read(json!({}), 0).is_err());
        assert!(Manifest::parse(b"<html>").is_err());
    }
}
