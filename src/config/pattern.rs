//! Patterns over names: `*` stands for any characters, `?` for one.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::names::ImageName;

/// A pattern such as `asset_*`. It matches whole names, and knows upper and lower case.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Whether `name` is one of those that are meant.
    pub fn matches(&self, name: &str) -> bool {
        WildMatch::new(&self.0).matches(name)
    }

    /// Whether `image` is one of those that are meant, by its full name, `docker.io/hyperledger/fabric-ccenv:2.5`, or by the one that
    /// people use.
    pub fn matches_image(&self, image: &ImageName) -> bool {
        self.matches(&image.full()) || self.matches(&image.to_string())
    }

    /// A name that it matches.
    pub fn example(&self) -> String {
        self.0.replace('*', "").replace('?', "x")
    }

    /// Whether it says nothing, which matches nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_are_matched() {
        for (pattern, name, matches) in [
            ("asset_*", "asset_1", true),
            ("asset_*", "asset_", true),
            ("asset_*", "my_asset_1", false),
            ("asset", "asset_1", false),
            ("*", "", true),
            ("cc?", "cc1", true),
            ("cc?", "cc", false),
            ("Cc", "cc", false),
            ("registry/*", "registry/a/b:1", true),
            ("a.c", "abc", false),
        ] {
            let example = Pattern::from(pattern).example();
            assert!(Pattern::from(pattern).matches(&example), "{pattern}");
            assert_eq!(
                Pattern::from(pattern).matches(name),
                matches,
                "{pattern} {name}"
            );
        }
    }
}
