//! Names of containers on one machine: of their directories, cgroups and entries of the OCI runtime. The only place that
//! makes one; the form is that of Kubernetes' names, so that operators find their chaincode by the same words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::kubernetes;
use super::{CompileKey, ContainerKey, InstanceName, InvalidName};

/// The name of a container on this machine: 1 to 63 characters out of `[a-z0-9-]`, the first none of `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The container of a chaincode: equal for equal keys.
    pub fn chaincode(instance: &InstanceName, key: &ContainerKey) -> Self {
        Self(kubernetes::record(instance, key))
    }

    /// The container of a compile: equal for equal keys.
    pub fn compile(instance: &InstanceName, key: &CompileKey) -> Self {
        Self(kubernetes::compile(instance, key))
    }

    /// The name as it stands in paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=63).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName::new(
            "name of a container on this machine",
            text,
            "1 to 63 characters out of a-z, 0-9 and -, the first none of -",
        ))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_harmless_path_component() {
        for good in ["a", "0-9", &"f".repeat(63)] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "A", "-a", "a_b", "é", &"f".repeat(64)] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
