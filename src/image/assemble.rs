//! Base + layer + `ENV` + `LABEL` = image (design D3): pure, on the base's own JSON, so that fields nobody
//! here knows survive. Equal input gives equal bytes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::dockerfile::set;
use crate::image_spec::{Builder, Layer};
use crate::names::{Digest, ImageName, labels};
use crate::registry::{Found, split_env};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A base that is no image; says what is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("its {document} has no {field}")]
pub(super) struct Malformed {
    document: &'static str,
    field: &'static str,
}

/// A complete image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assembled {
    /// The image's configuration; its digest is the image's id.
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

/// What the Dockerfile adds to a base.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Delta<'a> {
    pub(super) layer: &'a Layer,
    pub(super) env: &'a [(String, String)],
    pub(super) labels: &'a BTreeMap<String, String>,
}

/// The image that `delta` makes of `base`. Neither reads a clock: `created` is the base's.
///
/// # Errors
/// [`Malformed`].
pub(super) fn complete(
    base: &Found,
    delta: Delta<'_>,
    annotations: &BTreeMap<String, String>,
) -> Result<Assembled, Malformed> {
    let config = config(&base.raw_config, delta)?;
    let manifest = manifest(&base.manifest, &config, delta.layer, annotations)?;
    Ok(Assembled { config, manifest })
}

/// Where an image comes from, for its manifest (ADR 0012): facts that are the same on every machine with the same package,
/// builder and base, and for every peer.
pub(super) fn annotations(
    name: &ImageName,
    from: &ImageName,
    base: &Found,
    delta: Delta<'_>,
    builder: Option<&Builder>,
) -> BTreeMap<String, String> {
    let of_peer = delta.labels.iter();
    let mut all: BTreeMap<String, String> = of_peer
        .filter(|(name, _)| name.starts_with(labels::FABRIC))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut tell = |name: &str, value: String| all.insert(name.to_owned(), value);
    tell(labels::OCI_BASE, from.full());
    tell(labels::OCI_BASE_DIGEST, base.digest.to_string());
    if let Some(hash) = name.package_hash() {
        tell(labels::PACKAGE_HASH, hash.to_owned());
    }
    if let Some(Builder { name, digest }) = builder {
        tell(labels::BUILDER, name.full());
        tell(labels::BUILDER_DIGEST, digest.to_string());
    }
    all
}

/// The id of an image whose base is out of reach: a digest of what is known.
pub(super) fn partial_id(base: &ImageName, delta: Delta<'_>) -> Digest {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Record<'a> {
        base: String,
        layer: Digest,
        diff_id: Digest,
        destination: &'a str,
        env: &'a [(String, String)],
        labels: &'a BTreeMap<String, String>,
    }
    let record = Record {
        base: base.full(),
        layer: delta.layer.blob.digest,
        diff_id: delta.layer.diff_id,
        destination: &delta.layer.destination,
        env: delta.env,
        labels: delta.labels,
    };
    Digest::of(&serde_json::to_vec(&record).expect("strings, lists and maps of strings are JSON"))
}

fn config(base: &[u8], delta: Delta<'_>) -> Result<Vec<u8>, Malformed> {
    let missing = |field| Malformed {
        document: "configuration",
        field,
    };
    let mut config = object(base).ok_or(missing("JSON object"))?;
    let created = config.get("created").cloned();

    let diff_ids = config
        .get_mut("rootfs")
        .and_then(|rootfs| rootfs.get_mut("diff_ids"))
        .and_then(Value::as_array_mut)
        .ok_or(missing("rootfs.diff_ids"))?;
    let layers_below = diff_ids.len();
    diff_ids.push(json!(delta.layer.diff_id));

    let start = child(&mut config, "config").ok_or(missing("config object"))?;
    if !delta.env.is_empty() {
        let mut env = start.get("Env").map(split_env).unwrap_or_default();
        for pair in delta.env {
            set(&mut env, pair.clone());
        }
        let env = env.iter().map(|(name, value)| format!("{name}={value}"));
        start.insert("Env".to_owned(), env.collect());
    }
    if !delta.labels.is_empty() {
        let labels = child(start, "Labels").ok_or(missing("Labels object"))?;
        for (name, value) in delta.labels {
            labels.insert(name.clone(), json!(value));
        }
    }

    // Tools pair history and layers; where the base's do not pair, a new entry would mislead.
    let history = match config.get_mut("history") {
        None if layers_below == 0 => Some(config.entry("history").or_insert_with(|| json!([]))),
        history => history,
    };
    if let Some(history) = history.and_then(Value::as_array_mut) {
        let with_layer = history
            .iter()
            .filter(|entry| entry["empty_layer"] != json!(true));
        if with_layer.count() == layers_below {
            let mut entry = Map::new();
            entry.extend(created.map(|created| ("created".to_owned(), created)));
            let destination = &delta.layer.destination;
            let by = format!("ADD binpackage.tar {destination} # peitho");
            entry.insert("created_by".to_owned(), json!(by));
            history.push(Value::Object(entry));
        }
    }
    Ok(bytes(config))
}

fn manifest(
    base: &[u8],
    config: &[u8],
    layer: &Layer,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Malformed> {
    let missing = |field| Malformed {
        document: "manifest",
        field,
    };
    let mut manifest = object(base).ok_or(missing("JSON object"))?;
    let layer_type = match manifest.get("mediaType").and_then(Value::as_str) {
        Some(DOCKER_MANIFEST) => DOCKER_LAYER,
        _ => OCI_LAYER,
    };
    let descriptor = manifest
        .get_mut("config")
        .and_then(Value::as_object_mut)
        .ok_or(missing("config"))?;
    descriptor.insert("digest".to_owned(), json!(Digest::of(config)));
    descriptor.insert("size".to_owned(), json!(config.len()));
    // Would still be the base's configuration, inlined.
    descriptor.remove("data");
    let layers = manifest
        .get_mut("layers")
        .and_then(Value::as_array_mut)
        .ok_or(missing("layers"))?;
    layers.push(json!({
        "mediaType": layer_type,
        "digest": layer.blob.digest,
        "size": layer.blob.size,
    }));
    if !annotations.is_empty() {
        let all = child(&mut manifest, "annotations").ok_or(missing("annotations object"))?;
        for (name, value) in annotations {
            all.insert(name.clone(), json!(value));
        }
    }
    Ok(bytes(manifest))
}

fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(bytes).ok()
}

/// The object under `name`, made where there is none or `null`; `None` where something else is there.
fn child<'a>(parent: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let child = parent.entry(name).or_insert(Value::Null);
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    child.as_object_mut()
}

fn bytes(object: Map<String, Value>) -> Vec<u8> {
    Value::Object(object).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Blob;

    fn layer() -> Layer {
        Layer {
            blob: Blob {
                digest: Digest::of(b"layer"),
                size: 5,
            },
            diff_id: Digest::of(b"diff"),
            destination: "/usr/local/bin".to_owned(),
            entries: Vec::new(),
        }
    }

    fn base(manifest: Value, config: Value) -> Found {
        Found {
            id: Digest::of(b""),
            digest: Digest::of(b""),
            manifest: manifest.to_string().into_bytes(),
            raw_config: config.to_string().into_bytes(),
            config: crate::image_spec::ImageConfig::default(),
            facts: crate::image_spec::ImageFacts::default(),
            source: "base".parse().unwrap(),
        }
    }

    fn docker_base() -> Found {
        base(
            json!({
                "schemaVersion": 2,
                "mediaType": DOCKER_MANIFEST,
                "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": 1, "digest": Digest::of(b"old")},
                "layers": [{"mediaType": DOCKER_LAYER, "size": 9, "digest": Digest::of(b"l0")}],
                "annotations": {"kept": "yes"},
            }),
            json!({
                "architecture": "amd64", "os": "linux", "unknown": {"deep": [1, null, 18446744073709551615_u64]},
                "created": "2024-05-06T07:08:09Z",
                "config": {"User": "chaincode", "Env": ["PATH=/bin", "A=old=1"], "Healthcheck": {"Test": ["x"]},
                    "Labels": {"base": "1", "both": "base"}, "WorkingDir": "/w"},
                "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"d0")]},
                "history": [{"created_by": "ADD x"}, {"created_by": "CMD y", "empty_layer": true}],
            }),
        )
    }

    fn assembled(base: &Found) -> (Value, Value) {
        let layer = layer();
        let env = [
            ("A".to_owned(), "new=2".to_owned()),
            ("B".to_owned(), "3".to_owned()),
        ];
        let labels = BTreeMap::from([("both".to_owned(), "new".to_owned())]);
        let delta = Delta {
            layer: &layer,
            env: &env,
            labels: &labels,
        };
        let told = BTreeMap::from([("told".to_owned(), "1".to_owned())]);
        let image = complete(base, delta, &told).unwrap();
        assert_eq!(image, complete(base, delta, &told).unwrap());
        let config: Value = serde_json::from_slice(&image.config).unwrap();
        let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
        assert_eq!(
            manifest["config"]["digest"],
            json!(Digest::of(&image.config))
        );
        assert_eq!(manifest["config"]["size"], json!(image.config.len()));
        (config, manifest)
    }

    #[test]
    fn the_base_survives_and_the_delta_is_added() {
        let (config, manifest) = assembled(&docker_base());
        assert_eq!(
            config,
            json!({
                "architecture": "amd64", "os": "linux", "unknown": {"deep": [1, null, 18446744073709551615_u64]},
                "created": "2024-05-06T07:08:09Z",
                "config": {"User": "chaincode", "Env": ["PATH=/bin", "A=new=2", "B=3"],
                    "Healthcheck": {"Test": ["x"]}, "Labels": {"base": "1", "both": "new"}, "WorkingDir": "/w"},
                "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"d0"), Digest::of(b"diff")]},
                "history": [{"created_by": "ADD x"}, {"created_by": "CMD y", "empty_layer": true},
                    {"created": "2024-05-06T07:08:09Z",
                     "created_by": "ADD binpackage.tar /usr/local/bin # peitho"}],
            })
        );
        assert_eq!(
            manifest["layers"][1],
            json!({"mediaType": DOCKER_LAYER, "digest": Digest::of(b"layer"), "size": 5})
        );
        assert_eq!(manifest["layers"][0]["size"], json!(9));
        assert_eq!(manifest["annotations"], json!({"kept": "yes", "told": "1"}));
    }

    #[test]
    fn a_sparse_base_is_filled_in() {
        let base = base(
            json!({"schemaVersion": 2, "config": {"data": "e30="}, "layers": []}),
            json!({"config": {"Env": null, "Labels": null}, "rootfs": {"type": "layers", "diff_ids": []}}),
        );
        let (config, manifest) = assembled(&base);
        assert_eq!(config["config"]["Env"], json!(["A=new=2", "B=3"]));
        assert_eq!(config["config"]["Labels"], json!({"both": "new"}));
        assert_eq!(config["history"].as_array().unwrap().len(), 1);
        assert_eq!(config.get("created"), None);
        assert_eq!(manifest["layers"][0]["mediaType"], json!(OCI_LAYER));
        assert_eq!(manifest["config"].get("data"), None);
    }

    #[test]
    fn history_that_does_not_pair_with_the_layers_stays_as_it_is() {
        let mut base = docker_base();
        let mut config: Value = serde_json::from_slice(&base.raw_config).unwrap();
        config["history"] = json!([]);
        base.raw_config = config.to_string().into_bytes();
        assert_eq!(assembled(&base).0["history"], json!([]));
    }

    #[test]
    fn what_is_no_image_is_refused_by_its_field() {
        let good = docker_base();
        for (manifest, config, said) in [
            (json!([]), None, "its manifest has no JSON object"),
            (json!({"config": {}}), None, "its manifest has no layers"),
            (json!({"layers": []}), None, "its manifest has no config"),
            (
                json!({}),
                Some(json!({})),
                "its configuration has no rootfs.diff_ids",
            ),
            (
                json!({}),
                Some(json!({"rootfs": {"diff_ids": []}, "config": 5})),
                "its configuration has no config object",
            ),
        ] {
            let mut base = good.clone();
            base.manifest = manifest.to_string().into_bytes();
            if let Some(config) = config {
                base.raw_config = config.to_string().into_bytes();
            }
            let layer = layer();
            let delta = Delta {
                layer: &layer,
                env: &[],
                labels: &BTreeMap::new(),
            };
            let refused = complete(&base, delta, &BTreeMap::new()).unwrap_err();
            assert_eq!(refused.to_string(), said);
        }
    }

    #[test]
    fn the_id_of_a_partial_image_depends_on_all_of_it() {
        let layer = layer();
        let other = Layer {
            destination: "/elsewhere".to_owned(),
            ..layer.clone()
        };
        let name = |text: &str| text.parse::<ImageName>().unwrap();
        let env = [("A".to_owned(), "1".to_owned())];
        let labels = BTreeMap::from(env.clone());
        let none = BTreeMap::new();
        let (a, b, a_in_full) = (name("a"), name("b"), name("docker.io/library/a:latest"));
        let id = |base, layer, env, labels| partial_id(base, Delta { layer, env, labels });
        let ids = [
            id(&a, &layer, &env[..], &labels),
            id(&b, &layer, &env[..], &labels),
            id(&a, &other, &env[..], &labels),
            id(&a, &layer, &[], &labels),
            id(&a, &layer, &env[..], &none),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(ids[0], id(&a_in_full, &layer, &env[..], &labels));
    }
}
