//! Section `images`.

use std::path::PathBuf;

use http::uri::Authority;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// Images and the registries they come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Images {
    /// How the built program reaches its pod.
    pub mode: ImageMode,
    /// Registries that need more than an anonymous request over https.
    pub registries: Vec<Registry>,
}

/// How the built program reaches its pod (design D5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ImageMode {
    /// No registry: the pod runs the base image and fetches the new layer from Peitho.
    #[default]
    Delivery,
}

/// One registry, by the host that image names carry.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// Host and port as in image names, for example `registry.example.com:5000`.
    pub host: String,
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: Scheme,
    /// The user, where the registry wants one.
    #[serde(default)]
    pub username: Option<String>,
    /// A file that holds the password and nothing else; a line end at its end is ignored.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// The protocol of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    #[default]
    Https,
}

impl Images {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (index, registry) in self.registries.iter().enumerate() {
            let key = format!("images.registries[{index}]");
            registry.check(&key, problems);
            let earlier = &self.registries[..index];
            if earlier.iter().any(|other| other.host == registry.host) {
                let accepted = "each host once";
                problems.add(format!("{key}.host"), &registry.host, accepted);
            }
        }
    }
}

impl Registry {
    fn check(&self, key: &str, problems: &mut Problems) {
        let authority = self.host.parse::<Authority>();
        let plain = !self.host.contains(['@', '/']);
        if !plain || authority.is_err() {
            let accepted = "host or host:port, without a scheme, user or path";
            // A user in front of the host may come with a password.
            let shown = self.host.rsplit('@').next().unwrap_or_default();
            problems.add(format!("{key}.host"), shown, accepted);
        }
        match (&self.username, &self.password_file) {
            (Some(user), None) => {
                problems.add(
                    format!("{key}.username"),
                    user,
                    "together with passwordFile",
                );
            }
            (None, Some(file)) => {
                problems.add(
                    format!("{key}.passwordFile"),
                    file,
                    "together with username",
                );
            }
            _ => {}
        }
    }
}
