//! The id of a container that was made ahead of need.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{InvalidName, digest};

/// A spare: a container that waits for a compile which nobody has ordered yet. 16 random bytes, written as 32 hexadecimal digits, so
/// that it fits a label whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpareId([u8; 16]);

impl SpareId {
    /// A new id that nobody had before.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl FromStr for SpareId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        digest::from_hex(text)
            .map(Self)
            .ok_or_else(|| InvalidName::new("id of a spare", text, "32 hexadecimal digits"))
    }
}

impl fmt::Display for SpareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digest::to_hex(&self.0))
    }
}

impl fmt::Debug for SpareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpareId({self})")
    }
}
