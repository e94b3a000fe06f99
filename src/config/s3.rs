//! `store.s3`: the bucket that is the store instead of a directory.

use std::path::PathBuf;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Problems, Quantity};

/// A bucket of S3, or of what speaks like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct S3 {
    /// The bucket, which has to exist. Empty: the store is `store.directory`.
    pub bucket: String,
    /// What stands before the keys of all objects, for example `peitho/`: for a bucket that others use too. A slash at its
    /// end makes no difference.
    pub prefix: String,
    /// Where the server is, for example `https://minio.example.com:9000`. Plain http only when it begins so. Unset: AWS.
    pub endpoint: Option<String>,
    /// The region, which is part of every signature. Unset: `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// How the bucket stands in addresses. Unset: `path` with an endpoint, `virtualHosted` at AWS.
    pub addressing: Option<Addressing>,
    /// The access key; together with `secretAccessKeyFile`. Unset: what the variables `AWS_*` of the process name, as they are
    /// set for a pod with a web identity, else the role of the machine.
    pub access_key_id: Option<String>,
    /// A file that holds the secret of that key and nothing else; a line end at its end is ignored. It is read at the start.
    pub secret_access_key_file: Option<PathBuf>,
    /// A PEM file with the certificates of authorities that are trusted for the server, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The most that copies of blobs take in `store.directory`, in bytes or as `4Gi`. The least recently used go first. What
    /// is on its way in comes on top.
    pub cache_size: String,
}

/// How a bucket stands in addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Addressing {
    /// `https://server/bucket/key`.
    Path,
    /// `https://bucket.server/key`.
    VirtualHosted,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            addressing: None,
            access_key_id: None,
            secret_access_key_file: None,
            ca_file: None,
            cache_size: "4Gi".to_owned(),
        }
    }
}

impl S3 {
    /// How the bucket stands in addresses.
    pub fn addressing(&self) -> Addressing {
        self.addressing.unwrap_or(match self.endpoint {
            Some(_) => Addressing::Path,
            None => Addressing::VirtualHosted,
        })
    }

    /// Scheme, and host with port, of the endpoint; `None` where it is none.
    pub fn server(&self) -> Option<(&'static str, String)> {
        let endpoint: Uri = self.endpoint.as_deref()?.parse().ok()?;
        let scheme = match endpoint.scheme_str()? {
            "http" => "http",
            "https" => "https",
            _ => return None,
        };
        let authority = endpoint.authority()?;
        let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
        let bare = matches!(endpoint.path(), "" | "/") && endpoint.query().is_none();
        (plain && bare).then(|| (scheme, authority.to_string()))
    }

    /// The most that copies take, in bytes; `None` where that cannot be read.
    pub fn cache_bytes(&self) -> Option<u64> {
        self.cache_size
            .parse::<Quantity>()
            .ok()
            .map(Quantity::whole)
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self.bucket.is_empty() {
            if *self != Self::default() {
                let accepted = "the name of a bucket, since other keys of store.s3 are set";
                problems.add("store.s3.bucket", &self.bucket, accepted);
            }
            return;
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !self.bucket.bytes().all(fits) {
            let accepted = "letters, digits, -, . and _";
            problems.add("store.s3.bucket", &self.bucket, accepted);
        }
        let prefix = self.prefix.strip_suffix('/').unwrap_or(&self.prefix);
        let parts = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(fits);
        if !self.prefix.is_empty() && !prefix.split('/').all(parts) {
            let accepted = "words of letters, digits, -, . and _, with / between them; or nothing";
            problems.add("store.s3.prefix", &self.prefix, accepted);
        }
        if let Some(endpoint) = &self.endpoint
            && self.server().is_none()
        {
            // A user in front of the host may come with a password.
            let shown = endpoint.rsplit('@').next().unwrap_or_default();
            let accepted = "https://host:port, or http:// for plain http, without user and path";
            problems.add("store.s3.endpoint", shown, accepted);
        }
        match (&self.access_key_id, &self.secret_access_key_file) {
            (Some(key), None) => {
                let accepted = "together with secretAccessKeyFile";
                problems.add("store.s3.accessKeyId", key, accepted);
            }
            (None, Some(file)) => {
                let accepted = "together with accessKeyId";
                problems.add("store.s3.secretAccessKeyFile", file, accepted);
            }
            _ => {}
        }
        if self.cache_bytes().is_none() {
            let accepted = "bytes, or a quantity such as 4Gi";
            problems.add("store.s3.cacheSize", &self.cache_size, accepted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(s3: &S3) -> Vec<String> {
        let mut problems = Problems::default();
        s3.check(&mut problems);
        problems.iter().map(|(key, _)| key.to_owned()).collect()
    }

    fn bucket() -> S3 {
        S3 {
            bucket: "images".to_owned(),
            ..S3::default()
        }
    }

    #[test]
    fn a_bucket_is_enough_and_nothing_goes_without() {
        assert_eq!(told(&S3::default()), Vec::<String>::new());
        assert_eq!(told(&bucket()), Vec::<String>::new());
        let region = Some("eu-central-1".to_owned());
        let no_bucket = S3 {
            region,
            ..S3::default()
        };
        assert_eq!(told(&no_bucket), ["store.s3.bucket"]);
        assert_eq!(bucket().cache_bytes(), Some(4 << 30));
    }

    #[test]
    fn endpoints_are_servers() {
        let at = |endpoint: &str| S3 {
            endpoint: Some(endpoint.to_owned()),
            ..bucket()
        };
        for (endpoint, server) in [
            ("http://10.0.0.1:9000", ("http", "10.0.0.1:9000")),
            ("https://s3.example.com/", ("https", "s3.example.com")),
        ] {
            let (scheme, host) = at(endpoint).server().unwrap();
            assert_eq!((scheme, &*host), server);
            assert_eq!(told(&at(endpoint)), Vec::<String>::new());
            assert_eq!(at(endpoint).addressing(), Addressing::Path);
        }
        assert_eq!(bucket().addressing(), Addressing::VirtualHosted);
        for endpoint in [
            "",
            "minio:9000",
            "ftp://minio",
            "https://me:secret@minio",
            "https://minio/bucket",
        ] {
            assert_eq!(told(&at(endpoint)), ["store.s3.endpoint"], "{endpoint}");
        }
        let mut problems = Problems::default();
        at("https://me:secret@minio").check(&mut problems);
        assert!(!problems.to_string().contains("secret"), "{problems}");
    }

    #[test]
    fn the_rest_is_held_to_its_form() {
        let prefixed = |prefix: &str| S3 {
            prefix: prefix.to_owned(),
            ..bucket()
        };
        for prefix in ["peitho", "peitho/", "a/b.c/"] {
            assert_eq!(told(&prefixed(prefix)), Vec::<String>::new(), "{prefix}");
        }
        for prefix in ["/", "/a", "a//b", "../a", "a b", "a#1"] {
            assert_eq!(told(&prefixed(prefix)), ["store.s3.prefix"], "{prefix}");
        }
        let half = S3 {
            access_key_id: Some("me".to_owned()),
            cache_size: "much".to_owned(),
            ..bucket()
        };
        assert_eq!(told(&half), ["store.s3.accessKeyId", "store.s3.cacheSize"]);
    }
}
