//! What an image is made of, as plain data: the parts that `image` stores, `registry` reads and `runtime`
//! turns into containers.

use serde::{Deserialize, Serialize};

use crate::names::Digest;
use crate::store::Blob;

/// The part of an OCI image configuration that decides how a container starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageConfig {
    /// `USER`: name or number, with or without group; empty is root.
    pub user: String,
    /// `ENV`.
    pub env: Vec<(String, String)>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `WORKDIR`; empty is `/`.
    pub working_dir: String,
}

impl ImageConfig {
    /// `USER` where it is a number: a pod cannot use a name (k8s: `runAsUser`).
    pub fn numeric_user(&self) -> Option<i64> {
        self.user.split(':').next()?.parse().ok()
    }
}

/// The one layer that a build adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// The gzip-compressed layer as stored: its members start at the image's root.
    pub blob: Blob,
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    /// Destination of `ADD`, absolute, without `/` at its end.
    pub destination: String,
    /// What lies directly in the destination, sorted by name.
    pub entries: Vec<TopEntry>,
}

/// A file, directory or link directly in the layer's destination: decides how it is mounted (design D5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopEntry {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TopKind,
}

/// The kinds of [`TopEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TopKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}
