//! The keys that can be set, read from the JSON schema: there is no second list to keep in step.

use std::collections::{BTreeMap, VecDeque};

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

/// A key that a variable or a flag may set: `section.key`, or one of those within it.
pub(super) struct Leaf<'a> {
    /// From the section on; two or more.
    pub(super) names: Vec<&'a str>,
    pub(super) shape: &'a Shape,
}

impl Leaf<'_> {
    /// As it stands in messages.
    pub(super) fn path(&self) -> String {
        self.names.join(".")
    }

    /// The variable that sets it, in the spelling of the documentation.
    pub(super) fn variable(&self) -> String {
        variable(&self.names)
    }

    /// Whether it is what `names` spell in one way or another.
    fn is(&self, names: &[String]) -> bool {
        let own = self.names.iter().map(|name| fold(name));
        own.eq(names.iter().cloned())
    }
}

/// The variable of a key: that of `listen.engineApi` is `PEITHO_LISTEN__ENGINE_API`.
pub(super) fn variable(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| upper(name)).collect();
    format!("PEITHO_{}", names.join("__"))
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

    /// Every key that can be set as one value, those of sections first: a mapping can be, and what is in it.
    pub(super) fn leaves(&self) -> impl Iterator<Item = Leaf<'_>> {
        let sections = self.root.iter().map(|(section, shape)| Leaf {
            names: vec![section],
            shape,
        });
        let mut leaves: VecDeque<_> = sections.collect();
        std::iter::from_fn(move || {
            loop {
                let leaf = leaves.pop_front()?;
                if let Shape::Section(keys) = leaf.shape {
                    leaves.extend(keys.iter().map(|(key, shape)| Leaf {
                        names: leaf.names.iter().copied().chain([key.as_str()]).collect(),
                        shape,
                    }));
                }
                if leaf.names.len() > 1 {
                    return Some(leaf);
                }
            }
        })
    }

    /// The key at `path`, whose names have points between them.
    pub(super) fn leaf(&self, path: &str) -> Option<Leaf<'_>> {
        let names: Vec<String> = path.split('.').map(fold).collect();
        self.leaves().find(|leaf| leaf.is(&names))
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
            let is_last =
                |leaf: &Leaf<'_>| leaf.names.last().map(|name| fold(name)) == Some(fold(key));
            let same = self.leaves().find(is_last);
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
