//! Image names as clients spell them, made comparable: inspect and create use the raw configured string,
//! pull a normalised one (protocol §3.3), and both mean one image.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Digest, InvalidName};

/// A reference to an image in canonical form: registry host, repository, and a tag or digest.
///
/// `busybox`, `docker.io/busybox` and `docker.io/library/busybox:latest` are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    registry: String,
    repository: String,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Version {
    Tag(String),
    Digest(Digest),
}

const DOCKER_HUB: &str = "docker.io";
const RULE: &str = "[host[:port]/]name[/name...][:tag|@sha256:...]";

impl ImageName {
    /// Host and port of the registry, `docker.io` where none was named.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository without its registry, for example `hyperledger/fabric-ccenv`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest, where the reference is pinned to one.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Digest(digest) => Some(digest),
            Version::Tag(_) => None,
        }
    }

    /// The tag, where the reference is not pinned to a digest.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The same repository at another tag or digest (`sha256:…`), as the `tag` query of
    /// `POST /images/create` gives it.
    ///
    /// # Errors
    /// When `version` is neither a tag nor a digest.
    pub fn at(&self, version: &str) -> Result<Self, InvalidName> {
        let version = match version.parse() {
            Ok(digest) => Version::Digest(digest),
            Err(_) => Version::Tag(tag(version)?),
        };
        Ok(Self {
            version,
            ..self.clone()
        })
    }

    /// Whether `other` is in the same repository of the same registry.
    pub fn is_beside(&self, other: &Self) -> bool {
        (&self.registry, &self.repository) == (&other.registry, &other.repository)
    }

    /// `host` of a registry as names have it: Docker Hub has several.
    pub fn spelled_host(host: &str) -> &str {
        match host {
            // The last is where Docker's own client pulls from.
            "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            host => host,
        }
    }

    /// The same repository and version in another `place`, a host with or without the beginning of a path.
    ///
    /// # Errors
    /// When `place` is none.
    pub fn below(&self, place: &str) -> Result<Self, InvalidName> {
        format!("{place}/{}{}", self.repository, self.version).parse()
    }

    /// Whether this has the form that peers give to the images they build: one component without
    /// registry and tag, ending in `-` and 64 hexadecimal digits (protocol §5.1). Such an image exists
    /// only if Peitho built it; any other name is a builder or runtime image of some registry.
    pub fn is_chaincode(&self) -> bool {
        let Some(name) = self.familiar_repository() else {
            return false;
        };
        self.version == Version::Tag("latest".to_owned())
            && !name.contains('/')
            && name.rsplit_once('-').is_some_and(|(_, hash)| {
                hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            })
    }

    /// The tag under which people find the built image of this name with the manifest `digest` in a registry:
    /// `dev-peer0.org1.example.com-basic_1.0-0123456789ab`. Without the hashes that peers put at the end, and never moved:
    /// another image has another tag.
    pub fn pushed_tag(&self, digest: &Digest) -> String {
        /// What a tag may have, less a dash and the digest's beginning.
        const MOST: usize = 128 - 13;
        let readable = self.readable();
        // The label is at the end, so that stays. Names are ASCII.
        let readable = &readable[readable.len().saturating_sub(MOST)..];
        let readable = readable.trim_start_matches(['.', '-']);
        format!("{readable}-{}", &digest.hex()[..12])
    }

    /// The last part of the repository without the hashes that peers put at the end: `dev-peer0.org1.example.com-basic_1.0`.
    pub fn readable(&self) -> &str {
        let mut readable = self.repository.rsplit('/').next().unwrap_or_default();
        while let Some((rest, last)) = readable.rsplit_once('-')
            && is_hash(last)
        {
            readable = rest;
        }
        readable
    }

    /// The hash of the package that a chaincode image of a 2.x peer is of: it stands before the hash at the end (protocol §5.1).
    /// None for those of 1.4, which have no package hash.
    pub fn package_hash(&self) -> Option<&str> {
        let (rest, last) = self.repository.rsplit_once('-')?;
        let (_, hash) = rest.rsplit_once('-')?;
        (self.is_chaincode() && is_hash(last) && is_hash(hash)).then_some(hash)
    }

    /// The hexadecimal digits of `sha256:3f2a…` or `3f2a…`: what a person may mean by the beginning of an image's id.
    pub fn as_id_prefix(&self) -> Option<&str> {
        let repository = self.familiar_repository()?;
        let digits = match (repository, self.tag()?) {
            ("sha256", digits) => digits,
            (digits, "latest") => digits,
            _ => return None,
        };
        let fits = (4..=64).contains(&digits.len())
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        fits.then_some(digits)
    }

    /// The repository as people write it, where the registry is Docker Hub and that names no other image: what has a
    /// further slash needs its `library/`, and one that begins like a host its `docker.io/`.
    fn familiar_repository(&self) -> Option<&str> {
        let name = (self.repository.strip_prefix("library/"))
            .filter(|name| !name.contains('/'))
            .unwrap_or(&self.repository);
        let reads_as_host = name.split_once('/').is_some_and(|(it, _)| is_host(it));
        (self.registry == DOCKER_HUB && !reads_as_host).then_some(name)
    }

    /// The familiar form without tag and digest: `busybox`, `r.example.com/a`.
    pub fn familiar(&self) -> String {
        match self.familiar_repository() {
            Some(repository) => repository.to_owned(),
            None => format!("{}/{}", self.registry, self.repository),
        }
    }

    /// The repository of which [`familiar`](Self::familiar) is the text; its tag is `latest`.
    ///
    /// # Errors
    /// When it is no such text, which has neither tag nor digest.
    pub fn of_familiar(text: &str) -> Result<Self, InvalidName> {
        const RULE: &str = "[host/]name[/name...] without tag and digest";
        match text.parse() {
            Ok(name) if !text.contains([':', '@']) => Ok(name),
            _ => Err(InvalidName::new("repository", text, RULE)),
        }
    }

    /// The reference as the container runtime of a node takes it: never shortened.
    pub fn full(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// The familiar form: without `docker.io/` and `library/`, always with tag or digest.
impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.familiar(), self.version)
    }
}

impl FromStr for ImageName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("image name", text, RULE);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let (name, tagged) = match name.rsplit_once(':') {
            Some((name, tagged)) if !tagged.contains('/') => (name, Some(tag(tagged)?)),
            _ => (name, None),
        };
        let version = match (digest, tagged) {
            (Some(digest), _) => Version::Digest(digest),
            (None, Some(tag)) => Version::Tag(tag),
            (None, None) => Version::Tag("latest".to_owned()),
        };
        let (registry, path) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path),
            _ => (DOCKER_HUB, name),
        };
        let registry = if registry == "index.docker.io" {
            DOCKER_HUB
        } else {
            registry
        };
        if !host_fits(registry) || text.len() > 1024 || !path.split('/').all(component_fits) {
            return Err(invalid());
        }
        let repository = if registry == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            version,
        })
    }
}

impl TryFrom<String> for ImageName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.full()
    }
}

fn tag(text: &str) -> Result<String, InvalidName> {
    let mut bytes = text.bytes();
    let fits = text.len() <= 128
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(InvalidName::new(
            "image tag",
            text,
            "up to 128 characters out of A-Z, a-z, 0-9, _, . and -",
        ))
    }
}

/// 64 hexadecimal digits.
fn is_hash(part: &str) -> bool {
    part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether the first part of a name is a registry, by Docker's rule.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

/// A host as registries have them, with or without a port: `.` and `:` alone make none.
fn host_fits(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let numeric =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let bracketed = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    port.is_none_or(numeric)
        && match bracketed {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => name.split('.').all(label_fits),
        }
}

fn label_fits(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && (label.bytes()).all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn component_fits(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !component.is_empty()
        && component.bytes().next().is_some_and(alphanumeric)
        && component.bytes().next_back().is_some_and(alphanumeric)
        && component
            .bytes()
            .all(|b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_inspect_and_pull_are_one_image() {
        for (raw, normalised) in [
            (
                "hyperledger/fabric-ccenv:2.5",
                "docker.io/hyperledger/fabric-ccenv:2.5",
            ),
            ("busybox", "docker.io/library/busybox:latest"),
            (
                "index.docker.io/hyperledger/fabric-ccenv",
                "hyperledger/fabric-ccenv:latest",
            ),
        ] {
            assert_eq!(raw.parse::<ImageName>(), normalised.parse(), "{raw}");
        }
    }

    #[test]
    fn display_is_familiar_and_full_is_not() {
        let name: ImageName = "busybox".parse().unwrap();
        assert_eq!(name.to_string(), "busybox:latest");
        assert_eq!(name.full(), "docker.io/library/busybox:latest");
        for other in [
            "library/a/b",
            "docker.io/r.example.com/a",
            "docker.io/localhost/a",
        ] {
            let name: ImageName = other.parse().unwrap();
            assert_eq!(ImageName::of_familiar(&name.familiar()), Ok(name.clone()));
            assert_eq!(name.to_string().parse(), Ok(name), "{other}");
        }
        let private: ImageName = "10.88.0.1:5000/a/b:1".parse().unwrap();
        assert_eq!(private.to_string(), "10.88.0.1:5000/a/b:1");
        assert_eq!(private.registry(), "10.88.0.1:5000");
        for text in [
            "a:1",
            "r.io:5000/a",
            &format!("a@{}", Digest::of(b"")),
            "A",
            "",
        ] {
            assert!(ImageName::of_familiar(text).is_err(), "{text}");
        }
        for host in [
            "localhost",
            "[::1]",
            "[fd00::1]:5000",
            "r-1.Example.com:5000",
        ] {
            let name: ImageName = format!("{host}/a").parse().unwrap();
            assert_eq!(name.registry(), host);
        }
    }

    #[test]
    fn a_chaincode_image_is_known_by_its_form() {
        let chaincode = format!(
            "net-peer0.org1.example.com-basic_1-{0}-{0}",
            "ab".repeat(32)
        );
        assert!(chaincode.parse::<ImageName>().unwrap().is_chaincode());
        assert!(
            !"hyperledger/fabric-ccenv:2.5"
                .parse::<ImageName>()
                .unwrap()
                .is_chaincode()
        );
        assert!(
            !format!("x/{chaincode}")
                .parse::<ImageName>()
                .unwrap()
                .is_chaincode()
        );
        assert!(
            !format!("{chaincode}:1")
                .parse::<ImageName>()
                .unwrap()
                .is_chaincode()
        );
    }

    #[test]
    fn a_pushed_tag_is_readable_and_a_tag() {
        let digest = Digest::of(b"x");
        let short = &digest.hex()[..12];
        let hash = "ab".repeat(32);
        let long = "a".repeat(150);
        for (name, readable) in [
            (
                format!("dev-peer0.org1-basic_1.0-{hash}-{hash}"),
                "dev-peer0.org1-basic_1.0",
            ),
            (format!("r.example.com/x/basic-{hash}:1"), "basic"),
            ("busybox".to_owned(), "busybox"),
            (hash.clone(), hash.as_str()),
            (
                format!("{long}-.b-{hash}"),
                &*format!("{}-.b", &long[..MOST_BEFORE_B]),
            ),
        ] {
            let name: ImageName = name.parse().unwrap();
            let tag = name.pushed_tag(&digest);
            assert_eq!(tag, format!("{readable}-{short}"));
            assert!(name.at(&tag).is_ok(), "{tag}");
        }
    }

    const MOST_BEFORE_B: usize = 112;

    #[test]
    fn what_is_not_an_image_name_is_refused() {
        for text in [
            "",
            "Upper",
            "a//b",
            "a:",
            "a@sha256:00",
            "-a",
            "a/../b",
            "a b",
            "../a",
            "a..b/c",
            ".a/b",
            "-a.b/c",
            ":5000/a",
            "a:/b",
            "a:+1/b",
            "a:65536/b",
            "::1/a",
            "[::1/a",
            "[a]:1/b",
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text:?}");
        }
    }
}
