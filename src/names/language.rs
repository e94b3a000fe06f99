//! The languages of chaincode, as the image label of a peer's build tells them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The label that a peer's Dockerfile gives to the image of a chaincode (protocol §6.1).
pub const LANGUAGE_LABEL: &str = "org.hyperledger.fabric.chaincode.type";

/// The language of a chaincode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Language {
    /// Go.
    Golang,
    /// JavaScript and TypeScript.
    Node,
    /// Java and its relatives.
    Java,
}

impl Language {
    /// As it stands in configuration and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Golang => "golang",
            Self::Node => "node",
            Self::Java => "java",
        }
    }

    /// The language in the words of a peer's label; `None` for words that no peer has.
    pub fn of_label(value: &str) -> Option<Self> {
        match value.to_ascii_uppercase().as_str() {
            // CAR is what 1.4 calls a Go chaincode in a package of its own form.
            "GOLANG" | "CAR" => Some(Self::Golang),
            "NODE" => Some(Self::Node),
            "JAVA" => Some(Self::Java),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_peers_are_known() {
        for (word, language) in [
            ("GOLANG", Some(Language::Golang)),
            ("CAR", Some(Language::Golang)),
            ("NODE", Some(Language::Node)),
            ("java", Some(Language::Java)),
            ("RUST", None),
            ("", None),
        ] {
            assert_eq!(Language::of_label(word), language, "{word}");
        }
    }
}
