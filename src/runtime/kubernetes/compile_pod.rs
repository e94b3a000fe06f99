//! Secret and pod of one compile (design D6): the builder image runs Peitho's static program, which a container beside it
//! puts there, and that runs the command. One that is made ahead of need differs in nothing but what its agent is
//! called with. Pure; `compile` and `spare` send them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, Secret, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::{ExposeSecret as _, SecretString};

use super::Settings;
use super::platform;
use super::pull_secret;
use super::surroundings;
use super::template::{
    self, ReadOnlyRoot, TRUST_VOLUME, agent_container, credentials_mount, credentials_volume,
    empty_dir, literal_all, mount, resources, secret_volume,
};
use crate::image_spec::ImageFacts;
use crate::names::kubernetes as names;
use crate::names::{CompileKey, ImageName, SpareId, Tenant};
use crate::runtime::compile_agent::{self, CA, PROGRAM_DIRECTORY, TOKEN, WRITABLE};
use crate::runtime::{CompileSpec, Error, Resolution, SpareSpec, process};

/// The main container of a compile pod.
pub(super) const MAIN: &str = "compile";
/// The container beside it that puts the agent's program there, and ends.
pub(super) const AGENT: &str = "agent";
const PROGRAM_VOLUME: &str = "program";
/// Waits for the program `$0`, and becomes it. The kubelet starts one container after the other and is done with the first one long before, unless its
/// image is on the way; behind an init container it would wait until it looks again, up to a second (ADR 0016). What a peer orders is a
/// script for this shell, too. Nothing that a shell could wait for tells that a file has come, so it looks again.
const WHEN_THERE: &str = r#"
ends() { echo "$0 $2"; [ -w /dev/termination-log ] && echo "$0 $2" >/dev/termination-log; exit "$1"; }
trap 'exit 143' TERM
until [ -e "$0" ]; do
  sleep 0.1 2>/dev/null || sleep 1 || ends 127 'is not there yet, and this image has no sleep'
done
[ -x "$0" ] || ends 126 'cannot be executed here: is its volume mounted noexec?'
exec "$0" "$@"
"#;
/// Requests of the container that puts it there: it copies one file and ends.
const AGENT_REQUESTS: [(&str, &str); 2] = [("cpu", "10m"), ("memory", "64Mi")];
/// Whose log `kubectl` shows.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What of a [`CompileSpec`] or a [`SpareSpec`] makes its pod.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) purpose: Purpose<'a>,
    pub(super) tenant: &'a Tenant,
    pub(super) image: &'a ImageName,
    pub(super) facts: &'a ImageFacts,
    pub(super) env: &'a [(String, String)],
    pub(super) working_dir: Option<&'a str>,
    pub(super) user: Option<i64>,
    pub(super) resolution: &'a Resolution,
}

/// What a pod is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// One compile.
    Compile {
        key: &'a CompileKey,
        command: &'a [String],
    },
    /// The compile that comes first.
    Spare(&'a SpareId),
}

impl<'a> From<&'a CompileSpec> for Order<'a> {
    fn from(spec: &'a CompileSpec) -> Self {
        Self {
            purpose: Purpose::Compile {
                key: &spec.key,
                command: &spec.command,
            },
            tenant: &spec.tenant,
            image: &spec.image,
            facts: &spec.facts,
            env: &spec.env,
            working_dir: spec.working_dir.as_deref(),
            user: spec.user,
            resolution: &spec.resolution,
        }
    }
}

impl<'a> From<&'a SpareSpec> for Order<'a> {
    fn from(spec: &'a SpareSpec) -> Self {
        Self {
            purpose: Purpose::Spare(&spec.id),
            tenant: &spec.tenant,
            image: &spec.image,
            facts: &spec.facts,
            env: &spec.env,
            working_dir: spec.working_dir.as_deref(),
            user: spec.user,
            resolution: &spec.resolution,
        }
    }
}

impl Purpose<'_> {
    fn name(&self, settings: &Settings) -> String {
        match self {
            Self::Compile { key, .. } => names::compile(&settings.instance, key),
            Self::Spare(id) => names::spare(id),
        }
    }

    fn labels(&self, settings: &Settings, tenant: &Tenant) -> BTreeMap<String, String> {
        match self {
            Self::Compile { key, .. } => names::compile_labels(&settings.instance, tenant, key),
            Self::Spare(id) => names::spare_labels(&settings.instance, tenant, id),
        }
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let (key, description) = match self {
            Self::Compile { key, .. } => (
                Some((names::COMPILE_KEY, key.to_string())),
                "A compile of chaincode and its pod's access to Peitho; gone when the compile is over",
            ),
            Self::Spare(_) => (
                None,
                "A pod that waits for a compile of chaincode (compile.warmPods), and its access to Peitho; gone when that is over, or none comes",
            ),
        };
        let description = (names::DESCRIPTION, description.to_owned());
        let all = key.into_iter().chain([description]);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn command(&self, settings: &Settings) -> Vec<String> {
        let address = &settings.delivery_address;
        match self {
            Self::Compile { key, command } => compile_agent::command(address, key, command),
            Self::Spare(id) => compile_agent::waiting(address, id),
        }
    }

    /// How long its pod may be there.
    fn deadline(&self, settings: &Settings) -> Duration {
        match self {
            Self::Compile { .. } => settings.compile_timeout,
            Self::Spare(_) => settings.spare_idle + settings.compile_timeout,
        }
    }
}

/// The Secret that owns the pod of `spec` and holds the agent's token.
pub(super) fn secret(spec: &Order<'_>, settings: &Settings, token: &SecretString) -> Secret {
    let mut annotations = spec.purpose.annotations();
    annotations.insert(names::IMAGE.to_owned(), spec.image.to_string());
    let mut data = surroundings::data(&settings.surroundings);
    data.extend([
        (
            TOKEN.to_owned(),
            ByteString(token.expose_secret().as_bytes().to_vec()),
        ),
        (
            CA.to_owned(),
            ByteString(settings.delivery_ca_pem.clone().into_bytes()),
        ),
    ]);
    Secret {
        metadata: ObjectMeta {
            name: Some(spec.purpose.name(settings)),
            labels: Some(spec.purpose.labels(settings, spec.tenant)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    }
}

/// The pod of `spec`, owned by the Secret `owner`.
///
/// # Errors
/// [`Error::Refused`] when the templates do not fit together.
pub(super) fn pod(spec: &Order<'_>, settings: &Settings, owner: &ObjectMeta) -> Result<Pod, Error> {
    let provision = settings.provisions.of(spec.tenant);
    let install = agent_container(
        AGENT,
        settings,
        ["agent", "install", PROGRAM_DIRECTORY]
            .map(str::to_owned)
            .into(),
        &AGENT_REQUESTS
            .map(|(name, quantity)| (name.to_owned(), quantity.to_owned()))
            .into(),
        vec![mount(PROGRAM_VOLUME, PROGRAM_DIRECTORY)],
    );
    let mut mounts: Vec<VolumeMount> = WRITABLE
        .iter()
        .map(|(volume, path)| mount(volume, path))
        .collect();
    mounts.push(VolumeMount {
        read_only: Some(true),
        ..mount(PROGRAM_VOLUME, PROGRAM_DIRECTORY)
    });
    mounts.push(credentials_mount());
    let trusted = surroundings::file(&settings.surroundings);
    mounts.extend(trusted.as_ref().map(|_| VolumeMount {
        read_only: Some(true),
        ..mount(TRUST_VOLUME, compile_agent::TRUST)
    }));
    let mut command = ["/bin/sh", "-c", WHEN_THERE].map(str::to_owned).to_vec();
    command.extend(spec.purpose.command(settings));
    let main = Container {
        name: MAIN.to_owned(),
        image: Some(platform::image(settings, spec.image, spec.facts)),
        image_pull_policy: Some(settings.image_pull_policy.as_str().to_owned()),
        command: Some(literal_all(&command)),
        env: variables(spec, settings, owner),
        working_dir: spec.working_dir.map(str::to_owned),
        resources: Some(resources(
            &provision.compile_requests.of(spec.image),
            &provision.compile_limits.of(spec.image),
        )),
        security_context: Some(template::security_context(ReadOnlyRoot::No, &[])),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    let user = process::user(spec.user, settings.compile_run_as_user);
    let mut pod_spec = template::pod_spec(settings, user);
    pod_spec.containers = vec![install, main];
    pod_spec.host_aliases = template::host_aliases(settings, &spec.resolution.extra_hosts);
    pod_spec.dns_config = template::dns_config(spec.resolution);
    let deadline = spec.purpose.deadline(settings).as_secs();
    pod_spec.active_deadline_seconds = i64::try_from(deadline).ok();
    let mut volumes: Vec<_> = WRITABLE
        .iter()
        .map(|(volume, _)| empty_dir(volume))
        .collect();
    volumes.push(empty_dir(PROGRAM_VOLUME));
    volumes.push(credentials_volume(owner));
    volumes.extend(trusted.map(|file| secret_volume(TRUST_VOLUME, owner, vec![file])));
    pod_spec.volumes = Some(volumes);
    let mut metadata = template::pod_metadata(owner.name.clone().unwrap_or_default(), owner);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(DEFAULT_CONTAINER.to_owned(), MAIN.to_owned());
    let pod = provision.templates.over_compile(Pod {
        metadata,
        spec: Some(pod_spec),
        status: None,
    })?;
    let pod = pull_secret::pulling(pod, settings);
    Ok(platform::placed(pod, settings, spec.facts))
}

fn variables(spec: &Order<'_>, settings: &Settings, owner: &ObjectMeta) -> Option<Vec<EnvVar>> {
    let surroundings = &settings.surroundings;
    let variables = compile_agent::environment(surroundings, spec.env);
    let mut variables = template::literal_environment(variables)?;
    let secret = owner.name.as_deref().unwrap_or_default();
    for secret in surroundings::secret_variables(surroundings, secret) {
        if variables.iter().all(|known| known.name != secret.name) {
            variables.push(secret);
        }
    }
    Some(variables)
}

#[cfg(test)]
mod waiting;

#[cfg(test)]
mod tests {
    use super::super::tests::{provision, settings};
    use super::super::{Provision, PullSecret, Surroundings};
    use super::*;
    use crate::config::{self, ByTenant, Compile, Proxy, RunAs};
    use crate::names::Digest;
    use crate::registry::Places;
    use crate::runtime::compile_agent::{CACHES, HOMES, PROGRAM};

    fn pod_of(change: impl FnOnce(&mut Order<'_>)) -> (Secret, Pod) {
        pod_with(&settings(), change)
    }

    fn pod_with(settings: &Settings, change: impl FnOnce(&mut Order<'_>)) -> (Secret, Pod) {
        let key = CompileKey::new(Digest::of(b"compile"));
        let tenant = Tenant::default_tenant();
        let image = "hyperledger/fabric-ccenv:2.5".parse().unwrap();
        let command = ["/bin/sh", "-c", "go build -o $OUT $(pwd)"].map(str::to_owned);
        let env = [("GOPROXY", "direct"), ("TMPDIR", "/elsewhere")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut order = Order {
            purpose: Purpose::Compile {
                key: &key,
                command: &command,
            },
            tenant: &tenant,
            image: &image,
            facts: &ImageFacts::default(),
            env: &env,
            working_dir: None,
            user: Some(0),
            resolution: &Resolution::default(),
        };
        change(&mut order);
        let mut secret = secret(&order, settings, &"the-token".into());
        secret.metadata.uid = Some("0b5f5a5c-1111-2222-3333-444455556666".to_owned());
        let pod = pod(&order, settings, &secret.metadata).unwrap();
        (secret, pod)
    }

    #[test]
    fn a_compile_in_the_builders_own_image() {
        insta::assert_yaml_snapshot!(pod_of(|_| {}).1);
    }

    #[test]
    fn a_builder_of_a_language_has_its_own_resources() {
        let quantities = |pairs: &[(&str, &str)]| -> config::Quantities {
            let pairs = pairs.iter();
            pairs
                .map(|(n, q)| ((*n).to_owned(), (*q).to_owned()))
                .collect()
        };
        let java = config::CompileOverride {
            image: "*fabric-javaenv*".into(),
            requests: quantities(&[("memory", "2Gi")]),
            limits: quantities(&[("memory", "8Gi"), ("example.com/gpu", "1")]),
        };
        let node = config::CompileOverride {
            image: "*fabric-nodeenv*".into(),
            limits: quantities(&[("memory", "256Mi")]),
            ..config::CompileOverride::default()
        };
        let section = Compile {
            overrides: vec![java, node],
            ..Compile::default()
        };
        let settings = Settings {
            provisions: ByTenant::from(Provision {
                compile_requests: section.requests_by_builder(None),
                compile_limits: section.limits_by_builder(None),
                ..provision()
            }),
            ..settings()
        };
        let resources = ["fabric-ccenv", "fabric-javaenv", "fabric-nodeenv"].map(|name| {
            let image: ImageName = format!("hyperledger/{name}:2.5").parse().unwrap();
            let image: &'static ImageName = Box::leak(Box::new(image));
            let spec = pod_with(&settings, |order| order.image = image).1.spec;
            spec.unwrap().containers.pop().unwrap().resources
        });
        insta::assert_yaml_snapshot!(resources);
    }

    #[test]
    fn what_surrounds_a_compile_travels_in_its_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bundle = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        std::fs::write(file.path(), bundle).unwrap();
        let section = Compile {
            ca_bundle: Some(file.path().to_owned()),
            proxy: Proxy {
                http: "http://me:secret@proxy:3128".to_owned(),
                https: "http://me:secret@proxy:3128".to_owned(),
                no: vec![".svc".to_owned()],
            },
            ..Compile::default()
        };
        let settings = Settings {
            surroundings: Surroundings::read(&section, "https://peitho.peitho.svc:8081").unwrap(),
            ..settings()
        };
        assert_ne!(*settings.compile_digest().general(), None);
        let own = vec![("https_proxy".to_owned(), "http://own".to_owned())];
        let (secret, pod) = pod_with(&settings, |order| order.env = own.leak());
        let data = secret.data.unwrap();
        assert_eq!(data["ca-bundle.pem"].0, bundle.as_bytes());
        assert_eq!(data["http-proxy"].0, b"http://me:secret@proxy:3128");
        assert!(!serde_json::to_string(&pod).unwrap().contains("secret@"));
        let spec = pod.spec.unwrap();
        insta::assert_yaml_snapshot!(serde_json::json!({
            "env": spec.containers[1].env.as_ref().unwrap()[HOMES.len() + CACHES.len()..],
            "mount": spec.containers[1].volume_mounts.as_ref().unwrap().last(),
            "volume": spec.volumes.unwrap().last(),
        }));
        let agent = serde_json::to_string(&spec.containers[0]).unwrap();
        assert!(
            !agent.contains("trust") && !agent.contains("PROXY"),
            "{agent}"
        );
    }

    #[test]
    fn a_platform_that_gives_the_users_is_left_to_it() {
        let settings = Settings {
            compile_run_as_user: RunAs::Platform,
            ..settings()
        };
        let (_, pod) = pod_with(&settings, |order| order.user = Some(1000));
        let context = pod.spec.unwrap().security_context.unwrap();
        let users = (context.run_as_user, context.run_as_group, context.fs_group);
        assert_eq!(users, (None, None, None));
        assert_eq!(context.run_as_non_root, Some(true));
    }

    #[test]
    fn a_builder_beside_what_is_built_is_pulled_with_the_same_login() {
        let settings = Settings {
            pull_secret: PullSecret::Named {
                name: "reader".to_owned(),
                repository: "r.example.com/fabric/chaincode".parse().unwrap(),
            },
            places: Places::of_config(&[config::Registry {
                host: "docker.io".to_owned(),
                replaced_by: Some("r.example.com/mirror".to_owned()),
                ..config::Registry::default()
            }]),
            ..settings()
        };
        let secrets = |settings: &Settings| {
            let spec = pod_with(settings, |_| {}).1.spec.unwrap();
            let secrets = spec.image_pull_secrets.into_iter().flatten();
            secrets.map(|it| it.name).collect::<Vec<_>>()
        };
        assert_eq!(secrets(&settings), ["registry", "reader"]);
        let elsewhere = Settings {
            places: Places::default(),
            ..settings
        };
        assert_eq!(secrets(&elsewhere), ["registry"]);
    }

    #[test]
    fn names_resolve_as_the_request_says() {
        let resolution = Resolution {
            dns: vec!["10.1.1.1".to_owned()],
            dns_search: vec!["example.com".to_owned()],
            extra_hosts: vec![("goproxy.example.com".to_owned(), "10.0.0.9".to_owned())],
        };
        let resolution: &'static Resolution = Box::leak(Box::new(resolution));
        let spec = pod_of(|order| order.resolution = resolution)
            .1
            .spec
            .unwrap();
        let dns = spec.dns_config.unwrap();
        assert_eq!(dns.nameservers.unwrap(), ["10.1.1.1"]);
        assert_eq!(dns.searches.unwrap(), ["example.com"]);
        let hosts = spec.host_aliases.unwrap();
        assert_eq!(hosts[0].ip, "10.0.0.9");
        assert_eq!(
            hosts[0].hostnames.as_deref().unwrap(),
            ["goproxy.example.com"]
        );
    }

    #[test]
    fn the_command_cannot_write_the_program_that_runs_it() {
        let spec = pod_of(|_| {}).1.spec.unwrap();
        let mounts = spec.containers[1].volume_mounts.clone().unwrap();
        let program = mounts
            .iter()
            .find(|it| it.mount_path == PROGRAM_DIRECTORY)
            .unwrap();
        assert_eq!(program.read_only, Some(true));
        let inside = |it: &VolumeMount| {
            it.mount_path != PROGRAM_DIRECTORY && PROGRAM.starts_with(&it.mount_path)
        };
        assert!(!mounts.iter().any(inside));
    }

    #[test]
    fn a_working_directory_and_a_user_are_taken_over() {
        let (_, pod) = pod_of(|order| {
            order.working_dir = Some("/root");
            order.user = Some(1000);
        });
        let spec = pod.spec.unwrap();
        assert_eq!(spec.containers[1].working_dir.as_deref(), Some("/root"));
        assert_eq!(spec.security_context.unwrap().run_as_user, Some(1000));
    }
}
