//! The Secret with which nodes pull from the registry of what was built, where that wants a login: one that the operator made, or
//! one of the instance. Every pod of which an image is there names it: that of a whole chaincode, and those whose builder, base
//! or agent lies beside what is built. The instance's is written again before each of them, so that a new password reaches the
//! nodes with the next one, and a deleted Secret is no fault; it is removed at the start of a Peitho that needs none. One that
//! others wrote is left as it is, and the order refused. `pod` and `compile_pod` end with [`pulling`], `chaincode` and `compile`
//! see to it before they send a pod.

use std::collections::BTreeMap;

use base64::Engine as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{LocalObjectReference, Pod, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use secrecy::ExposeSecret as _;

use super::remove::{Grace, Ours, delete};
use super::{Kubernetes, Settings};
use crate::names::kubernetes as names;
use crate::names::{ImageName, InstanceName};
use crate::registry::{Login, Logins};
use crate::runtime::Error;

/// As Kubernetes calls such a Secret, and what it has to hold (k8s: `SecretTypeDockerConfigJson`).
const TYPE: &str = "kubernetes.io/dockerconfigjson";
const KEY: &str = ".dockerconfigjson";
/// The older form, which the kubelet reads too (k8s: `SecretTypeDockercfg`).
const OLD_TYPE: &str = "kubernetes.io/dockercfg";
/// Under this name Docker, and so the kubelet, keeps the login of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// With what nodes pull from the registry of what was built.
#[derive(Clone, Debug, Default)]
pub enum PullSecret {
    /// Nothing of its own.
    #[default]
    None,
    /// A Secret that somebody made for them.
    Named {
        /// Its name.
        name: String,
        /// Where built images are.
        repository: ImageName,
    },
    /// A Secret that Peitho writes.
    Own {
        /// Where built images are.
        repository: ImageName,
        /// These have the one for it.
        logins: Logins,
    },
}

impl PullSecret {
    /// What pods call it, and the registry that it is for.
    fn of_pods(&self, instance: &InstanceName) -> Option<(String, &str)> {
        let (name, repository) = match self {
            Self::None => return None,
            Self::Named { name, repository } => (name.clone(), repository),
            Self::Own { repository, .. } => (names::pull_secret(instance), repository),
        };
        Some((name, repository.registry()))
    }
}

/// `pod`, with the Secret where a node pulls one of its images with that.
pub(super) fn pulling(mut pod: Pod, settings: &Settings) -> Pod {
    if let Some((name, registry)) = settings.pull_secret.of_pods(&settings.instance)
        && let Some(spec) = &mut pod.spec
        && has_image_of(spec, registry)
    {
        let secrets = spec.image_pull_secrets.get_or_insert_default();
        if secrets.iter().all(|it| it.name != name) {
            secrets.push(LocalObjectReference { name });
        }
    }
    pod
}

/// Whether one of the images is at `registry`, those that templates added too.
fn has_image_of(spec: &PodSpec, registry: &str) -> bool {
    let containers = spec.init_containers.iter().flatten();
    let images = containers.chain(&spec.containers).map(|it| &it.image);
    let volumes = spec.volumes.iter().flatten();
    let volumes = volumes.filter_map(|it| Some(&it.image.as_ref()?.reference));
    let mut names = images.chain(volumes).flatten();
    names.any(|name| (name.parse::<ImageName>()).is_ok_and(|name| name.registry() == registry))
}

/// What the kubelet reads.
fn document(host: &str, login: &Login) -> Vec<u8> {
    let host = match host {
        "docker.io" => DOCKER_HUB,
        host => host,
    };
    let (username, password) = (&login.username, login.password.expose_secret());
    let both = format!("{username}:{password}");
    let auth = base64::engine::general_purpose::STANDARD.encode(both);
    let login = serde_json::json!({"username": username, "password": password, "auth": auth});
    serde_json::json!({"auths": {host: login}})
        .to_string()
        .into_bytes()
}

/// Peitho's own, with `login` for `host`.
fn secret(settings: &Settings, host: &str, login: &Login) -> Secret {
    let description = format!(
        "With this login nodes pull images from {host}. Peitho writes it before each pod that has one"
    );
    Secret {
        metadata: ObjectMeta {
            name: Some(names::pull_secret(&settings.instance)),
            labels: Some(names::instance_labels(&settings.instance)),
            annotations: Some(BTreeMap::from([(
                names::DESCRIPTION.to_owned(),
                description,
            )])),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(BTreeMap::from([(
            KEY.to_owned(),
            ByteString(document(host, login)),
        )])),
        ..Secret::default()
    }
}

impl Kubernetes {
    /// Sees to it that the pull secret is as it should be, where `pod` needs it: the kubelet only warns of one that is missing, and
    /// then is denied.
    pub(super) async fn see_to_pull_secret(&self, pod: &Pod) -> Result<(), Error> {
        let Settings {
            pull_secret,
            instance,
            ..
        } = &self.settings;
        let registry = pull_secret.of_pods(instance).map(|(_, registry)| registry);
        let is_needed = (registry.zip(pod.spec.as_ref()))
            .is_some_and(|(registry, spec)| has_image_of(spec, registry));
        if !is_needed {
            return Ok(());
        }
        match pull_secret {
            PullSecret::None => Ok(()),
            PullSecret::Named { name, repository } => {
                self.check_pull_secret(name, repository.registry()).await
            }
            PullSecret::Own { repository, logins } => match logins.of(repository).await {
                Some(login) => self.write_pull_secret(repository.registry(), &login).await,
                // The file of logins has it no more: what the nodes had may still be good.
                None => Ok(()),
            },
        }
    }

    async fn check_pull_secret(&self, name: &str, registry: &str) -> Result<(), Error> {
        let read = self.requests.call(|| self.secrets.get_opt(name)).await;
        let read = read.map_err(|failure| failure.into_error(&format!("reading secret {name}")))?;
        let namespace = &self.settings.namespace;
        let told = |what: String| {
            Err(Error::Refused(format!(
                "secret {name}, with which nodes pull from {registry} by images.registry.pullSecret, {what}; make it with `kubectl create \
                 secret docker-registry {name} --namespace {namespace}`"
            )))
        };
        let Some(secret) = read else {
            return told(format!("is not in namespace {namespace}"));
        };
        match secret.type_.as_deref() {
            Some(TYPE | OLD_TYPE) => Ok(()),
            kind => told(format!(
                "is of the type {} in namespace {namespace}, not {TYPE}",
                kind.unwrap_or("Opaque")
            )),
        }
    }

    async fn write_pull_secret(&self, host: &str, login: &Login) -> Result<(), Error> {
        let secret = secret(&self.settings, host, login);
        let name = names::pull_secret(&self.settings.instance);
        // Without force: what somebody else wrote there is a conflict.
        let (params, patch) = (PatchParams::apply(names::MANAGER), Patch::Apply(secret));
        let written = self
            .requests
            .call(|| self.secrets.patch(&name, &params, &patch))
            .await;
        match written {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_conflict() => Err(Error::Refused(format!(
                "secret {name}, the login of the nodes, was written by somebody else; remove or rename it, or give this Peitho \
                 another kubernetes.instance"
            ))),
            Err(failure) => {
                Err(failure.into_error(&format!("writing secret {name}, the login of the nodes")))
            }
        }
    }

    /// Removes the pull secret that an earlier Peitho of this instance wrote, where this one writes none: it is a password that
    /// nobody needs. That it cannot be removed is told.
    pub async fn remove_idle_pull_secret(&self) {
        if matches!(self.settings.pull_secret, PullSecret::Own { .. }) {
            return;
        }
        let (name, namespace) = (
            names::pull_secret(&self.settings.instance),
            &self.settings.namespace,
        );
        // It may have become the operator's: pods of every image are told to use it.
        if self.settings.image_pull_secrets.contains(&name) {
            return;
        }
        match self.remove_pull_secret(&name).await {
            Ok(true) => tracing::info!(
                secret = name,
                namespace,
                "the login of the nodes for the registry of built images is removed: by this configuration no new pod needs it"
            ),
            Ok(false) => {}
            Err(error) => tracing::warn!(
                secret = name, namespace, %error,
                "the login of the nodes, which no new pod needs, cannot be removed"
            ),
        }
    }

    /// Whether there was one of ours.
    async fn remove_pull_secret(&self, name: &str) -> Result<bool, Error> {
        let read = self.requests.call(|| self.secrets.get_metadata_opt(name));
        let read = read.await;
        let read = read.map_err(|failure| failure.into_error(&format!("reading secret {name}")))?;
        // What carries other labels, under the same name, is somebody else's.
        let ours = read.and_then(|it| Ours::of(&it.metadata, &self.settings.instance).ok());
        let Some(ours) = ours else {
            return Ok(false);
        };
        delete(&self.requests, &self.secrets, &ours, Grace::Own).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn a_login_becomes_what_the_kubelet_reads() {
        for (host, key) in [
            ("registry.example.com:5000", "registry.example.com:5000"),
            ("docker.io", "https://index.docker.io/v1/"),
        ] {
            let login = Login {
                username: "me".to_owned(),
                password: "h\"unter2".into(),
            };
            let made = secret(&settings(), host, &login);
            assert_eq!(made.type_.as_deref(), Some(TYPE));
            let document: serde_json::Value =
                serde_json::from_slice(&made.data.unwrap()[KEY].0).unwrap();
            let login = &document["auths"][key];
            assert_eq!(login["username"], "me");
            assert_eq!(login["password"], "h\"unter2");
            assert_eq!(login["auth"], "bWU6aCJ1bnRlcjI=");
        }
    }

    #[test]
    fn pods_call_it_by_its_name_and_it_shows_no_password() {
        let own = PullSecret::Own {
            repository: "r.io/fabric/chaincode".parse().unwrap(),
            logins: Logins::with("r.io", "me", "hunter2"),
        };
        assert!(!format!("{own:?}").contains("hunter2"));
        let named = PullSecret::Named {
            name: "reader".to_owned(),
            repository: "r.io:5000/chaincode".parse().unwrap(),
        };
        let instance = InstanceName::default();
        let of = |it: &PullSecret| {
            let found = it.of_pods(&instance);
            found.map(|(name, registry)| format!("{name} for {registry}"))
        };
        assert_eq!(of(&own).as_deref(), Some("peitho-pull for r.io"));
        assert_eq!(of(&named).as_deref(), Some("reader for r.io:5000"));
        assert_eq!(of(&PullSecret::None), None);
    }

    #[test]
    fn who_pulls_from_the_registry_has_it_whatever_is_pulled() {
        let settings = Settings {
            pull_secret: PullSecret::Named {
                name: "reader".to_owned(),
                repository: "r.io:5000/fabric/chaincode".parse().unwrap(),
            },
            ..settings()
        };
        let secrets = |spec: serde_json::Value| {
            let pod = serde_json::from_value(serde_json::json!({"spec": spec})).unwrap();
            let secrets = pulling(pod, &settings).spec.unwrap().image_pull_secrets;
            let names = secrets.into_iter().flatten().map(|it| it.name);
            names.collect::<Vec<_>>()
        };
        let container = |image: &str| serde_json::json!([{"name": "a", "image": image}]);
        let elsewhere = container("docker.io/r.io/a");
        let pinned = format!("r.io:5000/a/b@{}", crate::names::Digest::of(b"x"));
        for image in ["r.io:5000/a:1", &pinned] {
            let main = serde_json::json!({"containers": container(image)});
            assert_eq!(secrets(main), ["reader"], "{image}");
            let init =
                serde_json::json!({"initContainers": container(image), "containers": elsewhere});
            assert_eq!(secrets(init), ["reader"], "{image}");
            let volumes = serde_json::json!([{"name": "v", "image": {"reference": image}}]);
            let volume = serde_json::json!({"containers": elsewhere, "volumes": volumes});
            assert_eq!(secrets(volume), ["reader"], "{image}");
        }
        let named = serde_json::json!([{"name": "reader"}, {"name": "x"}]);
        let twice =
            serde_json::json!({"imagePullSecrets": named, "containers": container("r.io:5000/a")});
        assert_eq!(secrets(twice), ["reader", "x"]);
        for other in ["r.io/a", "docker.io/r.io/a", "r.io:5000", "not a name"] {
            let found = secrets(serde_json::json!({"containers": container(other)}));
            assert!(found.is_empty(), "{other}");
        }
    }
}
