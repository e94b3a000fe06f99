//! Containers as the engine is told to make them: what chaincode and compiles have in common, and what not. Pure;
//! `chaincode` and `compile` send them.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};

use super::{Settings, record};
use crate::config::{Quantities, Quantity};
use crate::names::docker as names;
use crate::runtime::compile_agent;
use crate::runtime::{ChaincodeSpec, CompileSpec, Resolution, process};

/// Output that is kept of a container: two files, and at the worst the older one is lost.
const LOG: [(&str, &str); 2] = [("max-size", "128m"), ("max-file", "2")];

/// What containers may use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Limits {
    /// Bytes.
    memory: Option<i64>,
    /// Thousandths of a thousandth of a thousandth of a CPU.
    nano_cpus: Option<i64>,
}

/// The container of a chaincode on its base image; the layer is put into it afterwards. `cpus` are those of the
/// engine's host, which refuses a limit of more.
pub(super) fn chaincode(
    spec: &ChaincodeSpec,
    settings: &Settings,
    cpus: Option<i64>,
) -> ContainerCreateBody {
    let limits = Limits {
        memory: spec.host.memory.and_then(|bytes| i64::try_from(bytes).ok()),
        nano_cpus: spec
            .host
            .cpu_millis
            .and_then(|millis| i64::try_from(millis).ok()?.checked_mul(1_000_000)),
    };
    let capabilities = &spec.host.added_capabilities;
    let mut host = host_config(limits, cpus, &spec.host.resolution());
    host.cap_add = (!capabilities.is_empty()).then(|| capabilities.clone());
    if spec.host.read_only_root {
        host.readonly_rootfs = Some(true);
        // The engine puts files into volumes only, then. It copies into this one what the base has there.
        host.mounts = Some(vec![Mount {
            target: Some(spec.layer.destination.clone()),
            typ: Some(MountType::VOLUME),
            ..Mount::default()
        }]);
    }
    let env = spec.env.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    ContainerCreateBody {
        image: Some(settings.places.of(&spec.base).full()),
        entrypoint: spec.entrypoint.clone(),
        cmd: (!spec.args.is_empty()).then(|| spec.args.clone()),
        env: Some(joined(process::environment(env))),
        working_dir: spec.working_dir.clone(),
        user: user(spec.user),
        labels: Some(record::labels(spec, &settings.instance)),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// The container of a compile on the builder's image: it runs the agent, which is put into it afterwards.
pub(super) fn compile(
    spec: &CompileSpec,
    settings: &Settings,
    cpus: Option<i64>,
) -> ContainerCreateBody {
    let surroundings = &settings.surroundings;
    let mut env = compile_agent::environment(surroundings, &spec.env);
    for proxy in surroundings.proxies() {
        for name in proxy.variables {
            if env.iter().all(|(known, _)| known != name) {
                env.push((name.to_owned(), proxy.address.to_owned()));
            }
        }
    }
    let mut command = compile_agent::command(&settings.delivery_address, &spec.key, &spec.command);
    let arguments = command.split_off(1);
    ContainerCreateBody {
        image: Some(settings.places.of(&spec.image).full()),
        entrypoint: Some(command),
        cmd: Some(arguments),
        env: Some(joined(env)),
        working_dir: spec.working_dir.clone(),
        user: user(spec.user),
        labels: Some(names::compile_labels(
            &settings.instance,
            &spec.tenant,
            &spec.key,
        )),
        host_config: Some(host_config(
            limits(&settings.compile_limits.of(&spec.tenant).of(&spec.image)),
            cpus,
            &spec.resolution,
        )),
        ..ContainerCreateBody::default()
    }
}

/// The host's network, as peers ask for it: addresses of peers are resolved and reached as on the host. Never a restart
/// by the engine: a process that restarts can never register again (design D8).
fn host_config(limits: Limits, cpus: Option<i64>, resolution: &Resolution) -> HostConfig {
    let most = cpus.and_then(|cpus| cpus.checked_mul(1_000_000_000));
    let nano_cpus = limits
        .nano_cpus
        .map(|cpus| most.map_or(cpus, |most| cpus.min(most)));
    let given = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let hosts: Vec<String> = resolution
        .extra_hosts
        .iter()
        .map(|(name, address)| format!("{name}:{address}"))
        .collect();
    HostConfig {
        network_mode: Some("host".to_owned()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // What the engine is configured with may be a driver that cannot be read again.
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from(
                LOG.map(|(name, value)| (name.to_owned(), value.to_owned())),
            )),
        }),
        memory: limits.memory,
        // As much again in swap would be Docker's default: then a limit is none.
        memory_swap: limits.memory,
        nano_cpus,
        dns: given(&resolution.dns),
        dns_search: given(&resolution.dns_search),
        extra_hosts: given(&hosts),
        ..HostConfig::default()
    }
}

fn limits(quantities: &Quantities) -> Limits {
    let number = |name: &str, factor: f64| {
        let quantity = quantities.get(name)?.parse::<Quantity>().ok()?;
        let number = quantity.value() * factor;
        // The section was checked; what exceeds the engine's numbers is no limit.
        (number >= 1.0 && number < i64::MAX as f64).then_some(number as i64)
    };
    Limits {
        memory: number("memory", 1.0),
        nano_cpus: number("cpu", 1e9),
    }
}

/// User and group by number, as in a pod; without, the image says.
fn user(number: Option<i64>) -> Option<String> {
    number.map(|user| format!("{user}:{user}"))
}

fn joined(env: Vec<(String, String)>) -> Vec<String> {
    env.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{settings, spec};
    use super::*;
    use crate::config::{self, ByTenant};
    use crate::names::{CompileKey, Digest, Tenant};
    use crate::registry::Places;
    use crate::runtime::{HostSpec, Surroundings};
    use crate::store::Store;
    use crate::store::spool::Spool;

    #[test]
    fn a_chaincode_is_made_from_its_base_and_carries_its_order() {
        let mut spec = spec();
        spec.env = [("PATH", "/bin"), ("A", "x=y"), ("PATH", "/usr/bin")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .into();
        spec.args = vec!["chaincode".to_owned(), "-peer.address".to_owned()];
        spec.user = Some(500);
        let body = chaincode(&spec, &settings(), None);
        assert_eq!(body.image.unwrap(), "docker.io/library/busybox:1");
        let replaced = Settings {
            places: Places::of_config(&[config::Registry {
                host: "docker.io".to_owned(),
                replaced_by: Some("r.example.com/mirror".to_owned()),
                ..config::Registry::default()
            }]),
            ..settings()
        };
        let there = chaincode(&spec, &replaced, None).image;
        let place = "r.example.com/mirror/library/busybox:1";
        assert_eq!(there.as_deref(), Some(place));
        assert_eq!(body.cmd.unwrap(), spec.args);
        assert_eq!(body.entrypoint, None);
        assert_eq!(body.env.unwrap(), ["PATH=/usr/bin", "A=x=y"]);
        assert_eq!(body.user.as_deref(), Some("500:500"));
        let host = body.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("host"));
        assert_eq!(
            (host.memory, host.nano_cpus, host.mounts),
            (None, None, None)
        );
    }

    #[test]
    fn host_config_has_its_meaning() {
        let mut spec = spec();
        spec.host = HostSpec {
            memory: Some(64 << 20),
            cpu_millis: Some(4000),
            dns: vec!["10.0.0.1".to_owned()],
            dns_search: vec!["example.com".to_owned()],
            extra_hosts: vec![("peer0".to_owned(), "fd00::1".to_owned())],
            read_only_root: true,
            added_capabilities: vec!["NET_RAW".to_owned()],
        };
        let host = chaincode(&spec, &settings(), Some(2)).host_config.unwrap();
        assert_eq!(host.memory, Some(64 << 20));
        assert_eq!(host.memory_swap, host.memory);
        assert_eq!(host.nano_cpus, Some(2_000_000_000));
        assert_eq!(host.extra_hosts.unwrap(), ["peer0:fd00::1"]);
        assert_eq!(host.cap_add.unwrap(), ["NET_RAW"]);
        assert_eq!(host.readonly_rootfs, Some(true));
        let target = host.mounts.unwrap()[0].target.clone();
        assert_eq!(target.as_deref(), Some("/usr/local/bin"));
    }

    #[tokio::test]
    async fn a_compile_runs_the_agent_and_has_what_surrounds_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let section = config::Compile {
            proxy: config::Proxy {
                http: "http://me:secret@proxy:3128".to_owned(),
                https: "http://proxy:3128".to_owned(),
                no: vec![".svc".to_owned()],
            },
            ..config::Compile::default()
        };
        let mut settings = settings();
        settings.surroundings = Surroundings::read(&section, &settings.delivery_address).unwrap();
        let tenant: Tenant = "org1".parse().unwrap();
        let own = Quantities::from([("memory".to_owned(), "64Mi".to_owned())]);
        let own = [(tenant.clone(), own.into())];
        settings.compile_limits = ByTenant::new(section.limits.clone().into(), own);
        let own = ("https_proxy".to_owned(), "http://own".to_owned());
        let spec = CompileSpec {
            key: CompileKey::new(Digest::of(b"compile")),
            tenant: Tenant::default_tenant(),
            image: "hyperledger/fabric-ccenv:2.5".parse().unwrap(),
            builder: None,
            facts: Default::default(),
            command: ["/bin/sh", "-c", "go build"].map(str::to_owned).into(),
            env: vec![own],
            working_dir: Some("/chaincode".to_owned()),
            user: None,
            resolution: Resolution::default(),
            input: None,
            log: Spool::create(&store).await.unwrap(),
            milestones: Default::default(),
        };
        let body = compile(&spec, &settings, Some(2));
        assert_eq!(body.entrypoint.unwrap(), ["/run/peitho/bin/peitho"]);
        let command = body.cmd.unwrap();
        assert_eq!(command[..3], ["agent", "compile", "--address"]);
        assert_eq!(
            command[command.len() - 4..],
            ["--", "/bin/sh", "-c", "go build"]
        );
        let env = body.env.unwrap();
        let count = |prefix: &str| env.iter().filter(|it| it.starts_with(prefix)).count();
        assert!(env.contains(&"HTTP_PROXY=http://me:secret@proxy:3128".to_owned()));
        assert!(env.contains(&"https_proxy=http://own".to_owned()) && count("https_proxy=") == 1);
        assert!(env.contains(&"no_proxy=peitho,.svc".to_owned()), "{env:?}");
        assert!(env.contains(&"GOCACHE=/run/peitho/home/.cache/go-build".to_owned()));
        let host = body.host_config.unwrap();
        assert_eq!(host.memory, Some(4 << 30));
        assert_eq!(host.nano_cpus, Some(2_000_000_000), "as many as there are");
        let labels = body.labels.unwrap();
        assert_eq!(labels[names::COMPILE_KEY], spec.key.to_string());
        let image = body.image.unwrap();
        assert_eq!(image, "docker.io/hyperledger/fabric-ccenv:2.5");
        settings.places = Places::of_config(&[config::Registry {
            host: "docker.io".to_owned(),
            replaced_by: Some("r.example.com/mirror".to_owned()),
            ..config::Registry::default()
        }]);
        let of_org1 = compile(&CompileSpec { tenant, ..spec }, &settings, Some(2));
        assert_eq!(of_org1.host_config.unwrap().memory, Some(64 << 20));
        let place = "r.example.com/mirror/hyperledger/fabric-ccenv:2.5";
        assert_eq!(of_org1.image.as_deref(), Some(place));
    }

    #[test]
    fn quantities_become_the_engines_numbers() {
        let quantities = [("memory", "1.5Gi"), ("cpu", "250m")];
        let quantities: Quantities = quantities
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let found = limits(&quantities);
        assert_eq!(found.memory, Some(1_610_612_736));
        assert_eq!(found.nano_cpus, Some(250_000_000));
        assert_eq!(limits(&Quantities::new()), Limits::default());
    }
}
