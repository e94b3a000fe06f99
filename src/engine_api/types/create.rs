//! The body of `POST /containers/create` and what of it means something here (protocol §4.2, design D15).
//! Peers of the last releases spell out every field that there is, with null, 0 and "": such a field is one
//! that was not given.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::host_config::HostConfig;
use crate::container::CreateSpec;
use crate::engine_api::error::ApiError;

/// Docker's `Config` with its `HostConfig`; fields that are not here say nothing to Kubernetes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::engine_api) struct CreateBody {
    image: Option<String>,
    #[serde(deserialize_with = "words")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "words")]
    cmd: Vec<String>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    host_config: Option<Map<String, Value>>,
}

impl CreateBody {
    /// No process can be given a zero character, so no pod could run. Names and users have their own rules.
    fn has_no_zeros(&self) -> Result<(), ApiError> {
        let env = self.env.as_deref().unwrap_or_default();
        for (field, texts) in [
            ("Entrypoint", &self.entrypoint[..]),
            ("Cmd", &self.cmd),
            ("Env", env),
            ("WorkingDir", self.working_dir.as_slice()),
        ] {
            if texts.iter().any(|text| text.contains('\0')) {
                return Err(ApiError::bad_request(format!(
                    "{field}: a zero character cannot be part of it"
                )));
            }
        }
        Ok(())
    }
}

/// A list of words, or as old clients have it one word; `null` is the empty list.
fn words<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a string or a list of strings")]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::deserialize(value)? {
        None => Vec::new(),
        Some(Words::One(word)) => vec![word],
        Some(Words::Many(words)) => words,
    })
}

impl TryFrom<CreateBody> for CreateSpec {
    type Error = ApiError;

    fn try_from(body: CreateBody) -> Result<Self, ApiError> {
        body.has_no_zeros()?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let image = given(body.image)
            .ok_or_else(|| ApiError::bad_request("Image: the name of an image is needed"))?;
        let env = body.env.unwrap_or_default();
        let HostConfig {
            host,
            privileges,
            ignored,
        } = HostConfig::read(body.host_config.unwrap_or_default())?;
        Ok(Self {
            image,
            entrypoint: Some(body.entrypoint).filter(|words| !words.is_empty()),
            cmd: body.cmd,
            env: env
                .iter()
                .map(|item| variable(item))
                .collect::<Result<_, _>>()?,
            working_dir: given(body.working_dir),
            user: given(body.user),
            host,
            privileges,
            ignored,
        })
    }
}

/// `NAME=VALUE`, split at the first `=` only: values hold more of them. The message does not show the value.
fn variable(item: &str) -> Result<(String, String), ApiError> {
    match item.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(ApiError::bad_request(
            "Env: an entry is not of the form NAME=VALUE",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::HostSpec;

    fn parse(body: Value) -> Result<CreateSpec, String> {
        let body: CreateBody = serde_json::from_value(body).map_err(|error| error.to_string())?;
        CreateSpec::try_from(body).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn null_empty_and_absent_are_the_same() {
        let bare = parse(json!({ "Image": "x" })).unwrap();
        let spelled_out = json!({
            "Image": "x", "Cmd": null, "Entrypoint": [], "Env": null, "WorkingDir": "", "User": "",
            "HostConfig": { "Memory": 0, "Dns": [], "CapDrop": null, "ConsoleSize": [0, 0],
                "RestartPolicy": { "Name": "", "MaximumRetryCount": 0 }, "Privileged": false },
        });
        assert_eq!(parse(spelled_out).unwrap(), bare);
        assert_eq!(bare.entrypoint, None);
        assert!(bare.ignored.is_empty());
    }

    #[test]
    fn a_command_is_a_list_or_one_word() {
        let spec =
            parse(json!({ "Image": "x", "Cmd": "go version", "Entrypoint": ["/bin/sh", "-c"] }));
        let spec = spec.unwrap();
        assert_eq!(spec.cmd, ["go version"]);
        assert_eq!(spec.entrypoint.unwrap(), ["/bin/sh", "-c"]);
    }

    #[test]
    fn env_splits_at_the_first_equals_sign() {
        let spec = parse(json!({ "Image": "x", "Env": ["A=b=c", "EMPTY="] })).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(spec.env, [pair("A", "b=c"), pair("EMPTY", "")]);
        for bad in ["A", "=secret"] {
            let error = parse(json!({ "Image": "x", "Env": [bad] })).unwrap_err();
            assert!(
                error.contains("NAME=VALUE") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_image_is_needed() {
        for body in [json!({}), json!({ "Image": "" }), json!({ "Image": null })] {
            assert!(parse(body).unwrap_err().contains("Image"));
        }
    }

    /// Bodies of real peers from 1.4 to 3.1: build, launch, and the question for the version of Go.
    #[test]
    fn recorded_bodies_are_understood() {
        let recorded = include_str!("../../../tests/fixtures/create-bodies.json");
        let recorded: Map<String, Value> = serde_json::from_str(recorded).unwrap();
        // name, first word of Cmd, number of variables, Memory
        let expected = [
            ("create.launch.01", "chaincode", 8, Some(2 << 30)),
            ("create.build.05", "/bin/sh", 0, Some(2 << 30)),
            ("create.build.08", "/bin/sh", 1, None),
            ("create.launch.12", "chaincode", 11, Some(2 << 30)),
            ("create.build.16", "/bin/sh", 1, None),
            ("create.launch.20", "chaincode", 11, Some(2 << 30)),
            ("create.goversion.21", "go", 0, None),
        ];
        assert_eq!(recorded.len(), expected.len());
        for (name, command, variables, memory) in expected {
            let spec = parse(recorded[name].clone()).unwrap();
            assert_eq!(spec.cmd[0], command, "{name}");
            assert_eq!(spec.env.len(), variables, "{name}");
            let host = HostSpec {
                memory,
                ..HostSpec::default()
            };
            assert_eq!(spec.host, host, "{name}");
            assert_eq!(spec.ignored, Vec::<String>::new(), "{name}");
            assert_eq!(
                (spec.entrypoint, spec.working_dir, spec.user),
                (None, None, None)
            );
        }
    }
}
