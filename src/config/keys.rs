//! The keys that can be set, read from the JSON schema: there is no second list to keep in step.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Config;

/// What a key holds, as far as reading it needs to know.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Further keys.
    Section(BTreeMap<String, Shape>),
    /// Any number of these.
    List(Box<Shape>),
    /// Free names, each with a text.
    Map,
    /// A mapping whose content is not ours to know.
    Free,
    /// Text, also where it looks like a number.
    Text,
    /// A number or a truth value.
    Scalar,
}

/// All keys.
pub(super) struct Keys {
    /// The whole file.
    pub(super) root: BTreeMap<String, Shape>,
}

/// A key that a variable or a flag may set: `section.key`.
pub(super) struct Leaf<'a> {
    pub(super) section: &'a str,
    pub(super) key: &'a str,
    pub(super) shape: &'a Shape,
}

impl Leaf<'_> {
    /// As it stands in messages.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The variable that sets it, in the spelling of the documentation.
    pub(super) fn variable(&self) -> String {
        variable(self.section, self.key)
    }
}

/// The variable of `section.key`: `listen.engineApi` is `PEITHO_LISTEN__ENGINE_API`.
pub(super) fn variable(section: &str, key: &str) -> String {
    format!("PEITHO_{}__{}", upper(section), upper(key))
}

fn upper(camel: &str) -> String {
    let mut words = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            words.push('_');
        }
        words.push(letter.to_ascii_uppercase());
    }
    words
}

/// `engineApi`, `ENGINE_API` and `engineapi` are one key; of a path, `log.level` and `LOG_LEVEL`.
pub(super) fn fold(key: &str) -> String {
    key.chars()
        .filter(|letter| !matches!(letter, '_' | '-' | '.'))
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

impl Keys {
    pub(super) fn of_config() -> Self {
        let schema = Config::schema();
        match shape(&schema, &schema["$defs"]) {
            Shape::Section(root) => Self { root },
            other => unreachable!("the schema of a struct is an object, not {other:?}"),
        }
    }

    /// Every key that is set as one value.
    pub(super) fn leaves(&self) -> impl Iterator<Item = Leaf<'_>> {
        self.root.iter().flat_map(|(section, shape)| {
            let keys = match shape {
                Shape::Section(keys) => Some(keys),
                _ => None,
            };
            let keys = keys.into_iter().flatten();
            keys.map(move |(key, shape)| Leaf {
                section,
                key,
                shape,
            })
        })
    }

    pub(super) fn leaf(&self, section: &str, key: &str) -> Option<Leaf<'_>> {
        let (section, key) = (fold(section), fold(key));
        self.leaves()
            .find(|leaf| fold(leaf.section) == section && fold(leaf.key) == key)
    }

    /// The leaf that `path` is most like, where there is any likeness.
    pub(super) fn nearest_leaf(&self, path: &str) -> Option<Leaf<'_>> {
        nearest(path, self.leaves(), Leaf::path)
    }

    /// The key that `path` is most like: one of `siblings`, which are below `parent`, or one of another section.
    pub(super) fn nearest(
        &self,
        parent: &str,
        key: &str,
        siblings: &BTreeMap<String, Shape>,
    ) -> Option<String> {
        let below = |name: &str| match parent {
            "" => name.to_owned(),
            parent => format!("{parent}.{name}"),
        };
        let sibling = nearest(key, siblings.keys(), |name| (*name).clone()).map(|name| below(name));
        // The right word in the wrong section, which also is an exact match of the last part.
        let elsewhere = || {
            let same = self.leaves().find(|leaf| fold(leaf.key) == fold(key));
            same.or_else(|| self.nearest_leaf(&below(key)))
                .map(|leaf| leaf.path())
        };
        sibling.or_else(elsewhere)
    }
}

/// The one of `all` whose name is most like `wanted`, where there is any likeness.
pub(super) fn nearest<T>(
    wanted: &str,
    all: impl Iterator<Item = T>,
    name: impl Fn(&T) -> String,
) -> Option<T> {
    let wanted = fold(wanted);
    all.map(|candidate| {
        let likeness = strsim::normalized_damerau_levenshtein(&wanted, &fold(&name(&candidate)));
        (likeness, candidate)
    })
    .filter(|(likeness, _)| *likeness >= 0.5)
    .max_by(|(a, _), (b, _)| a.total_cmp(b))
    .map(|(_, candidate)| candidate)
}

fn shape(schema: &Value, definitions: &Value) -> Shape {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return shape(&definitions[name], definitions);
    }
    // An optional one of those.
    if let Some(first) = schema["anyOf"].get(0) {
        return shape(first, definitions);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let keys = properties
            .iter()
            .map(|(key, value)| (key.clone(), shape(value, definitions)));
        return Shape::Section(keys.collect());
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        Value::String(kind) => vec![kind.as_str()],
        _ => vec!["string"],
    };
    match kinds.first().copied() {
        Some("array") => Shape::List(Box::new(shape(&schema["items"], definitions))),
        Some("object") if schema["additionalProperties"] == true => Shape::Free,
        Some("object") => Shape::Map,
        Some("string") => Shape::Text,
        _ => Shape::Scalar,
    }
}
