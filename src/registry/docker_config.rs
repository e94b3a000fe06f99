//! The file in which Docker's clients keep logins, and that a Secret of the type `kubernetes.io/dockerconfigjson` holds: read
//! into users and passwords by registry. `logins` reads the file. Pure. No message repeats what the file has but names of its
//! entries: the rest of it are secrets, and a parser's own words may quote them.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::access::spelled;
use super::logins::Login;
use crate::names::ImageName;

/// Docker pads, other tools do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(String);

/// The logins of one file, those of longer paths first.
#[derive(Default)]
pub(super) struct DockerConfig(Vec<(Place, Login)>);

/// For which images a login is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// As image names carry it.
    host: String,
    /// The beginning of repositories; empty for all of them.
    path: String,
    /// Written as a host, or with scheme and version as Docker Hub's is.
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Plain,
    Url,
}

/// One of `auths`. Docker's clients write `auth`, `kubectl` both.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    identitytoken: Option<SecretString>,
    registrytoken: Option<SecretString>,
}

impl DockerConfig {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let document: Value = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Malformed(format!("it is not JSON, at line {line}, column {column}"))
        })?;
        let no_logins = || {
            Malformed("it has no auths with registries in it, as `docker login` and `kubectl create secret docker-registry` write them".to_owned())
        };
        let document = document.as_object().ok_or_else(no_logins)?;
        for helper in ["credsStore", "credHelpers"] {
            if is_set(document.get(helper)) {
                return Err(Malformed(format!(
                    "{helper} names a program that keeps the passwords, which does not run here; make a file that has them itself, with \
                     `kubectl create secret docker-registry`, or use images.registries with a passwordFile"
                )));
            }
        }
        let auths = document.get("auths").and_then(Value::as_object);
        let mut logins = Vec::new();
        for (key, entry) in auths.ok_or_else(no_logins)? {
            // A user in front of the host may come with a password.
            let shown = key.rsplit('@').next().unwrap_or_default();
            let told = |what: &str| Malformed(format!("auths has an entry {shown:?} {what}"));
            let place = Place::of(key).ok_or_else(|| {
                told("that is no registry; accepted: host, host:port, host/path or https://host/v1/, without patterns")
            })?;
            let entry: Entry = serde_json::from_value(entry.clone())
                .map_err(|_| told("in which something is not text"))?;
            if let Some(login) = entry.login().map_err(told)? {
                logins.push((place, login));
            }
        }
        // What is written plainly comes before what only means the same.
        logins.sort_by(|(one, _), (other, _)| {
            let length = other.path.len().cmp(&one.path.len());
            length.then(one.form.cmp(&other.form))
        });
        Ok(Self(logins))
    }

    /// The login for `image`: of several that fit, the one with the longest path.
    pub(super) fn of(&self, image: &ImageName) -> Option<&Login> {
        let found = self.0.iter().find(|(place, _)| place.has(image));
        found.map(|(_, login)| login)
    }
}

/// Whether there is something in it.
fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(map)) => *map != Map::new(),
        Some(_) => true,
    }
}

impl Place {
    /// As Docker and the kubelet read a key: with or without a scheme, with or without the version of the registry's API.
    fn of(key: &str) -> Option<Self> {
        let (form, rest) = match key.split_once("://") {
            Some(("http" | "https", rest)) => (Form::Url, rest),
            Some(_) => return None,
            None => (Form::Plain, key),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let path = match path {
            "v1" | "v2" => "",
            path => path,
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        if host.is_empty() || !host.chars().all(is_host) || path.contains('*') {
            return None;
        }
        Some(Self {
            host: spelled(host),
            path: path.to_owned(),
            form,
        })
    }

    fn has(&self, image: &ImageName) -> bool {
        let rest = image.repository().strip_prefix(self.path.as_str());
        let is_below = rest
            .is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'));
        self.host == image.registry() && is_below
    }
}

impl Entry {
    /// `None` where the entry says only that somebody was logged in once.
    fn login(self) -> Result<Option<Login>, &'static str> {
        let set = |token: &Option<SecretString>| {
            token
                .as_ref()
                .is_some_and(|it| !it.expose_secret().is_empty())
        };
        if set(&self.identitytoken) || set(&self.registrytoken) {
            return Err(
                "with a token in place of a password, which is not supported; log in with a user and an access token as its password",
            );
        }
        if set(&self.auth) {
            let auth = self.auth.unwrap_or_default();
            return Ok(Some(
                decoded(&auth).ok_or("whose auth is not the base64 of user:password")?,
            ));
        }
        match (self.username, self.password) {
            (Some(username), Some(password)) if !username.is_empty() => {
                Ok(Some(Login { username, password }))
            }
            (Some(username), _) if !username.is_empty() => Err("with a username and no password"),
            (_, Some(password)) if !password.expose_secret().is_empty() => {
                Err("with a password and no username")
            }
            _ => Ok(None),
        }
    }
}

fn decoded(auth: &SecretString) -> Option<Login> {
    let bytes = BASE64.decode(auth.expose_secret().trim()).ok()?;
    let text = SecretString::from(String::from_utf8(bytes).ok()?);
    let (username, password) = text.expose_secret().split_once(':')?;
    Some(Login {
        username: username.to_owned(),
        // Some versions of Docker's client fill up with these.
        password: SecretString::from(password.trim_matches('\0')),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(document: &Value) -> Result<DockerConfig, Malformed> {
        DockerConfig::parse(document.to_string().as_bytes())
    }

    fn of(config: &DockerConfig, image: &str) -> Option<(String, String)> {
        let login = config.of(&image.parse().unwrap())?;
        let password = login.password.expose_secret().to_owned();
        Some((login.username.clone(), password))
    }

    fn login(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn what_docker_and_kubectl_write_is_read() {
        let both = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let config = parse(&json!({
            "auths": {
                // docker login
                "https://index.docker.io/v1/": {"auth": both("hub:pass:word")},
                "r.example.com:5000": {"auth": both("docker:one").trim_end_matches('=')},
                // kubectl create secret docker-registry
                "https://k.example.com": {"username": "kubectl", "password": "two", "email": "a@b.c", "auth": both("kubectl:two")},
                "k.example.com/v2/": {"username": "kubectl", "password": "plainly"},
                // podman, for one part of a registry
                "r.example.com:5000/team/a": {"auth": both("team:three\0\0")},
                "[fd00::1]:5000": {"username": "six", "password": ""},
                // docker logout leaves these
                "gone.example.com": {},
            },
            "HttpHeaders": {"User-Agent": "Docker-Client"},
            "credHelpers": {}, "credsStore": "",
        }))
        .unwrap();
        for (image, expected) in [
            ("hyperledger/fabric-ccenv:2.5", login("hub", "pass:word")),
            ("index.docker.io/a/b", login("hub", "pass:word")),
            ("r.example.com:5000/a/b", login("docker", "one")),
            ("r.example.com:5000/team/a", login("team", "three")),
            ("r.example.com:5000/team/a/b:1", login("team", "three")),
            ("r.example.com:5000/team/ab", login("docker", "one")),
            ("r.example.com/a", None),
            ("k.example.com/a", login("kubectl", "plainly")),
            ("[fd00::1]:5000/a", login("six", "")),
            ("gone.example.com/a", None),
        ] {
            assert_eq!(of(&config, image), expected, "{image}");
        }
    }

    #[test]
    fn what_is_no_login_is_told_by_its_entry_and_shows_no_secret() {
        let entry = |entry: Value| json!({"auths": {"r.example.com": entry}});
        for (document, told) in [
            (json!(["hunter2"]), "has no auths"),
            (
                json!({"r.example.com": {"auth": "hunter2"}}),
                "has no auths",
            ),
            (json!({"auths": ["hunter2"]}), "has no auths"),
            (
                json!({"auths": {}, "credsStore": "desktop"}),
                "credsStore names a program",
            ),
            (
                json!({"auths": {}, "credHelpers": {"r.io": "ecr-login"}}),
                "credHelpers names a program",
            ),
            (
                entry(json!("hunter2")),
                "\"r.example.com\" in which something is not text",
            ),
            (
                entry(json!({"password": ["hunter2"]})),
                "\"r.example.com\" in which something is not text",
            ),
            (
                entry(json!({"auth": "hunter2!"})),
                "\"r.example.com\" whose auth is not the base64",
            ),
            (
                entry(json!({"auth": "aHVudGVyMg=="})),
                "\"r.example.com\" whose auth is not the base64",
            ),
            (
                entry(json!({"username": "me"})),
                "\"r.example.com\" with a username and no password",
            ),
            (
                entry(json!({"password": "hunter2"})),
                "\"r.example.com\" with a password and no username",
            ),
            (
                entry(json!({"auth": "", "identitytoken": "hunter2"})),
                "\"r.example.com\" with a token in place",
            ),
            (
                entry(json!({"registrytoken": "hunter2"})),
                "\"r.example.com\" with a token in place",
            ),
            (
                json!({"auths": {"*.example.com": {}}}),
                "\"*.example.com\" that is no registry",
            ),
            (
                json!({"auths": {"ftp://r.io": {}}}),
                "\"ftp://r.io\" that is no registry",
            ),
            (json!({"auths": {"": {}}}), "\"\" that is no registry"),
            (
                json!({"auths": {"https://me:hunter2@r.io/v1/": {}}}),
                "\"r.io/v1/\" that is no registry",
            ),
        ] {
            let error = parse(&document).err().unwrap().to_string();
            assert!(error.contains(told), "{document}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = DockerConfig::parse(b"{\n\"auths\": hunter2}")
            .err()
            .unwrap();
        assert_eq!(error.to_string(), "it is not JSON, at line 2, column 10");
    }
}
