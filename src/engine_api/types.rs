//! The wire's JSON in Docker's spelling, and the extractors that parse paths and queries into types. Answers are
//! `axum::Json`, whose Content-Type is exactly `application/json` (protocol rule 3).

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path, Query};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::error::ApiError;
use crate::image::Inspected;
use crate::names::{ContainerId, ContainerRef};
use crate::runtime::Exit;

pub(super) mod create;
mod host_config;
pub(super) mod shown;

/// This machine's architecture as Go and Docker spell it.
pub(super) const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};

/// The container that a path names.
pub(super) struct Container(pub(super) ContainerRef);

impl<S: Send + Sync> FromRequestParts<S> for Container {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        text.parse().map(Self).map_err(|_| {
            // What cannot be the name of a container is the name of none.
            let text: String = text.chars().take(200).collect();
            ApiError::new(
                StatusCode::NOT_FOUND,
                "container_not_found",
                format!("No such container: {text}"),
            )
        })
    }
}

/// Who asks. The `docker` command says so; peers' libraries have other names (protocol §4.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A peer, or a program.
    Peer,
    /// A person at the `docker` command.
    Person,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let agent = parts.headers.get(http::header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        Ok(match agent {
            Some(agent) if agent.starts_with("Docker-Client/") => Self::Person,
            _ => Self::Peer,
        })
    }
}

/// The query of a request. Parameters that are not in `T` are ignored, as Docker does.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}

/// A switch in a query as Docker reads it: anything but empty, `0`, `no`, `false`, `none` is on.
pub(super) fn switch<'de, D: Deserializer<'de>>(query: D) -> Result<bool, D::Error> {
    let text = String::deserialize(query)?.to_ascii_lowercase();
    Ok(!matches!(text.trim(), "" | "0" | "no" | "false" | "none"))
}

/// The answer to create.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) id: ContainerId,
    pub(super) warnings: [&'static str; 0],
}

/// The answer to wait.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Waited {
    pub(super) status_code: i64,
    pub(super) error: Option<WaitError>,
}

/// Why there is no true exit code.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WaitError {
    pub(super) message: String,
}

impl From<Exit> for Waited {
    fn from(exit: Exit) -> Self {
        Self {
            status_code: exit.code,
            error: None,
        }
    }
}

/// The answer to inspect. Without `Created`, which Peitho does not know: a client that parses it takes a
/// missing one, but no empty one (protocol §4.1).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageInspect {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    os: &'static str,
    architecture: &'static str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<ImageInspectConfig>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageInspectConfig {
    /// Where that is not known, nothing is said of it.
    #[serde(flatten)]
    start: Option<ImageInspectStart>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageInspectStart {
    user: String,
    env: Vec<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: String,
}

impl From<Inspected> for ImageInspect {
    fn from(image: Inspected) -> Self {
        let name = image.name.to_string();
        let (repo_tags, repo_digests) = match image.name.digest() {
            None => (vec![name], vec![]),
            Some(_) => (vec![], vec![name]),
        };
        let listed = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
        let start = image.config.map(|config| ImageInspectStart {
            user: config.user,
            env: config
                .env
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            entrypoint: listed(config.entrypoint),
            cmd: listed(config.cmd),
            working_dir: config.working_dir,
        });
        Self {
            id: image.id.to_string(),
            repo_tags,
            repo_digests,
            os: "linux",
            architecture: ARCHITECTURE,
            size: image.size,
            config: (start.is_some() || !image.labels.is_empty()).then_some(ImageInspectConfig {
                start,
                labels: image.labels,
            }),
        }
    }
}

/// One line of the stream that answers build and pull.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Progress {
    /// Output of a build.
    Stream { stream: String },
    /// A step of a pull.
    Status {
        status: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// The id of what was built.
    Aux { aux: Aux },
}

/// The part of [`Progress`] that is not for people.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) struct Aux {
    pub(super) id: String,
}

/// The directory that archive GET packs, in Go's words: moby fails without it (protocol rule 16).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PathStat {
    name: &'static str,
    size: u64,
    mode: u32,
    mtime: String,
    link_target: &'static str,
}

/// The value of `X-Docker-Container-Path-Stat` for a directory that was read `now`.
pub(super) fn path_stat(now: jiff::Timestamp) -> HeaderValue {
    let stat = PathStat {
        name: ".",
        size: 4096,
        // Go's `os.ModeDir | 0777`.
        mode: 0x8000_01ff,
        mtime: now.to_string(),
        link_target: "",
    };
    let json = serde_json::to_vec(&stat).expect("numbers and strings are JSON");
    BASE64_STANDARD
        .encode(json)
        .try_into()
        .expect("base64 is fit for a header")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Hasher;

    #[test]
    fn the_stat_is_that_of_dockerd() {
        let header = path_stat("2026-08-01T10:00:00Z".parse().unwrap());
        let json = BASE64_STANDARD.decode(header.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"name":".","size":4096,"mode":2147484159,"mtime":"2026-08-01T10:00:00Z","linkTarget":""}"#
        );
    }

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn replies_are_in_dockers_spelling() {
        assert_eq!(
            json(&Waited::from(Exit { code: 7 })),
            r#"{"StatusCode":7,"Error":null}"#
        );
        let created = Created {
            id: "ab".repeat(32).parse().unwrap(),
            warnings: [],
        };
        assert_eq!(
            json(&created),
            format!(r#"{{"Id":"{}","Warnings":[]}}"#, "ab".repeat(32))
        );
        let inspected = Inspected {
            id: Hasher::default().finish(),
            name: "hyperledger/fabric-ccenv:2.5".parse().unwrap(),
            config: None,
            facts: Default::default(),
            manifest: None,
            size: 0,
            labels: [("dev.peitho.tenant".to_owned(), "org1".to_owned())].into(),
        };
        let inspected = json(&ImageInspect::from(inspected));
        assert!(
            inspected.starts_with(r#"{"Id":"sha256:e3b0c442"#),
            "{inspected}"
        );
        assert!(inspected.contains(r#""RepoTags":["hyperledger/fabric-ccenv:2.5"]"#));
        assert!(!inspected.contains("Created"));
        let labels = r#""Config":{"Labels":{"dev.peitho.tenant":"org1"}}"#;
        assert!(inspected.contains(labels), "{inspected}");
        let aux = Progress::Aux {
            aux: Aux { id: "x".into() },
        };
        assert_eq!(json(&aux), r#"{"aux":{"ID":"x"}}"#);
    }
}
