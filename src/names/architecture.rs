//! The architecture of a machine or an image, in the words of Go, which images and nodes of Kubernetes use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// `amd64`, `arm64`, …: one to thirty-two characters out of `[a-z0-9]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Architecture(String);

impl Architecture {
    /// That of this machine.
    pub fn of_this_machine() -> Self {
        Self(Self::word_for_this_machine().to_owned())
    }

    /// The same as it is written.
    pub fn word_for_this_machine() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        }
    }

    /// What is accepted instead of a word that Linux, or people, have for it.
    fn rule_of(text: &str) -> Option<&'static str> {
        match text {
            "x86_64" | "x64" => Some("amd64, as nodes of Kubernetes are labelled"),
            "aarch64" => Some("arm64, as nodes of Kubernetes are labelled"),
            "x86" | "i386" | "i686" => Some("386, as nodes of Kubernetes are labelled"),
            "powerpc64le" => Some("ppc64le, as nodes of Kubernetes are labelled"),
            "loongarch64" => Some("loong64, as nodes of Kubernetes are labelled"),
            _ => None,
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Architecture {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if let Some(rule) = Self::rule_of(text) {
            return Err(InvalidName::new("architecture", text, rule));
        }
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        match (1..=32).contains(&text.len()) && text.chars().all(is_word) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidName::new("architecture", text, "for example amd64")),
        }
    }
}

impl TryFrom<String> for Architecture {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.0
    }
}
