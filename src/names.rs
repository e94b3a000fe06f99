//! The names of the field as types: tenants, containers, images, digests, compile keys. Everything that
//! arrives as text is parsed here once, at the edge, and travels as one of these types afterwards. Every
//! layer uses this module; it uses none of them. [`kubernetes`] is the only place that makes the name of
//! a Kubernetes object, [`docker`] that of a container in a Docker Engine.

mod architecture;
mod digest;
pub mod docker;
mod host;
mod image;
pub mod kubernetes;
pub mod labels;
mod language;
mod spare;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use architecture::Architecture;
pub use digest::{Digest, Hasher};
pub use host::HostName;
pub use image::ImageName;
pub use language::{LANGUAGE_LABEL, Language};
pub use spare::SpareId;

/// A name that does not have the form its kind demands.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("invalid {kind} {value:?}: {rule}")]
pub struct InvalidName {
    /// What the text was meant to be, for example `container name`.
    pub kind: &'static str,
    /// The text as it arrived, cut to 200 characters.
    pub value: String,
    /// The form that was expected.
    pub rule: &'static str,
}

impl InvalidName {
    pub(crate) fn new(kind: &'static str, value: &str, rule: &'static str) -> Self {
        Self {
            kind,
            value: value.chars().take(200).collect(),
            rule,
        }
    }
}

/// Whose container or image it is: the scope of every name (design D14). One to forty characters out of
/// `[a-z0-9-]`. A network without tenants has one, `default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The tenant of a server that has no others.
    pub fn default_tenant() -> Self {
        Self(Arc::from("default"))
    }

    /// The tenant as it is spelled in paths and labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tenant {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fits = (1..=40).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(Self(Arc::from(text)))
        } else {
            Err(InvalidName::new(
                "tenant",
                text,
                "1 to 40 characters out of a-z, 0-9 and -",
            ))
        }
    }
}

/// The name a peer gives to a chaincode container, for example
/// `dev-peer0.org1.example.com-basic_1-243b8e…`: `[A-Za-z0-9][A-Za-z0-9_.-]*`, up to 512 characters
/// (protocol §5.2: peers set no limit, 150 to 220 are normal).
///
/// The peer's own sanitising is lossy: two chaincodes may share a container name. Only
/// `CORE_CHAINCODE_ID_NAME` tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    /// The name as the peer spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let mut bytes = text.bytes();
        let fits = text.len() <= 512
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new(
                "container name",
                text,
                "1 to 512 characters out of A-Z, a-z, 0-9, _, . and -, the first a letter or digit",
            ))
        }
    }
}

/// A container's id: 32 random bytes, written as 64 hexadecimal digits, as Docker does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId([u8; 32]);

impl ContainerId {
    /// A new id that nobody had before.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl FromStr for ContainerId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        digest::from_hex(text)
            .map(Self)
            .ok_or_else(|| InvalidName::new("container id", text, "64 hexadecimal digits"))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digest::to_hex(&self.0))
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContainerId({self})")
    }
}

/// What a request path says between `/containers/` and the next `/`: an id or a name.
///
/// Text of the form of an id is taken for an id: peers use the name of a chaincode container and the id
/// of a builder (protocol §3.5), and no peer makes a name of 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContainerRef {
    /// 64 hexadecimal digits.
    Id(ContainerId),
    /// Anything else that is a container name.
    Name(ContainerName),
}

impl FromStr for ContainerRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl ContainerRef {
    /// The text, where it may be the beginning of an id as well as a name: hexadecimal digits, fewer than an id has.
    pub fn as_prefix(&self) -> Option<&str> {
        match self {
            Self::Name(ContainerName(name)) => (name.len() < 64
                && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
            .then_some(name.as_str()),
            Self::Id(_) => None,
        }
    }
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A chaincode container of one tenant: what its record, its pod and every request after `create` name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerKey {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its name within the tenant.
    pub name: ContainerName,
}

impl fmt::Display for ContainerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

/// What identifies one compile (design D7): the digest over tenant, builder, command, environment and
/// input. Equal keys mean equal results, so peers that ask for one key share one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CompileKey(Digest);

impl CompileKey {
    /// The key whose digest is `digest`.
    pub fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// The digest behind the key.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl FromStr for CompileKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        digest::from_hex(text)
            .map(|bytes| Self(Digest::from_bytes(bytes)))
            .ok_or_else(|| InvalidName::new("compile key", text, "64 hexadecimal digits"))
    }
}

impl fmt::Display for CompileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

/// Which Peitho an object belongs to, where several share a namespace: the label
/// `app.kubernetes.io/instance`. A DNS label of up to 40 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(Arc<str>);

impl InstanceName {
    /// The name as it stands in labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InstanceName {
    fn default() -> Self {
        Self(Arc::from("peitho"))
    }
}

impl FromStr for InstanceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fits = (1..=40).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(Self(Arc::from(text)))
        } else {
            Err(InvalidName::new(
                "instance name",
                text,
                "1 to 40 characters out of a-z, 0-9 and -, no - at either end",
            ))
        }
    }
}

macro_rules! shown_by_their_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
shown_by_their_text!(Tenant, ContainerName, InstanceName);

/// In documents these stand as the text that they show, and are parsed when they are read.
macro_rules! stored_as_shown {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )*};
}
stored_as_shown!(
    Tenant,
    ContainerName,
    InstanceName,
    ContainerId,
    Digest,
    HostName,
    SpareId
);
