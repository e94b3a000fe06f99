//! The pod of one launch of a chaincode container (design D5, D8, D15): a record and the settings go in, a
//! Pod comes out. Pure; `chaincode` sends it.
//!
//! The pod runs the base image untouched. An init container fetches the one new layer from Peitho into a
//! volume, which is mounted where the layer's `ADD` went: entry by entry while they are few, so that
//! nothing of the base is hidden, else as a whole. Two differences from Docker remain: what is mounted is
//! read-only and belongs to the pod's user, and its directories carry the setgid bit. Where a registry has the
//! image whole, the pod runs that and fetches nothing.

use k8s_openapi::api::core::v1::{Container, KeyToPath, Pod, Volume, VolumeMount};

use super::Settings;
use super::platform;
use super::pull_secret;
use super::record::Record;
use super::template::{
    self, FILES_VOLUME, ReadOnlyRoot, agent_container, credentials_mount, credentials_volume,
    empty_dir, literal_all, literal_environment, mount, resources, secret_volume,
    some_unless_empty,
};
use crate::config::Quantities;
use crate::image_spec::{Layer, TopKind};
use crate::names::ImageName;
use crate::names::kubernetes as names;
use crate::runtime::compile_agent::CREDENTIALS;
use crate::runtime::{Error, HostSpec, process};

/// The main container of a chaincode pod.
pub(super) const MAIN: &str = "chaincode";

/// The init container of a chaincode pod.
pub(super) const INIT: &str = "fetch";
const LAYER_VOLUME: &str = "layer";
const LAYER: &str = "/run/peitho/layer";
/// Up to how many entries are mounted one by one: 20 cost 0.1 s (k8s-measurements §5).
const SINGLE_MOUNTS: usize = 20;

/// The pod that launches `record`.
///
/// # Errors
/// [`Error::Refused`] when the layer cannot be mounted, or the templates do not fit together.
pub(super) fn pod(record: &Record, settings: &Settings) -> Result<Pod, Error> {
    let spec = &record.spec;
    let owner = &record.metadata;
    let provision = settings.provisions.of(&spec.key.tenant);
    let requests = &provision.chaincode_requests;
    let Program {
        image,
        fetch,
        mut mounts,
        mut volumes,
    } = match &spec.whole {
        Some(image) => Program::whole(image),
        None => Program::fetched(record, settings)?,
    };
    mounts.extend(record.files.iter().map(|file| VolumeMount {
        sub_path: Some(file.key.clone()),
        read_only: Some(true),
        ..mount(FILES_VOLUME, &file.path)
    }));
    volumes.extend(files_volume(record));
    let env = spec.env.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let main = Container {
        name: MAIN.to_owned(),
        image: Some(image),
        image_pull_policy: Some(settings.image_pull_policy.as_str().to_owned()),
        command: spec.entrypoint.as_deref().map(literal_all),
        args: some_unless_empty(literal_all(&spec.args)),
        env: literal_environment(process::environment(env)),
        working_dir: spec.working_dir.clone(),
        resources: Some(resources(requests, &limits(&spec.host))),
        security_context: Some(template::security_context(
            match spec.host.read_only_root {
                true => ReadOnlyRoot::Yes,
                false => ReadOnlyRoot::No,
            },
            &spec.host.added_capabilities,
        )),
        volume_mounts: some_unless_empty(mounts),
        ..Container::default()
    };
    let user = process::user(spec.user, settings.chaincode_run_as_user);
    let mut pod_spec = template::pod_spec(settings, user);
    pod_spec.init_containers = fetch.map(|fetch| vec![fetch]);
    pod_spec.containers = vec![main];
    pod_spec.volumes = some_unless_empty(volumes);
    pod_spec.host_aliases = template::host_aliases(settings, &spec.host.extra_hosts);
    pod_spec.dns_config = template::dns_config(&spec.host.resolution());
    let name = names::pod(&record.name, &record.uid);
    let pod = Pod {
        metadata: template::pod_metadata(name, owner),
        spec: Some(pod_spec),
        status: None,
    };
    let pod = provision.templates.over_chaincode(spec, pod)?;
    let pod = pull_secret::pulling(pod, settings);
    Ok(platform::placed(pod, settings, &spec.base_facts))
}

/// The chaincode's program, and how it comes into the pod.
struct Program {
    image: String,
    fetch: Option<Container>,
    mounts: Vec<VolumeMount>,
    volumes: Vec<Volume>,
}

impl Program {
    /// All of it is in `image`.
    fn whole(image: &ImageName) -> Self {
        Self {
            image: image.full(),
            fetch: None,
            mounts: Vec::new(),
            volumes: Vec::new(),
        }
    }

    /// The layer is fetched, and mounted into the base.
    fn fetched(record: &Record, settings: &Settings) -> Result<Self, Error> {
        let spec = &record.spec;
        let fetch = agent_container(
            INIT,
            settings,
            fetch_args(&spec.layer, settings),
            &settings.provisions.of(&spec.key.tenant).chaincode_requests,
            vec![mount(LAYER_VOLUME, LAYER), credentials_mount()],
        );
        Ok(Self {
            image: platform::image(settings, &spec.base, &spec.base_facts),
            fetch: Some(fetch),
            mounts: layer_mounts(&spec.layer)?,
            volumes: vec![
                empty_dir(LAYER_VOLUME),
                credentials_volume(&record.metadata),
            ],
        })
    }
}

fn fetch_args(layer: &Layer, settings: &Settings) -> Vec<String> {
    let digest = layer.blob.digest.to_string();
    let destination = match layer.destination.as_str() {
        "" => "/",
        destination => destination,
    };
    let mut args: Vec<String> = [
        "agent",
        "fetch",
        "--address",
        &settings.delivery_address,
        "--digest",
        &digest,
        "--strip",
        destination,
        "--into",
        LAYER,
        "--credentials",
        CREDENTIALS,
    ]
    .map(str::to_owned)
    .into();
    // In one argument: a name may begin with a dash.
    if is_mounted_singly(layer) {
        args.extend(
            layer
                .entries
                .iter()
                .map(|entry| format!("--expect={}", entry.name)),
        );
    }
    args
}

/// Symbolic links cannot be mounted by `subPath`: those that are absolute or lead nowhere fail.
fn is_mounted_singly(layer: &Layer) -> bool {
    let entries = &layer.entries;
    entries.len() <= SINGLE_MOUNTS && entries.iter().all(|entry| entry.kind != TopKind::Symlink)
}

fn layer_mounts(layer: &Layer) -> Result<Vec<VolumeMount>, Error> {
    if is_mounted_singly(layer) {
        return Ok(layer
            .entries
            .iter()
            .map(|entry| VolumeMount {
                sub_path: Some(entry.name.clone()),
                read_only: Some(true),
                ..mount(
                    LAYER_VOLUME,
                    &format!("{}/{}", layer.destination, entry.name),
                )
            })
            .collect());
    }
    if layer.destination.is_empty() {
        return Err(Error::Refused(format!(
            "the image's layer adds {} entries to /: in delivery mode more than {SINGLE_MOUNTS}, or \
             symbolic links, need a directory of their own as the destination of ADD",
            layer.entries.len()
        )));
    }
    Ok(vec![VolumeMount {
        read_only: Some(true),
        ..mount(LAYER_VOLUME, &layer.destination)
    }])
}

/// The uploaded files, readable at least for the pod's group: they belong to root (protocol §7.3).
fn files_volume(record: &Record) -> Option<Volume> {
    let items: Vec<KeyToPath> = record
        .files
        .iter()
        .map(|file| KeyToPath {
            key: file.key.clone(),
            path: file.key.clone(),
            mode: Some(i32::try_from(file.mode & 0o777 | 0o440).unwrap_or(0o440)),
        })
        .collect();
    (!items.is_empty()).then(|| secret_volume(FILES_VOLUME, &record.metadata, items))
}

fn limits(host: &HostSpec) -> Quantities {
    let memory = host.memory.filter(|bytes| *bytes > 0);
    let cpu = host.cpu_millis.filter(|millis| *millis > 0);
    [
        memory.map(|bytes| ("memory".to_owned(), bytes.to_string())),
        cpu.map(|millis| ("cpu".to_owned(), format!("{millis}m"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{record, settings};
    use super::*;
    use crate::image_spec::{ImageFacts, TopEntry};
    use crate::registry::Logins;
    use crate::runtime::kubernetes::PullSecret;

    fn entries(names: &[(&str, TopKind)]) -> Vec<TopEntry> {
        names
            .iter()
            .map(|(name, kind)| TopEntry {
                name: (*name).to_owned(),
                kind: *kind,
            })
            .collect()
    }

    #[test]
    fn a_go_chaincode_with_tls() {
        insta::assert_yaml_snapshot!(pod(&record(), &settings()).unwrap());
    }

    #[test]
    fn the_base_is_the_one_that_was_built_on_and_runs_where_it_can() {
        let mut record = record();
        let digest = crate::names::Digest::of(b"base");
        record.spec.base_facts = ImageFacts {
            digest: Some(digest),
            place: Some(record.spec.base.clone()),
            architecture: Some("arm64".parse().unwrap()),
        };
        let spec = |record: &Record| pod(record, &settings()).unwrap().spec.unwrap();
        let fetched = spec(&record);
        let expected = format!("docker.io/hyperledger/fabric-baseos@{digest}");
        assert_eq!(fetched.containers[0].image, Some(expected));
        let affinity = serde_json::to_string(&fetched.affinity).unwrap();
        assert!(affinity.contains("arm64"), "{affinity}");
        record.spec.whole = Some(format!("r.io/a@{digest}").parse().unwrap());
        let whole = spec(&record);
        assert_eq!(whole.containers[0].image, Some(format!("r.io/a@{digest}")));
        assert_eq!(whole.affinity, fetched.affinity);
    }

    #[test]
    fn a_whole_image_is_run_as_it_is() {
        let digest = crate::names::Digest::of(b"manifest");
        let mut record = record();
        let whole = format!("registry.example.com/fabric/chaincode@{digest}");
        record.spec.whole = Some(whole.parse().unwrap());
        let pull_secret = PullSecret::Own {
            repository: "registry.example.com/fabric/chaincode".parse().unwrap(),
            logins: Logins::with("registry.example.com", "me", "a-word"),
        };
        let settings = Settings {
            pull_secret,
            ..settings()
        };
        let with_login = pod(&record, &settings).unwrap();
        insta::assert_yaml_snapshot!(with_login);
        record.files.clear();
        let spec = pod(&record, &super::super::tests::settings())
            .unwrap()
            .spec
            .unwrap();
        assert_eq!((spec.volumes, spec.init_containers), (None, None));
        assert_eq!(spec.image_pull_secrets.unwrap().len(), 1);
    }

    #[test]
    fn host_config_has_its_meaning() {
        let mut record = record();
        record.spec.entrypoint = Some(vec!["/start".to_owned(), "$HOME".to_owned()]);
        record.spec.working_dir = Some("/usr/local/src".to_owned());
        record.spec.user = Some(1000);
        record.files.clear();
        record.spec.host = HostSpec {
            memory: Some(32 << 20),
            cpu_millis: Some(5),
            dns: ["10.1.1.1", "fd00::53", "10.1.1.2"]
                .map(str::to_owned)
                .into(),
            dns_search: vec!["example.com".to_owned()],
            extra_hosts: vec![("peer0".to_owned(), "[fd00::1]".to_owned())],
            read_only_root: true,
            added_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        };
        let pod = pod(&record, &settings()).unwrap();
        let spec = pod.spec.unwrap();
        insta::assert_yaml_snapshot!(serde_json::json!({
            "main": spec.containers[0],
            "dnsConfig": spec.dns_config,
            "dnsPolicy": spec.dns_policy,
            "hostAliases": spec.host_aliases,
            "securityContext": spec.security_context,
            "volumes": spec.volumes.unwrap().len(),
        }));
    }

    #[test]
    fn entries_are_mounted_one_by_one_unless_a_link_or_their_number_forbids() {
        let mut layer = record().spec.layer;
        layer.entries = entries(&[("a b", TopKind::File), ("META-INF", TopKind::Directory)]);
        let paths = |layer: &Layer| -> Vec<_> {
            layer_mounts(layer)
                .unwrap()
                .into_iter()
                .map(|mount| (mount.mount_path, mount.sub_path))
                .collect()
        };
        assert_eq!(
            paths(&layer),
            [
                ("/usr/local/bin/a b".to_owned(), Some("a b".to_owned())),
                (
                    "/usr/local/bin/META-INF".to_owned(),
                    Some("META-INF".to_owned())
                ),
            ]
        );
        layer.entries = entries(&[("a", TopKind::File), ("l", TopKind::Symlink)]);
        assert_eq!(paths(&layer), [("/usr/local/bin".to_owned(), None)]);
        layer.entries = entries(&[("x", TopKind::File); 21]);
        assert_eq!(paths(&layer), [("/usr/local/bin".to_owned(), None)]);
        layer.destination.clear();
        assert!(matches!(layer_mounts(&layer), Err(Error::Refused(_))));
    }

    #[test]
    fn the_token_is_mounted_in_the_init_container_only() {
        let spec = pod(&record(), &settings()).unwrap().spec.unwrap();
        let main = serde_json::to_string(&spec.containers).unwrap();
        assert!(!main.contains("credentials"), "{main}");
    }
}
