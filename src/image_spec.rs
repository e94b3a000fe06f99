//! What an image is made of, as plain data: the parts that `image` stores, `registry` reads and `runtime`
//! turns into containers.

use serde::{Deserialize, Serialize};

use crate::names::{Architecture, Digest, ImageName};
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
    /// `USER` where it is a number, with or without group: a pod cannot use a name (k8s: `runAsUser`).
    pub fn numeric_user(&self) -> Option<i64> {
        let user = self.user.split(':').next()?;
        if !user.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        user.parse::<u32>().ok().map(i64::from)
    }
}

/// What a registry told of an image beside its configuration; nothing where no registry was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageFacts {
    /// Under which it finds the image: that of the index, where there is one, so that each node finds its own.
    pub digest: Option<Digest>,
    /// Where that was told: a copy elsewhere may have another one. `None` beside a digest in what was written before this was
    /// kept.
    pub place: Option<ImageName>,
    /// For which it is made.
    pub architecture: Option<Architecture>,
}

/// The image in which a chaincode was compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Builder {
    /// As the peer named it.
    pub name: ImageName,
    /// The digest of its manifest.
    pub digest: Digest,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_is_a_numeric_user() {
        for (user, expected) in [
            ("500", Some(500)),
            ("500:500", Some(500)),
            ("0:wheel", Some(0)),
            ("chaincode", None),
            ("chaincode:500", None),
            ("", None),
            (":500", None),
            ("-1", None),
            ("+1", None),
            ("4294967296", None),
        ] {
            let config = ImageConfig {
                user: user.to_owned(),
                ..ImageConfig::default()
            };
            assert_eq!(config.numeric_user(), expected, "{user:?}");
        }
    }
}
