//! Section `images`.

use std::fmt;
use std::path::PathBuf;

use http::uri::Authority;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{Problems, Roles, RuntimeKind};
use crate::names::{self, Architecture, ImageName};

/// Images and the registries they come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Images {
    /// How the built program reaches its pod: see [its page](images.md).
    pub mode: ImageMode,
    /// The registry that built images are pushed to, where `mode` is `registry`.
    pub registry: BuiltRegistry,
    /// Registries that need more than an anonymous request over https.
    pub registries: Vec<Registry>,
    /// A file of logins as `docker login` writes it, and as a Secret of the type `kubernetes.io/dockerconfigjson` holds it under
    /// `.dockerconfigjson`: for `registry` and every other host, unless that has a `username` here. Read again whenever a login
    /// is needed.
    pub docker_config_file: Option<PathBuf>,
    /// The architecture of the nodes that run chaincode, such as `amd64` or `arm64`: images that are for several are taken for
    /// this one, and pods go to such nodes where no registry tells what their image is for. Unset: that of Peitho's own machine,
    /// and pods go wherever their image may run.
    #[schemars(with = "Option<String>")]
    pub architecture: Option<Architecture>,
}

/// How the built program reaches its pod (design D5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ImageMode {
    /// No registry: the pod runs the base image and fetches the new layer from Peitho.
    #[default]
    Delivery,
    /// What was built is pushed to `images.registry`, and the pod runs it from there, by its digest.
    Registry,
}

/// The registry that built images are pushed to. Base images behind it are read with the same login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BuiltRegistry {
    /// Host and port as in image names, for example `registry.example.com:5000`.
    pub address: String,
    /// Path in the registry, for example `fabric`: images become `address/project/chaincode`. Empty: `address/chaincode`.
    pub project: String,
    /// `http` or `https`.
    pub scheme: Scheme,
    /// The user, where the registry wants one.
    pub username: Option<String>,
    /// Its password. Better in a file: this one stands in the configuration for all who read it.
    pub password: Option<Password>,
    /// A file that holds the password and nothing else; a line end at its end is ignored.
    pub password_file: Option<PathBuf>,
    /// A PEM file with the certificates of authorities that are trusted for this registry, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The name of a Secret with which nodes pull from this registry, of the type `kubernetes.io/dockerconfigjson`, in every namespace
    /// with chaincode: for a user that only reads. Unset: one that Peitho writes there, with the login that pushes.
    pub pull_secret: Option<String>,
}

/// A password in the configuration. Neither `Debug` nor what is written of it shows it.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Password(#[schemars(with = "String")] SecretString);

impl Password {
    /// The password itself: for who logs in.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl From<&str> for Password {
    fn from(password: &str) -> Self {
        Self(password.into())
    }
}

/// Of one configuration with another: nobody waits for the answer who could learn from how long it takes.
impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// What an address is.
const ADDRESS: &str = "host or host:port as in image names, without a scheme, user or path";

const HIDDEN: &str = "(hidden)";

/// One registry, by the host that image names carry.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
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
    /// A PEM file with the certificates of authorities that are trusted for this registry, beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Where Peitho looks for images of this registry first, in this order: `host`, or `host/path`. Nodes are not told.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Where everybody takes images of this registry from instead, nodes too: `host`, or `host/path`. Peers keep their names.
    #[serde(default)]
    pub replaced_by: Option<String>,
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
    /// Where built images are pushed; `None` where they are not.
    pub fn pushed_to(&self) -> Option<&BuiltRegistry> {
        (self.mode == ImageMode::Registry).then_some(&self.registry)
    }

    /// What does not fit where `roles` say where containers run: the line for who starts it.
    pub fn misfit(&self, roles: Roles) -> Option<String> {
        let architecture = self.architecture.as_ref()?;
        let here = Architecture::word_for_this_machine();
        let runs_here = roles.use_runtime(RuntimeKind::Oci);
        (runs_here && architecture.as_str() != here).then(|| {
            format!(
                "images.architecture is {architecture}, and this machine, on which the runtime oci runs containers, is {here}: leave the key \
                 out, or set compile.runtime and chaincode.runtime to what runs {architecture}"
            )
        })
    }

    /// With the Secret that `instance` writes for nodes, and removes.
    pub(super) fn check(&self, instance: &str, problems: &mut Problems) {
        let own = instance
            .parse()
            .map(|it| names::kubernetes::pull_secret(&it));
        if let (Some(name), Ok(own)) = (&self.registry.pull_secret, own)
            && *name == own
        {
            let accepted = "a Secret of your own; Peitho writes and removes the one of this name";
            problems.add("images.registry.pullSecret", name, accepted);
        }
        for (index, registry) in self.registries.iter().enumerate() {
            let key = format!("images.registries[{index}]");
            registry.check(&key, problems);
            let earlier = &self.registries[..index];
            let spelled = ImageName::spelled_host;
            let host = spelled(&registry.host);
            let again = earlier.iter().any(|other| spelled(&other.host) == host)
                || (self.pushed_to()).is_some_and(|it| spelled(&it.address) == host);
            if again {
                let accepted = "each host once, here or as images.registry.address";
                problems.add(format!("{key}.host"), &registry.host, accepted);
            }
        }
        if let Some(file) = &self.docker_config_file
            && file.as_os_str().is_empty()
        {
            let accepted = "a file, as docker login writes it; or leave it out";
            problems.add("images.dockerConfigFile", file, accepted);
        }
        match self.pushed_to() {
            Some(registry) => registry.check(problems),
            None => self.registry.check_idle(problems),
        }
    }
}

impl BuiltRegistry {
    /// The repository of built images; `None` where address or project do not fit a name.
    pub fn repository(&self) -> Option<ImageName> {
        let project = match self.project.as_str() {
            "" => String::new(),
            project => format!("{project}/"),
        };
        let name: ImageName = format!("{}/{project}chaincode", self.address)
            .parse()
            .ok()?;
        self.has_host().then_some(name)
    }

    fn has_host(&self) -> bool {
        is_host(&self.address)
    }

    /// Nobody asks for it, and yet it is shown.
    fn check_idle(&self, problems: &mut Problems) {
        if self.address.contains('@') {
            self.refuse_address(problems);
        }
    }

    fn refuse_address(&self, problems: &mut Problems) {
        // A user in front of the host may come with a password.
        let shown = self.address.rsplit('@').next().unwrap_or_default();
        problems.add("images.registry.address", shown, ADDRESS);
    }

    fn check(&self, problems: &mut Problems) {
        let key = |name: &str| format!("images.registry.{name}");
        if self.address.is_empty() {
            let accepted = format!("{ADDRESS}, since images.mode is registry");
            problems.add(key("address"), &self.address, &accepted);
        } else if !self.has_host() {
            self.refuse_address(problems);
        } else if self.repository().is_none() {
            let accepted = "words of a-z, 0-9, ., _ and -, with / between them; or nothing";
            problems.add(key("project"), &self.project, accepted);
        }
        let Self {
            username,
            password,
            password_file,
            pull_secret,
            ..
        } = self;
        if (password.as_ref()).is_some_and(|it| it.0.expose_secret() == HIDDEN) {
            let accepted = "the password itself; this is what config show prints in its place";
            problems.add(key("password"), password, accepted);
        }
        if let Some(name) = pull_secret {
            problems.object_name(&key("pullSecret"), name);
        }
        match (username, password, password_file) {
            (_, Some(_), Some(file)) => {
                problems.add(
                    key("passwordFile"),
                    file,
                    "instead of password, not beside it",
                );
            }
            (Some(user), None, None) => {
                problems.add(
                    key("username"),
                    user,
                    "together with password or passwordFile",
                );
            }
            (None, Some(password), _) => {
                problems.add(key("password"), password, "together with username");
            }
            (None, None, Some(file)) => {
                problems.add(key("passwordFile"), file, "together with username");
            }
            _ => {}
        }
    }
}

/// Whether it is a host in an image's name too: there, one without dot and port is the path of another registry.
fn is_host(address: &str) -> bool {
    let name = format!("{address}/image").parse::<ImageName>();
    name.is_ok_and(|name| [name.registry(), "index.docker.io"].contains(&address))
}

/// Whether images can be below it.
fn is_place(place: &str) -> bool {
    let host = place.split('/').next().unwrap_or_default();
    is_host(host) && format!("{place}/image").parse::<ImageName>().is_ok()
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
        let mirrors = self.mirrors.iter().enumerate();
        let mirrors = mirrors.map(|(index, place)| (format!("mirrors[{index}]"), place));
        let replaced = self.replaced_by.iter();
        let replaced = replaced.map(|place| ("replacedBy".to_owned(), place));
        for (name, place) in mirrors.chain(replaced) {
            if !is_place(place) {
                let accepted = "host, host:port or host/path, without a scheme or user";
                let shown = place.rsplit('@').next().unwrap_or_default();
                problems.add(format!("{key}.{name}"), shown, accepted);
            }
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

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn load(yaml: &str) -> Option<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        Config::load(Some(file.path()), [], &[]).ok()
    }

    #[test]
    fn a_password_is_not_shown_and_what_is_shown_is_none() {
        for mode in ["delivery", "registry"] {
            let registry = "{address: r.io, username: me, password: hunter2}";
            let config = load(&format!("images: {{mode: {mode}, registry: {registry}}}")).unwrap();
            assert_eq!(
                config.images.registry.password,
                Some(super::Password::from("hunter2"))
            );
            let shown = config.to_yaml();
            assert!(!format!("{config:?} {shown}").contains("hunter2"));
            assert_eq!(load(&shown).is_none(), mode == "registry");
        }
    }
}
