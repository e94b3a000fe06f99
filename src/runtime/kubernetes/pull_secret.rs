//! The login with which nodes pull what was built, where its registry wants one: a Secret of the instance, written again
//! before each launch that needs it, so that a new password reaches the nodes with the next launch, and a deleted Secret is
//! no fault. One that others wrote is left as it is, and the launch refused. `chaincode` calls it; `pod` names it in its pods.

use std::collections::BTreeMap;

use base64::Engine as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Kubernetes, Settings};
use crate::names::kubernetes as names;
use crate::runtime::Error;

/// As Kubernetes calls such a Secret, and what it has to hold (k8s: `SecretTypeDockerConfigJson`).
const TYPE: &str = "kubernetes.io/dockerconfigjson";
const KEY: &str = ".dockerconfigjson";
/// Under this name Docker, and so the kubelet, keeps the login of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// User and password for a registry.
#[derive(Clone, Debug)]
pub struct PullLogin {
    /// Host and port as image names carry them.
    pub host: String,
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

impl PullLogin {
    fn document(&self) -> Vec<u8> {
        let host = match self.host.as_str() {
            "docker.io" => DOCKER_HUB,
            host => host,
        };
        let (username, password) = (&self.username, self.password.expose_secret());
        let both = format!("{username}:{password}");
        let auth = base64::engine::general_purpose::STANDARD.encode(both);
        let login = serde_json::json!({"username": username, "password": password, "auth": auth});
        serde_json::json!({"auths": {host: login}})
            .to_string()
            .into_bytes()
    }
}

/// The Secret, where there is a login.
fn secret(settings: &Settings) -> Option<Secret> {
    let login = settings.pull_login.as_ref()?;
    let description = format!(
        "With this login nodes pull chaincode from {}. Peitho writes it before each launch",
        login.host
    );
    Some(Secret {
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
            ByteString(login.document()),
        )])),
        ..Secret::default()
    })
}

impl Kubernetes {
    /// Sees to it that the pull secret is as it should be.
    pub(super) async fn renew_pull_secret(&self) -> Result<(), Error> {
        let Some(secret) = secret(&self.settings) else {
            return Ok(());
        };
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
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn a_login_becomes_what_the_kubelet_reads() {
        assert!(secret(&settings()).is_none());
        for (host, key) in [
            ("registry.example.com:5000", "registry.example.com:5000"),
            ("docker.io", "https://index.docker.io/v1/"),
        ] {
            let login = PullLogin {
                host: host.to_owned(),
                username: "me".to_owned(),
                password: "h\"unter2".into(),
            };
            let settings = Settings {
                pull_login: Some(login),
                ..settings()
            };
            assert!(!format!("{settings:?}").contains("unter2"));
            let made = secret(&settings).unwrap();
            assert_eq!(made.type_.as_deref(), Some(TYPE));
            let document: serde_json::Value =
                serde_json::from_slice(&made.data.unwrap()[KEY].0).unwrap();
            let login = &document["auths"][key];
            assert_eq!(login["username"], "me");
            assert_eq!(login["password"], "h\"unter2");
            assert_eq!(login["auth"], "bWU6aCJ1bnRlcjI=");
        }
    }
}
