//! A YAML document as a tree that knows its lines.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Location, MessageFormatter as _, Spanned, UserMessageFormatter};

use super::{Error, Origin};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Location,
    pub(super) content: Content,
}

impl Node {
    /// `content` in the place of this.
    pub(super) fn with(&self, content: Content) -> Self {
        Self {
            place: self.place,
            content,
        }
    }
}

/// What stands there.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// Each key with where it stands.
    Map(Vec<(Spanned<String>, Node)>),
}

/// Parses `text`, which is what `path` holds.
pub(super) fn parse(path: &Path, text: &str) -> Result<Node, Error> {
    let at = |line, column| Origin::File {
        path: path.to_owned(),
        line,
        column,
    };
    let node = parse_value(text).map_err(|(line, column, message)| Error::Syntax {
        origin: at(line, column),
        message,
    })?;
    match node.content {
        Content::Map(_) | Content::Null => Ok(node),
        _ => Err(Error::Syntax {
            origin: at(node.place.line(), node.place.column()),
            message:
                "the configuration is a mapping of sections, for example `log: {level: debug}`"
                    .to_owned(),
        }),
    }
}

/// Parses a single value; on failure line, column and what is wrong.
pub(super) fn parse_value(text: &str) -> Result<Node, (u64, u64, String)> {
    // Of an empty document, or one of comments only, the parser makes an error.
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Node {
            place: Location::UNKNOWN,
            content: Content::Null,
        });
    }
    serde_saphyr::from_str::<Spanned<Content>>(text)
        .map(Node::from)
        .map_err(|error| {
            let (line, column) = error.location().map_or((1, 1), |l| (l.line(), l.column()));
            // Without the place, which is told in front, and without advice for programmers.
            let message = UserMessageFormatter.format_message(error.without_snippet());
            let first = message.lines().next().unwrap_or_default();
            (line, column, first.to_owned())
        })
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        Self {
            place: spanned.referenced,
            content: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Content, E> {
                Ok(Content::Null)
            }

            fn visit_none<E>(self) -> Result<Content, E> {
                Ok(Content::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Content, D::Error> {
                Content::deserialize(inner)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
                Ok(Content::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
                Ok(Content::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
                Ok(Content::Number(value.into()))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Content, E> {
                Number::from_f64(value)
                    .map(Content::Number)
                    .ok_or_else(|| E::custom("not a number that can be used here"))
            }

            fn visit_str<E>(self, value: &str) -> Result<Content, E> {
                Ok(Content::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Spanned<Content>>()? {
                    list.push(item.into());
                }
                Ok(Content::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
                let mut map: Vec<(Spanned<String>, Node)> = Vec::new();
                while let Some(key) = entries.next_key::<Spanned<String>>()? {
                    if map.iter().any(|(other, _)| other.value == key.value) {
                        return Err(A::Error::custom(format!("{} is set twice", key.value)));
                    }
                    let value = entries.next_value::<Spanned<Content>>()?;
                    map.push((key, value.into()));
                }
                Ok(Content::Map(map))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
