//! The body of `POST /containers/create` and what of it means something here (protocol §4.2, design D15).
//! Peers of the last releases spell out every field that there is, with null, 0 and "": such a field is one
//! that was not given.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::container::CreateSpec;
use crate::engine_api::error::ApiError;
use crate::runtime::HostSpec;

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
        let (host, ignored) = host(body.host_config.unwrap_or_default())?;
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

/// Settings that every peer sends and that mean nothing here: not worth a log line at each launch. They are
/// the defaults of `core.yaml`.
fn is_peers_default(key: &str, value: &Value) -> bool {
    match key {
        "NetworkMode" => value == "host",
        "LogConfig" => value["Type"] == "json-file",
        _ => false,
    }
}

/// Whether a field was given at all: `null`, `false`, `0`, `""`, and lists and objects of these, were not.
fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => values.iter().any(is_given),
        Value::Object(fields) => fields.values().any(is_given),
    }
}

/// What of HostConfig has a meaning on Kubernetes, and the names of what was given besides.
///
/// `CpuShares` is among the latter: it is a weight beside other containers of one host, no limit, and what a
/// pod requests is Peitho's own setting.
fn host(settings: Map<String, Value>) -> Result<(HostSpec, Vec<String>), ApiError> {
    let mut host = HostSpec::default();
    let mut ignored = Vec::new();
    let (mut nano_cpus, mut quota, mut period) = (None, None, None);
    for (key, value) in settings {
        if !is_given(&value) {
            continue;
        }
        match key.as_str() {
            "Memory" => host.memory = amount(&key, value)?,
            "NanoCpus" => nano_cpus = amount(&key, value)?,
            "CpuQuota" => quota = amount(&key, value)?,
            "CpuPeriod" => period = amount(&key, value)?,
            "Dns" => host.dns = read(&key, value)?,
            "DnsSearch" => host.dns_search = read(&key, value)?,
            "ExtraHosts" => {
                let lines: Vec<String> = read(&key, value)?;
                for line in lines {
                    match extra_host(&line)? {
                        Some(pair) => host.extra_hosts.push(pair),
                        None => ignored.push(format!("ExtraHosts {line}")),
                    }
                }
            }
            "ReadonlyRootfs" => host.read_only_root = read(&key, value)?,
            // Granted in advance: pods drop all capabilities.
            "CapDrop" => {}
            _ if is_peers_default(&key, &value) => {}
            _ => ignored.push(key),
        }
    }
    host.cpu_millis = cpu_millis(nano_cpus, quota, period)?;
    Ok((host, ignored))
}

fn read<T: serde::de::DeserializeOwned>(key: &str, value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value)
        .map_err(|error| ApiError::bad_request(format!("HostConfig.{key}: {error}")))
}

/// A number above zero. `-1` is Docker's word for "no limit".
fn amount(key: &str, value: Value) -> Result<Option<u64>, ApiError> {
    match read::<i64>(key, value)? {
        -1 => Ok(None),
        number => u64::try_from(number).map(Some).map_err(|_| {
            ApiError::bad_request(format!("HostConfig.{key}: {number} is less than zero"))
        }),
    }
}

/// Thousandths of a CPU, rounded up: a limit of nothing would be none.
fn cpu_millis(
    nano_cpus: Option<u64>,
    quota: Option<u64>,
    period: Option<u64>,
) -> Result<Option<u64>, ApiError> {
    /// What Linux takes when only the quota is set, in microseconds.
    const DEFAULT_PERIOD: u64 = 100_000;
    match (nano_cpus, quota) {
        (None, None) => Ok(None),
        (Some(nano), None) => Ok(Some(nano.div_ceil(1_000_000))),
        (None, Some(quota)) => {
            let period = period.unwrap_or(DEFAULT_PERIOD);
            Ok(Some(quota.saturating_mul(1000).div_ceil(period)))
        }
        (Some(_), Some(_)) => Err(ApiError::bad_request(
            "HostConfig: NanoCpus and CpuQuota are two words for one limit; set one of them",
        )),
    }
}

/// `host:ip`, split at the first `:`, so that IPv6 addresses survive; Docker also takes them in brackets. `None`
/// for what is no address, such as `host-gateway`: it has no meaning in a cluster.
fn extra_host(line: &str) -> Result<Option<(String, String)>, ApiError> {
    let parts = line.split_once(':').filter(|(name, _)| !name.is_empty());
    let address = |text: &str| {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        bare.unwrap_or(text).parse::<IpAddr>().ok()
    };
    match parts {
        Some((name, ip)) => Ok(address(ip).map(|ip| (name.to_owned(), ip.to_string()))),
        None => Err(ApiError::bad_request(format!(
            "HostConfig.ExtraHosts: {line:?} is not of the form name:address"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: Value) -> Result<CreateSpec, String> {
        let body: CreateBody = serde_json::from_value(body).map_err(|error| error.to_string())?;
        CreateSpec::try_from(body).map_err(|error| format!("{error:?}"))
    }

    fn host(settings: Value) -> Result<(HostSpec, Vec<String>), String> {
        let spec = parse(json!({ "Image": "x", "HostConfig": settings }))?;
        Ok((spec.host, spec.ignored))
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

    #[test]
    fn cpu_limits_become_thousandths() {
        for (settings, millis) in [
            (json!({ "NanoCpus": 1_500_000_000 }), Some(1500)),
            (json!({ "NanoCpus": 1 }), Some(1)),
            (json!({ "CpuQuota": 50_000 }), Some(500)),
            (
                json!({ "CpuQuota": 50_000, "CpuPeriod": 25_000 }),
                Some(2000),
            ),
            (json!({ "CpuQuota": -1 }), None),
            (json!({ "CpuPeriod": 25_000 }), None),
        ] {
            assert_eq!(
                host(settings.clone()).unwrap().0.cpu_millis,
                millis,
                "{settings}"
            );
        }
        assert!(host(json!({ "NanoCpus": 1, "CpuQuota": 1 })).is_err());
        assert!(host(json!({ "Memory": -5 })).is_err());
    }

    #[test]
    fn extra_hosts_keep_ipv6_whole() {
        let lines = json!(["orderer:10.0.0.7", "peer:fd00::1:2", "other:[::1]"]);
        let (host_spec, _) = host(json!({ "ExtraHosts": lines })).unwrap();
        let pair = |name: &str, ip: &str| (name.to_owned(), ip.to_owned());
        assert_eq!(
            host_spec.extra_hosts,
            [
                pair("orderer", "10.0.0.7"),
                pair("peer", "fd00::1:2"),
                pair("other", "::1")
            ]
        );
        for bad in ["alone", ":10.0.0.7"] {
            assert!(host(json!({ "ExtraHosts": [bad] })).is_err(), "{bad}");
        }
        let (host_spec, ignored) = host(json!({ "ExtraHosts": ["x:host-gateway"] })).unwrap();
        assert!(host_spec.extra_hosts.is_empty());
        assert_eq!(ignored, ["ExtraHosts x:host-gateway"]);
    }

    #[test]
    fn what_means_nothing_here_is_named() {
        let (host_spec, ignored) = host(json!({
            "CapDrop": ["CAP_NET_RAW", "mknod", "ALL"], "ReadonlyRootfs": true, "Memory": 1024,
            "NetworkMode": "net_test", "CpuShares": 512, "CapAdd": ["CAP_SYS_ADMIN"], "Unheard": "of",
            "LogConfig": { "Type": "json-file", "Config": { "max-file": "5" } },
        }))
        .unwrap();
        assert!(host_spec.read_only_root);
        assert_eq!(host_spec.memory, Some(1024));
        assert_eq!(ignored, ["CapAdd", "CpuShares", "NetworkMode", "Unheard"]);
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
