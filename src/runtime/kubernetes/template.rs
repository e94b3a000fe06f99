//! What chaincode pods and compile pods have in common: the security context that PSA `restricted` wants
//! (design D16), values that Kubernetes must not expand, resources, how names resolve. Pure; used by `pod` and
//! `compile_pod`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, HostAlias, KeyToPath,
    LocalObjectReference, PodDNSConfig, PodSecurityContext, PodSpec, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::Settings;
use crate::config::{self, Quantities};
use crate::runtime::Resolution;
use crate::runtime::compile_agent::{CA, CREDENTIALS, TOKEN};

/// How many name servers a pod may have in all.
const NAMESERVERS: usize = 3;
const CREDENTIALS_VOLUME: &str = "credentials";
/// The volume with the files that a peer uploaded.
pub(super) const FILES_VOLUME: &str = "files";
/// The volume with the certificates that compiles trust.
pub(super) const TRUST_VOLUME: &str = "trust";
/// Volumes of ours that are made from the pod's Secret.
pub(super) const SECRET_VOLUMES: [&str; 3] = [CREDENTIALS_VOLUME, FILES_VOLUME, TRUST_VOLUME];
/// What a container of our own program may use: it copies one file or unpacks one stream.
const AGENT_MEMORY_LIMIT: &str = "256Mi";

/// The pod that both roles start from, with the containers left out. `user` is user and group of all
/// containers, since they share volumes; `None` leaves them to the platform.
pub(super) fn pod_spec(settings: &Settings, user: Option<i64>) -> PodSpec {
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(1),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: some_unless_empty(
            settings
                .image_pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: user,
            run_as_group: user,
            fs_group: user,
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// Metadata of a pod that the Secret `owner` owns: its labels and annotations, and the opt-outs of service
/// meshes, in whose pods init containers have no network (design D15). No `blockOwnerDeletion`: that would
/// need a right on finalizers.
pub(super) fn pod_metadata(name: String, owner: &ObjectMeta) -> ObjectMeta {
    let mut labels = owner.labels.clone().unwrap_or_default();
    labels.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
    let mut annotations = owner.annotations.clone().unwrap_or_default();
    annotations.remove(crate::names::kubernetes::OUTCOME);
    annotations.remove(crate::names::kubernetes::HELD);
    annotations.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
    annotations.insert("linkerd.io/inject".to_owned(), "disabled".to_owned());
    ObjectMeta {
        name: Some(name),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            name: owner.name.clone().unwrap_or_default(),
            uid: owner.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    }
}

/// What a container may do: nothing that PSA `restricted` refuses. `CapDrop` of Docker is in it: all are.
/// `added` are capabilities that the operator allows and the peer asks for.
pub(super) fn security_context(read_only_root: ReadOnlyRoot, added: &[String]) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: some_unless_empty(added.to_vec()),
        }),
        read_only_root_filesystem: Some(read_only_root == ReadOnlyRoot::Yes),
        ..SecurityContext::default()
    }
}

/// Whether a container's own file system can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOnlyRoot {
    /// It cannot.
    Yes,
    /// It can.
    No,
}

/// A container that runs Peitho's own image with `args`. Its last log lines become its status message, and
/// so the reason that a peer sees when it fails.
pub(super) fn agent_container(
    name: &str,
    settings: &Settings,
    args: Vec<String>,
    requests: &Quantities,
    mounts: Vec<VolumeMount>,
) -> Container {
    let limits = [("memory".to_owned(), AGENT_MEMORY_LIMIT.to_owned())].into();
    Container {
        name: name.to_owned(),
        image: Some(settings.agent_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.as_str().to_owned()),
        args: Some(literal_all(&args)),
        resources: Some(resources(requests, &limits)),
        security_context: Some(security_context(ReadOnlyRoot::Yes, &[])),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// The volume with the agent's token and CA out of the Secret `owner`; only what is mounted by
/// [`credentials_mount`] sees it.
pub(super) fn credentials_volume(owner: &ObjectMeta) -> Volume {
    let item = |key: &str| KeyToPath {
        key: key.to_owned(),
        path: key.to_owned(),
        mode: Some(0o440),
    };
    secret_volume(CREDENTIALS_VOLUME, owner, vec![item(CA), item(TOKEN)])
}

/// Where the agent reads them.
pub(super) fn credentials_mount() -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount(CREDENTIALS_VOLUME, CREDENTIALS)
    }
}

/// A volume with `items` of the Secret `owner`.
pub(super) fn secret_volume(name: &str, owner: &ObjectMeta, items: Vec<KeyToPath>) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: owner.name.clone(),
            items: Some(items),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A directory that lives as long as its pod.
pub(super) fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

/// `volume` at `path`, whole and writable.
pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// `value` such that a container sees it byte for byte. Kubernetes expands `$(NAME)` in command, args and
/// env and turns `$$` into `$` wherever it stands; also before anything else a lone `$` is no safe
/// neighbour, since the expansion works on bytes. So every `$` is doubled.
pub(super) fn literal(value: &str) -> String {
    value.replace('$', "$$")
}

/// [`literal`] of all.
pub(super) fn literal_all(values: &[String]) -> Vec<String> {
    values.iter().map(|value| literal(value)).collect()
}

/// `variables` as Kubernetes takes them.
pub(super) fn literal_environment(variables: Vec<(String, String)>) -> Option<Vec<EnvVar>> {
    let variables = variables.into_iter().map(|(name, value)| EnvVar {
        name,
        value: Some(literal(&value)),
        ..EnvVar::default()
    });
    some_unless_empty(variables.collect())
}

/// Requests and limits; a request above its limit, which the API server refuses, becomes the limit.
pub(super) fn resources(requests: &Quantities, limits: &Quantities) -> ResourceRequirements {
    let quantities = |map: &Quantities| -> BTreeMap<String, Quantity> {
        map.iter()
            .map(|(name, value)| (name.clone(), Quantity(value.clone())))
            .collect()
    };
    let (mut requests, limits) = (quantities(requests), quantities(limits));
    fit(&mut requests, &limits);
    let given = |map: BTreeMap<String, Quantity>| (!map.is_empty()).then_some(map);
    ResourceRequirements {
        requests: given(requests),
        limits: given(limits),
        ..ResourceRequirements::default()
    }
}

/// Lowers the requests that are above their limits.
pub(super) fn fit(requests: &mut BTreeMap<String, Quantity>, limits: &BTreeMap<String, Quantity>) {
    for (name, request) in requests {
        if let Some(limit) = limits.get(name)
            && is_greater(&request.0, &limit.0)
        {
            request.clone_from(limit);
        }
    }
}

/// Lines for `/etc/hosts`: the configured ones, then Docker's `ExtraHosts`, one entry per address. What is
/// no address (`host-gateway`) has no meaning in a cluster and was left out at `create`.
pub(super) fn host_aliases(
    settings: &Settings,
    extra: &[(String, String)],
) -> Option<Vec<HostAlias>> {
    let mut names: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    let configured = settings.host_aliases.iter().flat_map(|alias| {
        alias
            .hostnames
            .iter()
            .map(move |name| (alias.ip, name.as_str()))
    });
    let extra = extra
        .iter()
        .filter_map(|(name, address)| Some((parse_ip(address)?, name.as_str())));
    for (address, name) in configured.chain(extra) {
        let known = names.entry(address).or_default();
        // The API server takes lower case only; resolvers know no case.
        let name = name.to_ascii_lowercase();
        if !known.contains(&name) {
            known.push(name);
        }
    }
    some_unless_empty(
        names
            .into_iter()
            .map(|(address, names)| HostAlias {
                ip: address.to_string(),
                hostnames: Some(names),
            })
            .collect(),
    )
}

/// Docker's `Dns` replaces the resolvers, which in a cluster would take away the names of Services, the
/// peer's among them. So the cluster's stay first and these come after.
pub(super) fn dns_config(resolution: &Resolution) -> Option<PodDNSConfig> {
    let mut nameservers: Vec<String> = resolution
        .dns
        .iter()
        .filter_map(|address| Some(parse_ip(address)?.to_string()))
        .collect();
    nameservers.dedup();
    nameservers.truncate(NAMESERVERS - 1);
    let searches = resolution.dns_search.clone();
    (!nameservers.is_empty() || !searches.is_empty()).then(|| PodDNSConfig {
        nameservers: some_unless_empty(nameservers),
        searches: some_unless_empty(searches),
        ..PodDNSConfig::default()
    })
}

/// An address as Docker takes it: IPv6 with or without brackets.
fn parse_ip(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

pub(super) fn some_unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Whether `left` is more than `right`; no, where either cannot be read: the API server then says so.
fn is_greater(left: &str, right: &str) -> bool {
    let number = |text: &str| text.parse::<config::Quantity>().ok();
    matches!((number(left), number(right)), (Some(left), Some(right)) if left > right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the kubelet does with a value in which no `$(NAME)` names a variable that exists.
    fn expand(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = value;
        while let Some((first, after)) = rest.split_first() {
            match (first, after.first()) {
                (b'$', Some(b'$')) => {
                    out.push(b'$');
                    rest = &after[1..];
                }
                (b'$', Some(b'(')) if after.contains(&b')') => {
                    // A reference: to nothing good.
                    out.extend_from_slice(b"<expanded>");
                    let end = after.iter().position(|b| *b == b')').unwrap();
                    rest = &after[end + 1..];
                }
                _ => {
                    out.push(*first);
                    rest = after;
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn a_literal_survives_the_kubelet(value in "[$()A-Z é]{0,24}") {
            prop_assert_eq!(expand(literal(&value).as_bytes()), value.as_bytes());
        }
    }

    #[test]
    fn a_request_never_exceeds_its_limit() {
        let map = |pairs: &[(&str, &str)]| -> Quantities {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let fitted = resources(
            &map(&[("cpu", "200m"), ("memory", "64Mi")]),
            &map(&[("cpu", "0.1"), ("memory", "2147483648")]),
        );
        let requests = fitted.requests.unwrap();
        assert_eq!(requests["cpu"].0, "0.1");
        assert_eq!(requests["memory"].0, "64Mi");
    }

    #[test]
    fn hosts_of_one_address_share_a_line_and_names_that_are_no_address_are_left_out() {
        let settings = Settings {
            host_aliases: vec![crate::config::HostAlias {
                ip: "10.0.0.1".parse().unwrap(),
                hostnames: vec!["peer0.example.com".to_owned()],
            }],
            ..super::super::tests::settings()
        };
        let extra = [
            ("Orderer.example.com", "10.0.0.1"),
            ("six", "[fd00::1]"),
            ("gate", "host-gateway"),
        ]
        .map(|(name, address)| (name.to_owned(), address.to_owned()));
        let lines: Vec<_> = host_aliases(&settings, &extra)
            .unwrap()
            .into_iter()
            .map(|alias| (alias.ip, alias.hostnames.unwrap().join(" ")))
            .collect();
        assert_eq!(
            lines,
            [
                (
                    "10.0.0.1".to_owned(),
                    "peer0.example.com orderer.example.com".to_owned()
                ),
                ("fd00::1".to_owned(), "six".to_owned()),
            ]
        );
    }
}
