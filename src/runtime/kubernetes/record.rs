//! The record of a chaincode container (design D9): a Secret that holds the order, the uploaded files and
//! the access to the layer. Pure: Secrets are built and read here, `chaincode` sends them. Keys of peers
//! pass through `data` only; nothing here shows it.

use std::collections::BTreeMap;

use base64::Engine as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::names::ContainerKey;
use crate::names::kubernetes as names;
use crate::runtime::compile_agent::{CA, TOKEN};
use crate::runtime::{ChaincodeSpec, Error, Exit, UploadedFile};

/// The most that order and files may be in all: a Secret holds 1 MiB, and other fields come beside.
pub(super) const LIMIT: usize = 768 * 1024;

const SPEC: &str = "container.json";
const FILES: &str = "files.json";

/// A record as read.
#[derive(Debug)]
pub(super) struct Record {
    /// The Secret's name.
    pub(super) name: String,
    /// Its UID: one life of the container name.
    pub(super) uid: String,
    /// Name, UID, resourceVersion, labels and annotations of the Secret.
    pub(super) metadata: ObjectMeta,
    /// The order.
    pub(super) spec: ChaincodeSpec,
    /// The files, sorted by path.
    pub(super) files: Vec<FileEntry>,
    /// How its last launch ended, where its pod is gone.
    pub(super) outcome: Option<Outcome>,
    /// Bytes of each value in `data`.
    sizes: BTreeMap<String, usize>,
}

/// An uploaded file, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileEntry {
    /// Absolute path in the container.
    pub(super) path: String,
    /// Permission bits as uploaded.
    pub(super) mode: u32,
    /// Under which key of the Secret its content is.
    pub(super) key: String,
}

/// How a launch ended whose pod is gone: an annotation of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    /// The process ended with this code.
    Exited(i64),
    /// It never ran: the reason.
    NeverStarted(String),
}

impl From<Exit> for Outcome {
    fn from(exit: Exit) -> Self {
        Self::Exited(exit.code)
    }
}

/// The Secret for a new container.
///
/// # Errors
/// [`Error::Refused`] when the order alone is too large.
pub(super) fn secret(
    spec: &ChaincodeSpec,
    settings: &Settings,
    token: &SecretString,
) -> Result<Secret, Error> {
    let order = to_json(spec);
    if order.len() > LIMIT {
        return Err(Error::Refused(format!(
            "command and environment of {} have {} bytes: the limit is {LIMIT} bytes",
            spec.key,
            order.len()
        )));
    }
    let mut annotations = BTreeMap::from([
        (names::CONTAINER_NAME.to_owned(), spec.key.name.to_string()),
        (names::IMAGE.to_owned(), spec.image.to_string()),
    ]);
    if let Some(package) = &spec.package_id {
        annotations.insert(names::PACKAGE_ID.to_owned(), package.clone());
    }
    let data = [
        (SPEC, order),
        (FILES, to_json(&Vec::<FileEntry>::new())),
        (TOKEN, token.expose_secret().as_bytes().to_vec()),
        (CA, settings.delivery_ca_pem.clone().into_bytes()),
    ];
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(names::record(&settings.instance, &spec.key)),
            labels: Some(names::chaincode_labels(
                &settings.instance,
                &spec.key,
                &spec.id,
            )),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        data: Some(
            data.map(|(key, value)| (key.to_owned(), ByteString(value)))
                .into(),
        ),
        ..Secret::default()
    })
}

impl Record {
    /// Reads a record, and wipes the contents of its files.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is not what Peitho writes.
    pub(super) fn read(secret: Secret) -> Result<Self, Error> {
        let metadata = secret.metadata;
        let name = metadata.name.clone().unwrap_or_default();
        let mut data = secret.data.unwrap_or_default();
        let unreadable = |key: &str, why: &str| {
            Error::Refused(format!(
                "secret {name} is no readable record of a container: {key}: {why}; delete it and let \
                 the peer launch again"
            ))
        };
        let spec = from_json(&data, SPEC).map_err(|why| unreadable(SPEC, &why));
        let files = from_json(&data, FILES).map_err(|why| unreadable(FILES, &why));
        let sizes = data
            .iter()
            .map(|(key, value)| (key.clone(), value.0.len()))
            .collect();
        data.values_mut().for_each(|value| value.0.zeroize());
        let outcome = metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(names::OUTCOME))
            .and_then(|text| serde_json::from_str(text).ok());
        let uid = metadata.uid.clone().unwrap_or_default();
        Ok(Self {
            spec: spec?,
            files: files?,
            name,
            uid,
            metadata,
            outcome,
            sizes,
        })
    }

    /// The merge patch that adds `uploaded`, or replaces what has the same path. It holds for the version
    /// that was read only.
    ///
    /// # Errors
    /// [`Error::FilesTooLarge`].
    pub(super) fn patch(&self, uploaded: &[UploadedFile]) -> Result<serde_json::Value, Error> {
        let mut files: BTreeMap<&str, FileEntry> = self
            .files
            .iter()
            .map(|file| (file.path.as_str(), file.clone()))
            .collect();
        let mut sizes = self.sizes.clone();
        let mut data = serde_json::Map::new();
        for file in uploaded {
            let key = names::file_key(&file.path);
            let content = file.content.expose_secret();
            sizes.insert(key.clone(), content.len());
            data.insert(key.clone(), base64(content).into());
            let entry = FileEntry {
                path: file.path.clone(),
                mode: file.mode,
                key,
            };
            files.insert(&file.path, entry);
        }
        let list = to_json(&files.into_values().collect::<Vec<_>>());
        sizes.insert(FILES.to_owned(), list.len());
        data.insert(FILES.to_owned(), base64(&list).into());
        let bytes = sizes.values().sum();
        if bytes > LIMIT {
            return Err(Error::FilesTooLarge {
                key: self.spec.key.clone(),
                bytes,
                limit: LIMIT,
            });
        }
        Ok(serde_json::json!({
            "metadata": {"resourceVersion": self.metadata.resource_version},
            "data": data,
        }))
    }

    /// The merge patch that takes the outcome away. It holds for the version that was read only: what was noted
    /// since is of the new launch.
    pub(super) fn no_outcome_patch(&self) -> serde_json::Value {
        serde_json::json!({"metadata": {
            "uid": self.uid,
            "resourceVersion": self.metadata.resource_version,
            "annotations": {names::OUTCOME: null},
        }})
    }

    /// The container.
    pub(super) fn key(&self) -> &ContainerKey {
        &self.spec.key
    }
}

/// The merge patch that notes how the launch of the record with `uid` ended.
pub(super) fn outcome_patch(uid: &str, outcome: &Outcome) -> serde_json::Value {
    let text = String::from_utf8(to_json(outcome)).expect("JSON is UTF-8");
    serde_json::json!({"metadata": {"uid": uid, "annotations": {names::OUTCOME: text}}})
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with string keys always serializes")
}

fn from_json<T: serde::de::DeserializeOwned>(
    data: &BTreeMap<String, ByteString>,
    key: &str,
) -> Result<T, String> {
    let value = data.get(key).ok_or_else(|| "missing".to_owned())?;
    serde_json::from_slice(&value.0).map_err(|error| error.to_string())
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretBox;

    use super::super::tests::{record as sample, settings};
    use super::*;

    fn file(path: &str, content: &[u8]) -> UploadedFile {
        UploadedFile {
            path: path.to_owned(),
            mode: 0o600,
            content: SecretBox::new(Box::new(content.to_vec())),
        }
    }

    fn stored() -> Secret {
        let mut secret = secret(&sample().spec, &settings(), &"the-token".into()).unwrap();
        secret.metadata.uid = Some("u-1".to_owned());
        secret.metadata.resource_version = Some("7".to_owned());
        secret
    }

    /// What the API server makes of a merge patch of `data`.
    fn patched(mut secret: Secret, patch: &serde_json::Value) -> Secret {
        let data = secret.data.as_mut().unwrap();
        for (key, value) in patch["data"].as_object().unwrap() {
            let value = base64::engine::general_purpose::STANDARD
                .decode(value.as_str().unwrap())
                .unwrap();
            data.insert(key.clone(), ByteString(value));
        }
        secret
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record = Record::read(stored()).unwrap();
        assert_eq!(record.spec, sample().spec);
        assert_eq!(record.uid, "u-1");
        assert!(record.files.is_empty() && record.outcome.is_none());
        insta::assert_yaml_snapshot!(stored().metadata);
    }

    #[test]
    fn an_outcome_is_cleared_for_the_version_that_was_read_only() {
        let patch = Record::read(stored()).unwrap().no_outcome_patch();
        assert_eq!(
            patch,
            serde_json::json!({"metadata": {
                "uid": "u-1",
                "resourceVersion": "7",
                "annotations": {names::OUTCOME: null},
            }})
        );
    }

    #[test]
    fn records_of_older_versions_are_read() {
        let mut secret = stored();
        let data = secret.data.as_mut().unwrap();
        let mut order: serde_json::Value = serde_json::from_slice(&data[SPEC].0).unwrap();
        order.as_object_mut().unwrap().remove("language").unwrap();
        let host = order["host"].as_object_mut().unwrap();
        host.remove("addedCapabilities").unwrap();
        data.insert(SPEC.to_owned(), ByteString(to_json(&order)));
        assert_eq!(Record::read(secret).unwrap().spec, sample().spec);
    }

    #[test]
    fn files_add_up_and_a_second_upload_of_a_path_replaces_it() {
        let key = "/etc/hyperledger/fabric/client.key";
        let first = Record::read(stored()).unwrap();
        let patch = first.patch(&[file(key, b"a"), file("/b", b"b")]).unwrap();
        let stored = patched(stored(), &patch);
        let second = Record::read(stored.clone()).unwrap();
        let patch = second.patch(&[file(key, b"other")]).unwrap();
        let stored = patched(stored, &patch);
        let contents = stored.data.clone().unwrap();
        let record = Record::read(stored).unwrap();
        let paths: Vec<_> = record.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["/b", key]);
        assert_eq!(contents[&record.files[1].key].0, b"other");
        assert!(contents.keys().all(|key| !key.contains('/')));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn too_much_is_refused_with_both_figures() {
        let record = Record::read(stored()).unwrap();
        let error = record.patch(&[file("/a", &vec![0; LIMIT])]).unwrap_err();
        let Error::FilesTooLarge { bytes, limit, .. } = error else {
            panic!("{error}");
        };
        assert!(bytes > limit && limit == LIMIT);
    }

    #[test]
    fn neither_token_nor_key_shows_in_debug_or_errors() {
        let secret = patched(
            stored(),
            &Record::read(stored())
                .unwrap()
                .patch(&[file("/k", b"PRIVATE")])
                .unwrap(),
        );
        let mut broken = secret.clone();
        broken
            .data
            .as_mut()
            .unwrap()
            .insert(SPEC.to_owned(), ByteString(b"{".to_vec()));
        let debug = format!("{:?}", Record::read(secret).unwrap());
        let error = Record::read(broken).unwrap_err().to_string();
        for text in [debug, error] {
            assert!(
                !text.contains("PRIVATE") && !text.contains("the-token"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_outcome_is_read_from_the_annotation() {
        for outcome in [
            Outcome::Exited(137),
            Outcome::NeverStarted("why".to_owned()),
        ] {
            let patch = outcome_patch("u-1", &outcome);
            let text = patch["metadata"]["annotations"][names::OUTCOME]
                .as_str()
                .unwrap();
            let mut secret = stored();
            secret
                .metadata
                .annotations
                .as_mut()
                .unwrap()
                .insert(names::OUTCOME.to_owned(), text.to_owned());
            assert_eq!(Record::read(secret).unwrap().outcome, Some(outcome));
        }
    }
}
