//! Docker's HostConfig: what of it has a meaning on Kubernetes, what asks for privileges, and what is refused
//! (protocol §4.2, design D15, D16). `create` reads it.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::engine_api::error::ApiError;
use crate::runtime::HostSpec;

/// Settings that every peer sends and that mean nothing here: not worth a log line at each launch. They are
/// the defaults of `core.yaml`.
fn is_peers_default(key: &str, value: &Value) -> bool {
    match key {
        "NetworkMode" => value == "host",
        "LogConfig" => value["Type"] == "json-file",
        // Docker's own words for "not shared".
        "IpcMode" => value == "private" || value == "shareable",
        "CgroupnsMode" => value == "private",
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

/// Settings that ask for the machine itself. No peer can send them (protocol §4.2), and what was meant by them
/// would not work without: so they are refused and not dropped.
const OF_THE_MACHINE: [&str; 7] = [
    "Privileged",
    "Binds",
    "Mounts",
    "VolumesFrom",
    "Devices",
    "DeviceRequests",
    "DeviceCgroupRules",
];

/// Whether a setting asks for privileges: then its loss is worth a warning.
fn asks_for_privileges(key: &str, value: &Value) -> bool {
    let shares = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        text == "host" || text.starts_with("container:")
    };
    match key {
        "SecurityOpt" => {
            // Given to all in advance.
            let granted = |option: &Value| {
                option.as_str().is_some_and(|option| {
                    option.starts_with("no-new-privileges") && !option.ends_with("false")
                })
            };
            !value
                .as_array()
                .is_some_and(|options| options.iter().all(granted))
        }
        "PidMode" | "IpcMode" | "UTSMode" | "UsernsMode" | "CgroupnsMode" => shares(value),
        "Sysctls" | "GroupAdd" => true,
        _ => false,
    }
}

/// HostConfig taken apart.
#[derive(Debug, Default)]
pub(super) struct HostConfig {
    /// What has a meaning on Kubernetes.
    pub(super) host: HostSpec,
    /// Names of what asks for privileges.
    pub(super) privileges: Vec<String>,
    /// Names of what was given besides.
    pub(super) ignored: Vec<String>,
}

impl HostConfig {
    /// Takes HostConfig apart. `CpuShares` is ignored: it is a weight beside other containers of one host, no limit,
    /// and what a pod requests is Peitho's own setting.
    pub(super) fn read(settings: Map<String, Value>) -> Result<Self, ApiError> {
        let mut found = Self::default();
        let (mut nano_cpus, mut quota, mut period) = (None, None, None);
        for (key, value) in settings {
            if !is_given(&value) {
                continue;
            }
            let host = &mut found.host;
            match key.as_str() {
                "Memory" => host.memory = amount(&key, value)?,
                "NanoCpus" => nano_cpus = amount(&key, value)?,
                "CpuQuota" => quota = amount(&key, value)?,
                "CpuPeriod" => period = amount(&key, value)?,
                "Dns" => {
                    let servers: Vec<String> = read(&key, value)?;
                    for server in servers {
                        match address(&server) {
                            Some(ip) => host.dns.push(ip.to_string()),
                            None => found.ignored.push(format!("Dns {server}")),
                        }
                    }
                }
                "DnsSearch" => host.dns_search = read(&key, value)?,
                "ExtraHosts" => {
                    let lines: Vec<String> = read(&key, value)?;
                    for line in lines {
                        match extra_host(&line)? {
                            Some(pair) => host.extra_hosts.push(pair),
                            None => found.ignored.push(format!("ExtraHosts {line}")),
                        }
                    }
                }
                "ReadonlyRootfs" => host.read_only_root = read(&key, value)?,
                "CapAdd" => {
                    let names: Vec<String> = read(&key, value)?;
                    host.added_capabilities = names.iter().map(|name| capability(name)).collect();
                }
                // Granted in advance: pods drop all capabilities.
                "CapDrop" => {}
                key if OF_THE_MACHINE.contains(&key) => {
                    return Err(ApiError::forbidden(format!(
                        "HostConfig.{key} asks for the machine that the container runs on, which Peitho gives to nobody; leave it out"
                    )));
                }
                _ if is_peers_default(&key, &value) => {}
                _ if asks_for_privileges(&key, &value) => found.privileges.push(key),
                _ => found.ignored.push(key),
            }
        }
        found.host.cpu_millis = cpu_millis(nano_cpus, quota, period)?;
        Ok(found)
    }
}

/// A capability in the spelling of Kubernetes; Docker's has `CAP_` in front, or not, in any case.
fn capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
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
    match parts {
        Some((name, ip)) => Ok(address(ip).map(|ip| (name.to_owned(), ip.to_string()))),
        None => Err(ApiError::bad_request(format!(
            "HostConfig.ExtraHosts: {line:?} is not of the form name:address"
        ))),
    }
}

/// An address as Docker takes it: IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(settings: Value) -> Result<HostConfig, String> {
        let settings = serde_json::from_value(settings).unwrap();
        HostConfig::read(settings).map_err(|error| format!("{error:?}"))
    }

    fn host(settings: Value) -> Result<(HostSpec, Vec<String>), String> {
        parse(settings).map(|found| (found.host, found.ignored))
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
        let servers = json!({ "Dns": ["10.0.0.1", "[fd00::53]", "dns.example.com"] });
        let (host_spec, ignored) = host(servers).unwrap();
        assert_eq!(host_spec.dns, ["10.0.0.1", "fd00::53"]);
        assert_eq!(ignored, ["Dns dns.example.com"]);
        let (host_spec, ignored) = host(json!({ "ExtraHosts": ["x:host-gateway"] })).unwrap();
        assert!(host_spec.extra_hosts.is_empty());
        assert_eq!(ignored, ["ExtraHosts x:host-gateway"]);
    }

    #[test]
    fn what_means_nothing_here_is_named() {
        let (host_spec, ignored) = host(json!({
            "CapDrop": ["CAP_NET_RAW", "mknod", "ALL"], "ReadonlyRootfs": true, "Memory": 1024,
            "NetworkMode": "net_test", "CpuShares": 512, "Unheard": "of", "IpcMode": "private",
            "SecurityOpt": ["no-new-privileges:true"],
            "LogConfig": { "Type": "json-file", "Config": { "max-file": "5" } },
        }))
        .unwrap();
        assert!(host_spec.read_only_root);
        assert_eq!(host_spec.memory, Some(1024));
        assert_eq!(
            ignored,
            ["CpuShares", "NetworkMode", "SecurityOpt", "Unheard"]
        );
    }

    #[test]
    fn what_asks_for_privileges_is_told_apart() {
        for (settings, privileges) in [
            (
                json!({ "PidMode": "host", "IpcMode": "host" }),
                vec!["IpcMode", "PidMode"],
            ),
            (
                json!({ "UTSMode": "host", "UsernsMode": "host" }),
                vec!["UTSMode", "UsernsMode"],
            ),
            (json!({ "PidMode": "container:abc" }), vec!["PidMode"]),
            (
                json!({ "SecurityOpt": ["seccomp=unconfined"] }),
                vec!["SecurityOpt"],
            ),
            (
                json!({ "SecurityOpt": ["no-new-privileges", "label=disable"] }),
                vec!["SecurityOpt"],
            ),
            (
                json!({ "SecurityOpt": ["no-new-privileges:false"] }),
                vec!["SecurityOpt"],
            ),
            (
                json!({ "Sysctls": { "kernel.msgmax": "1" } }),
                vec!["Sysctls"],
            ),
            (json!({ "PidMode": "", "CpusetCpus": "0" }), vec![]),
        ] {
            let found = parse(settings.clone()).unwrap();
            assert_eq!(found.privileges, privileges, "{settings}");
        }
        let added = json!({ "CapAdd": ["CAP_NET_BIND_SERVICE", "sys_admin"] });
        let (host_spec, _) = host(added).unwrap();
        assert_eq!(
            host_spec.added_capabilities,
            ["NET_BIND_SERVICE", "SYS_ADMIN"]
        );
    }

    #[test]
    fn the_machine_itself_is_refused() {
        for (key, value) in [
            ("Privileged", json!(true)),
            ("Binds", json!(["/:/host"])),
            (
                "Mounts",
                json!([{ "Type": "bind", "Source": "/", "Target": "/host" }]),
            ),
            ("VolumesFrom", json!(["other"])),
            ("Devices", json!([{ "PathOnHost": "/dev/kvm" }])),
        ] {
            let error = host(json!({ key: value })).unwrap_err();
            let named = error.contains(&format!("HostConfig.{key} asks for the machine"));
            assert!(named && error.contains("403"), "{error}");
        }
        let empty = json!({ "Privileged": false, "Binds": null, "Devices": [], "Mounts": [] });
        assert!(host(empty).is_ok());
    }
}
