//! Lays the sources over one another and turns the result into a [`Config`]: once, so that a value has one
//! way of being wrong wherever it comes from.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use serde_saphyr::{Location, Spanned};

use super::document::{self, Content, Node};
use super::environment::{self, Meaning, Setting};
use super::keys::{Keys, Leaf, Shape};
use super::legacy::{self, Remark};
use super::{Config, Error, Notice, Origin, Problem, Problems};

/// Where each value that is set comes from.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    file: Option<PathBuf>,
    notices: Vec<Notice>,
    by_path: BTreeMap<String, Origin>,
}

impl Origins {
    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What the user should know of the file, by line.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// `section.key` and where it was set, for each one that is.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &Origin)> {
        let leaf = |path: &str| !path.contains('[') && path.matches('.').count() == 1;
        self.by_path
            .iter()
            .map(|(path, origin)| (path.as_str(), origin))
            .filter(move |(path, _)| leaf(path))
    }

    /// Where `path`, or the nearest thing around it, was set.
    fn of(&self, path: &str) -> Option<&Origin> {
        let mut path = path;
        loop {
            if let Some(origin) = self.by_path.get(path) {
                return Some(origin);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// `problems`, each with where its key was set; `None` when there are none.
    pub fn error(&self, problems: &Problems) -> Option<Error> {
        let problem = |(path, message): (&str, &str)| Problem {
            origin: self.of(path).cloned(),
            message: message.to_owned(),
        };
        (!problems.is_empty()).then(|| Error::Invalid(problems.iter().map(problem).collect()))
    }

    /// As [`Origins::set`], and so are the keys around it that nothing else set.
    fn set_within(&mut self, path: &str, origin: &Origin) {
        for (at, _) in path.match_indices('.').skip(1) {
            let around = path[..at].to_owned();
            self.by_path.entry(around).or_insert_with(|| origin.clone());
        }
        self.set(path.to_owned(), origin.clone());
    }

    /// `path` is set anew: what was known of its parts is over.
    fn set(&mut self, path: String, origin: Origin) {
        let inner = |other: &String| {
            other
                .strip_prefix(&path)
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        self.by_path.retain(|other, _| !inner(other));
        self.by_path.insert(path, origin);
    }
}

/// A configuration that is being put together.
pub(super) struct Draft<'a> {
    keys: &'a Keys,
    value: Map<String, Value>,
    origins: Origins,
    problems: Vec<Problem>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(keys: &'a Keys) -> Self {
        Self {
            keys,
            value: Map::new(),
            origins: Origins::default(),
            problems: Vec::new(),
        }
    }

    /// Lays a file over what is there.
    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let document = document::parse(path, text)?;
        self.origins.file = Some(path.to_owned());
        let at = |place: Location| Origin::File {
            path: path.to_owned(),
            line: place.line(),
            column: place.column(),
        };
        if matches!(document.content, Content::Null) {
            self.origins.notices.push(Notice {
                origin: Origin::File {
                    path: path.to_owned(),
                    line: 1,
                    column: 1,
                },
                message: "the file sets nothing".to_owned(),
            });
        }
        let translation = legacy::translate(document);
        let notice = |Remark { place, message }| Notice {
            origin: at(place),
            message,
        };
        self.origins
            .notices
            .extend(translation.notices.into_iter().map(notice));
        for Remark { place, message } in translation.problems {
            self.problem(Some(at(place)), message);
        }
        let at = |node: &Node| at(node.place);
        if let Some(Value::Object(value)) =
            self.section("", &translation.document, &self.keys.root, &at)
        {
            self.value = value;
        }
        Ok(())
    }

    /// Lays the variables that are ours over what is there.
    pub(super) fn add_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) {
        let keys = self.keys;
        let mut set: BTreeMap<String, (Leaf<'_>, String, String)> = BTreeMap::new();
        for (name, value) in variables {
            match environment::meaning(keys, &name) {
                Meaning::Foreign => {}
                Meaning::Unknown(message) => self.problem(None, message),
                Meaning::Sets(leaf) => match set.entry(leaf.path()) {
                    Entry::Occupied(other) => {
                        let (leaf, other, _) = other.get();
                        let message = format!("{} is set by {other} too", leaf.path());
                        self.problem(Some(Origin::Environment(name)), message);
                    }
                    Entry::Vacant(free) => {
                        free.insert((leaf, name, value));
                    }
                },
            }
        }
        // In the order of their paths, a mapping comes before what is in it, and does not replace that.
        for (leaf, name, value) in set.into_values() {
            self.assign(&leaf, &value, &Origin::Environment(name));
        }
    }

    /// Lays flags over what is there, the later ones over the earlier.
    pub(super) fn add_settings(&mut self, settings: &[Setting]) {
        let keys = self.keys;
        for Setting { path, value } in settings {
            let origin = Origin::Flag(format!("--set {path}"));
            match keys.leaf(path) {
                Some(leaf) => self.assign(&leaf, value, &origin),
                None => {
                    let nearest = keys.nearest_leaf(path).map(|leaf| leaf.path());
                    self.problem(Some(origin), unknown(path, nearest));
                }
            }
        }
    }

    /// The whole as a [`Config`], or all that is wrong with it.
    pub(super) fn finish(self) -> Result<(Config, Origins), Error> {
        if !self.problems.is_empty() {
            return Err(Error::Invalid(self.problems));
        }
        let config: Config = match serde_path_to_error::deserialize(Value::Object(self.value)) {
            Ok(config) => config,
            Err(error) => {
                let path = error.path().to_string();
                return Err(Error::Invalid(vec![Problem {
                    origin: self.origins.of(&path).cloned(),
                    message: format!("{path}: {}", error.inner()),
                }]));
            }
        };
        match self.origins.error(&config.check()) {
            None => Ok((config, self.origins)),
            Some(error) => Err(error),
        }
    }

    /// Sets one key from a text. Lists and maps are written as YAML; text stands for itself.
    fn assign(&mut self, leaf: &Leaf<'_>, text: &str, origin: &Origin) {
        let path = leaf.path();
        let node = match leaf.shape {
            Shape::Text => Node {
                place: Location::UNKNOWN,
                content: Content::Text(text.to_owned()),
            },
            _ => match document::parse_value(text) {
                Ok(node) => node,
                Err((_, column, message)) => {
                    let message = format!("{path}: {message} (at character {column})");
                    return self.problem(Some(origin.clone()), message);
                }
            },
        };
        self.origins.set_within(&path, origin);
        if let Some(value) = self.convert(&path, &node, leaf.shape, &|_| origin.clone()) {
            insert(&mut self.value, &leaf.names, value);
        }
    }

    /// `node` as the JSON value that `shape` reads; `None` when it says nothing.
    fn convert(
        &mut self,
        path: &str,
        node: &Node,
        shape: &Shape,
        at: &dyn Fn(&Node) -> Origin,
    ) -> Option<Value> {
        match (shape, &node.content) {
            // A key with nothing behind it, often because all below it is commented out.
            (_, Content::Null) => None,
            (Shape::Section(keys), _) => self.section(path, node, keys, at),
            (Shape::List(item), Content::List(nodes)) => {
                let convert = |(index, node): (usize, &Node)| {
                    let path = format!("{path}[{index}]");
                    self.origins.set(path.clone(), at(node));
                    self.convert(&path, node, item, at)
                };
                Some(Value::Array(
                    nodes.iter().enumerate().filter_map(convert).collect(),
                ))
            }
            (Shape::Map, Content::Map(entries)) => {
                let mut map = Map::new();
                for (key, node) in entries {
                    let path = format!("{path}.{}", key.value);
                    self.origins.set(path.clone(), at(node));
                    let value = self.convert(&path, node, &Shape::Text, at);
                    map.insert(key.value.clone(), value.unwrap_or_else(|| Value::from("")));
                }
                Some(Value::Object(map))
            }
            (Shape::Free, Content::Map(_)) => Some(self.free(path, node, at)),
            // `cpu: 4` is how everybody writes it. Other scalars do not keep their spelling: 1.10 would become 1.1.
            (Shape::Text, Content::Number(number)) if number.is_i64() || number.is_u64() => {
                Some(Value::from(number.to_string()))
            }
            (Shape::Text, Content::Number(_) | Content::Bool(_)) => {
                self.problem(
                    Some(at(node)),
                    format!("{path} is text: write the value in quotes"),
                );
                None
            }
            (Shape::Text | Shape::Scalar, Content::Text(text)) => Some(Value::from(text.clone())),
            (Shape::Scalar, Content::Number(number)) => Some(Value::Number(number.clone())),
            (Shape::Scalar, Content::Bool(truth)) => Some(Value::Bool(*truth)),
            (shape, content) => {
                let message = format!("{path} is {}; accepted: {}", kind(content), accepted(shape));
                self.problem(Some(at(node)), message);
                None
            }
        }
    }

    /// `node` as it stands, with its nulls: they may mean something.
    fn free(&mut self, path: &str, node: &Node, at: &dyn Fn(&Node) -> Origin) -> Value {
        match &node.content {
            Content::Null => Value::Null,
            Content::Bool(truth) => Value::Bool(*truth),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::from(text.clone()),
            Content::List(nodes) => {
                let item = |(index, node): (usize, &Node)| {
                    let path = format!("{path}[{index}]");
                    self.origins.set(path.clone(), at(node));
                    self.free(&path, node, at)
                };
                nodes.iter().enumerate().map(item).collect()
            }
            Content::Map(entries) => {
                let entry = |(key, node): &(Spanned<String>, Node)| {
                    let path = format!("{path}.{}", key.value);
                    self.origins.set(path.clone(), at(&place(key)));
                    (key.value.clone(), self.free(&path, node, at))
                };
                entries.iter().map(entry).collect()
            }
        }
    }

    fn section(
        &mut self,
        path: &str,
        node: &Node,
        keys: &BTreeMap<String, Shape>,
        at: &dyn Fn(&Node) -> Origin,
    ) -> Option<Value> {
        let entries = match &node.content {
            Content::Map(entries) => entries.as_slice(),
            Content::Null => return None,
            content => {
                let names: Vec<&str> = keys.keys().map(String::as_str).collect();
                let accepted = format!("a mapping with {}", names.join(", "));
                let message = format!("{path} is {}; accepted: {accepted}", kind(content));
                self.problem(Some(at(node)), message);
                return None;
            }
        };
        let mut section = Map::new();
        for (key, node) in entries {
            let name = &key.value;
            let below = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            let place = place(key);
            let Some(shape) = keys.get(name) else {
                let nearest = self.keys.nearest(path, name, keys);
                self.problem(Some(at(&place)), unknown(&below, nearest));
                continue;
            };
            self.origins.set(below.clone(), at(&place));
            if let Some(value) = self.convert(&below, node, shape, at) {
                section.insert(name.clone(), value);
            }
        }
        Some(Value::Object(section))
    }

    fn problem(&mut self, origin: Option<Origin>, message: String) {
        self.problems.push(Problem { origin, message });
    }
}

/// Puts `value` into `map` at the path of `names`, and makes what is missing on the way.
fn insert(map: &mut Map<String, Value>, names: &[&str], value: Value) {
    match names {
        [] => {}
        [key] => drop(map.insert((*key).to_owned(), value)),
        [section, rest @ ..] => {
            let section = map
                .entry(*section)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(section) = section {
                insert(section, rest, value);
            }
        }
    }
}

/// Where a key stands.
fn place(key: &Spanned<String>) -> Node {
    Node {
        place: key.referenced,
        content: Content::Null,
    }
}

fn unknown(key: &str, nearest: Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("{key} is not a key; did you mean {nearest}?"),
        None => format!("{key} is not a key"),
    }
}

fn kind(content: &Content) -> &'static str {
    match content {
        Content::Null => "nothing",
        Content::Bool(_) => "a truth value",
        Content::Number(_) => "a number",
        Content::Text(_) => "text",
        Content::List(_) => "a list",
        Content::Map(_) => "a mapping",
    }
}

fn accepted(shape: &Shape) -> &'static str {
    match shape {
        Shape::Section(_) => "a mapping",
        Shape::List(_) => "a list",
        Shape::Map => "a mapping of names to text",
        Shape::Free => "a mapping",
        Shape::Text => "text",
        Shape::Scalar => "a number",
    }
}
