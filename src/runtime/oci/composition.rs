//! What a container on this machine is made of: pure. `chaincode` and `compile` ask for it, `host` carries it out.

use std::path::PathBuf;

use super::host::{Access, Bind, Plan, Root};
use super::rootfs::Base;
use super::{Limits, Settings};
use crate::image_spec::ImageConfig;
use crate::runtime::compile_agent::{
    self, CACHES, CREDENTIALS, EXCHANGE, IN_OWN_PLACES, PROGRAM, TRUST,
};
use crate::runtime::process;
use crate::runtime::surroundings::Caches;
use crate::runtime::{ChaincodeSpec, CompileSpec, HostSpec};

/// Where the agent leaves its last words, as in a pod.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// A chaincode container: `base` with `layer` over it, and the uploaded `files`, each with its path in the container.
pub(super) fn chaincode(
    spec: &ChaincodeSpec,
    base: &Base,
    layer: PathBuf,
    files: impl Iterator<Item = (PathBuf, String)>,
) -> Plan {
    let entrypoint = spec.entrypoint.as_ref().unwrap_or(&base.config.entrypoint);
    let HostSpec {
        memory,
        cpu_millis,
        dns,
        dns_search,
        extra_hosts,
        read_only_root,
        added_capabilities,
    } = spec.host.clone();
    Plan {
        lower: vec![layer, base.directory.clone()],
        args: entrypoint.iter().chain(&spec.args).cloned().collect(),
        env: environment(&base.config, &spec.env),
        working_dir: working_dir(spec.working_dir.as_deref(), &base.config),
        user: user(spec.user, &base.config),
        binds: files
            .map(|(source, destination)| Bind {
                source,
                destination: destination.into(),
                access: Access::ReadOnly,
            })
            .collect(),
        hosts: extra_hosts,
        dns,
        dns_search,
        memory,
        cpu_millis,
        root: match read_only_root {
            true => Root::ReadOnly,
            false => Root::Writable,
        },
        added_capabilities,
    }
}

/// Where the parts of one compile lie on this machine.
pub(super) struct CompilePlaces {
    /// This program.
    pub(super) program: PathBuf,
    /// The directory of the agent's token and certificate authority.
    pub(super) credentials: PathBuf,
    /// The file for the agent's last words.
    pub(super) last_words: PathBuf,
    /// The directory of the certificates that compiles trust, where there are some.
    pub(super) trust: Option<PathBuf>,
    /// The directory of the [`EXCHANGE`] ones.
    pub(super) exchange: PathBuf,
}

/// A compile: the builder image, in which the agent runs the command.
pub(super) fn compile(
    spec: &CompileSpec,
    base: &Base,
    settings: &Settings,
    places: CompilePlaces,
) -> Plan {
    let bind = |source: PathBuf, destination: &str, access| Bind {
        source,
        destination: destination.into(),
        access,
    };
    let mut binds = vec![
        bind(places.program, PROGRAM, Access::ReadOnly),
        bind(places.credentials, CREDENTIALS, Access::ReadOnly),
        bind(places.last_words, TERMINATION_LOG, Access::ReadWrite),
    ];
    binds.extend((places.trust).map(|trust| bind(trust, TRUST, Access::ReadOnly)));
    binds.extend(EXCHANGE.map(|(name, destination)| {
        bind(places.exchange.join(name), destination, Access::ReadWrite)
    }));
    let surroundings = &settings.surroundings;
    let plain = surroundings.plain_variables().into_iter();
    let plain = plain.map(|(name, value)| (name.to_owned(), value));
    let says = |name: &str| base.config.env.iter().any(|(known, _)| known == name);
    // Where nothing is kept, what the image has in its own places is all there is.
    let is_kept = surroundings.caches() == Caches::Kept && spec.builder.is_some();
    let caches = (CACHES.into_iter())
        .filter(|(name, _)| is_kept && IN_OWN_PLACES.contains(name) && !says(name))
        .map(|(name, place)| (name.to_owned(), place.to_owned()));
    let proxies = surroundings.proxies().into_iter().flat_map(|proxy| {
        proxy
            .variables
            .map(|name| (name.to_owned(), proxy.address.to_owned()))
    });
    let limits = settings.compile_limits.of(&spec.tenant).of(&spec.image);
    let limits = Limits::of(&limits);
    // The command runs as the image's own user in the image's own places, as in Docker, but for what is kept where the image does not say.
    let ours = caches.chain(plain).chain(proxies);
    let env: Vec<_> = ours.chain(spec.env.clone()).collect();
    Plan {
        lower: vec![base.directory.clone()],
        args: compile_agent::command(&settings.delivery_address, &spec.key, &spec.command),
        env: environment(&base.config, &env),
        working_dir: working_dir(spec.working_dir.as_deref(), &base.config),
        user: user(spec.user, &base.config),
        binds,
        hosts: spec.resolution.extra_hosts.clone(),
        dns: spec.resolution.dns.clone(),
        dns_search: spec.resolution.dns_search.clone(),
        memory: limits.memory,
        cpu_millis: limits.cpu_millis,
        root: Root::Writable,
        added_capabilities: Vec::new(),
    }
}

/// The image's variables and those of the order, each once; later ones win.
fn environment(image: &ImageConfig, order: &[(String, String)]) -> Vec<(String, String)> {
    let pairs = image.env.iter().chain(order);
    process::environment(pairs.map(|(name, value)| (name.as_str(), value.as_str())))
}

fn working_dir(order: Option<&str>, image: &ImageConfig) -> String {
    match order.unwrap_or(&image.working_dir) {
        "" => "/".to_owned(),
        directory => directory.to_owned(),
    }
}

/// The image's, as Docker has it: a name is looked up in the container. An order knows no group.
fn user(order: Option<i64>, image: &ImageConfig) -> String {
    match order {
        Some(user) if image.numeric_user() != Some(user) => user.to_string(),
        _ => image.user.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByBuilder, ByTenant, Compile, Quantities};
    use crate::names::{CompileKey, Digest, InstanceName, Tenant};
    use crate::runtime::{Resolution, Surroundings};
    use crate::store::Store;
    use crate::store::spool::Spool;

    fn places() -> CompilePlaces {
        CompilePlaces {
            program: PathBuf::new(),
            credentials: PathBuf::new(),
            last_words: PathBuf::new(),
            trust: None,
            exchange: PathBuf::new(),
        }
    }

    fn settings(compile_limits: ByTenant<ByBuilder>) -> Settings {
        Settings {
            peitho: PathBuf::new(),
            program: None,
            directory: PathBuf::new(),
            cgroup_parent: PathBuf::new(),
            instance: InstanceName::default(),
            delivery_address: "https://127.0.0.1:1".to_owned(),
            delivery_ca_pem: String::new(),
            surroundings: Surroundings::default(),
            compile_limits,
        }
    }

    async fn spec() -> CompileSpec {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        CompileSpec {
            key: CompileKey::new(Digest::of(b"compile")),
            tenant: Tenant::default_tenant(),
            image: "hyperledger/fabric-ccenv:2.5".parse().unwrap(),
            builder: None,
            facts: Default::default(),
            command: vec!["true".to_owned()],
            env: Vec::new(),
            working_dir: None,
            user: None,
            resolution: Resolution::default(),
            input: None,
            log: Spool::create(&store).await.unwrap(),
            milestones: Default::default(),
        }
    }

    #[tokio::test]
    async fn a_compile_has_the_limits_of_its_tenant() {
        let limits = |memory: &str| {
            let limits = [("memory", memory), ("cpu", "1500m")];
            let limits = limits.map(|(name, value)| (name.to_owned(), value.to_owned()));
            ByBuilder::from(Quantities::from(limits))
        };
        let own = ("org1".parse().unwrap(), limits("64Mi"));
        let settings = settings(ByTenant::new(limits("4Gi"), [own]));
        let base = Base {
            directory: PathBuf::new(),
            config: ImageConfig::default(),
        };
        let mut spec = spec().await;
        for (tenant, memory) in [("default", 4 << 30), ("org1", 64 << 20), ("org2", 4 << 30)] {
            spec.tenant = tenant.parse().unwrap();
            let plan = compile(&spec, &base, &settings, places());
            let found = (plan.memory, plan.cpu_millis);
            assert_eq!(found, (Some(memory), Some(1500)), "{tenant}");
        }
    }

    /// A builder for a machine without a way out may have its modules inside.
    #[tokio::test]
    async fn a_compile_finds_what_its_image_has() {
        let mut settings = settings(ByTenant::default());
        let mut base = Base {
            directory: PathBuf::new(),
            config: ImageConfig::default(),
        };
        let mut spec = spec().await;
        let set = |spec: &CompileSpec, base: &Base, settings: &Settings| {
            let env = compile(spec, base, settings, places()).env;
            let (ours, own): (Vec<_>, Vec<_>) =
                (env.into_iter()).partition(|(_, value)| value.contains("peitho"));
            (
                own,
                ours.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
        };
        // What is built by an image that may be another one next time is not kept.
        assert_eq!(set(&spec, &base, &settings).1, [""; 0]);
        spec.builder = Some(Digest::of(b"builder"));
        assert_eq!(
            set(&spec, &base, &settings).1,
            ["XDG_CACHE_HOME", "GOCACHE"]
        );
        let inside = ["GOMODCACHE", "GOCACHE", "GOFLAGS"]
            .map(|name| (name.to_owned(), "/inside".to_owned()));
        base.config.env = inside.to_vec();
        let (own, ours) = set(&spec, &base, &settings);
        assert_eq!(own, inside);
        assert_eq!(ours, ["XDG_CACHE_HOME"]);
        let mut off = Compile::default();
        off.cache.enabled = false;
        settings.surroundings = Surroundings::read(&off, "https://a:1").unwrap();
        let (own, ours) = set(&spec, &base, &settings);
        assert_eq!((own, ours), (inside.to_vec(), Vec::new()));
    }
}
