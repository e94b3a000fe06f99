//! Who runs what is in a pod.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// User and group of a pod's containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// This number, where the image names none.
    User(i64),
    /// The platform says: OpenShift gives each namespace numbers of its own, and refuses others.
    Platform,
}

/// How [`RunAs::Platform`] is written.
const NONE: &str = "none";

impl Serialize for RunAs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::User(user) => serializer.serialize_i64(*user),
            Self::Platform => serializer.serialize_str(NONE),
        }
    }
}

impl<'de> Deserialize<'de> for RunAs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = RunAs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or none")
            }

            fn visit_i64<E>(self, user: i64) -> Result<RunAs, E> {
                Ok(RunAs::User(user))
            }

            fn visit_u64<E: de::Error>(self, user: u64) -> Result<RunAs, E> {
                i64::try_from(user).map(RunAs::User).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RunAs, E> {
                match (text, text.parse()) {
                    (NONE, _) => Ok(RunAs::Platform),
                    (_, Ok(user)) => Ok(RunAs::User(user)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for RunAs {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RunAs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "pattern": "^([0-9]+|none)$" })
    }
}
