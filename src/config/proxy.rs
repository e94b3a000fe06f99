//! `compile.proxy`: the way out of the cluster for compiles.

use std::fmt;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// The proxies that compiles use. `Debug` does not show the addresses: they may hold a password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Proxy {
    /// For http: `http://host:port`, or `http://user:password@host:port`.
    pub http: String,
    /// For https, as `http`; the address of the proxy itself may begin with `https`.
    pub https: String,
    /// Hosts and domains that are reached without a proxy. The host of `delivery.address` always is.
    pub no: Vec<String>,
}

impl Proxy {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.http.is_empty() && self.https.is_empty()
    }

    pub(super) fn check(&self, key: &str, problems: &mut Problems) {
        for (name, address) in [("http", &self.http), ("https", &self.https)] {
            if !address.is_empty() && !is_address(address) {
                let accepted = "http://host:port or http://user:password@host:port, without a path";
                problems.add(format!("{key}.{name}"), shown(address), accepted);
            }
        }
        for (index, host) in self.no.iter().enumerate() {
            let fits = !host.is_empty() && !host.contains(|c: char| c == ',' || c.is_whitespace());
            if !fits {
                let accepted = "one host, domain or network";
                problems.add(format!("{key}.no[{index}]"), host, accepted);
            }
        }
        if self.is_empty() && !self.no.is_empty() {
            problems.add(format!("{key}.no"), &self.no, "together with http or https");
        }
    }

    /// The same with what may be a password hidden.
    pub(super) fn shown(&self) -> Self {
        Self {
            http: shown(&self.http),
            https: shown(&self.https),
            no: self.no.clone(),
        }
    }
}

fn is_address(address: &str) -> bool {
    address.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && matches!(
                uri.path_and_query().map(|it| it.as_str()),
                None | Some("/" | "")
            )
            && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// The address with user and password hidden. What stands before the last `@` is taken for them, so that
/// nothing shows of an address that cannot be read.
fn shown(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((front, host)) => {
            let scheme = match front.split_once("://") {
                Some((scheme @ ("http" | "https"), _)) => format!("{scheme}://"),
                _ => String::new(),
            };
            format!("{scheme}hidden@{host}")
        }
        None => address.to_owned(),
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { http, https, no } = self.shown();
        f.debug_struct("Proxy")
            .field("http", &http)
            .field("https", &https)
            .field("no", &no)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_user_nor_password_show() {
        for (address, expected) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://me:secret@proxy:3128", "http://hidden@proxy:3128"),
            ("me:sec@ret@proxy", "hidden@proxy"),
            ("ftp://secret@proxy", "hidden@proxy"),
            ("", ""),
        ] {
            assert_eq!(shown(address), expected);
        }
    }

    #[test]
    fn addresses_are_checked() {
        for (address, fits) in [
            ("http://proxy:3128", true),
            ("https://proxy", true),
            ("http://me:p%40ss@proxy:3128/", true),
            ("proxy:3128", false),
            ("socks5://proxy:1080", false),
            ("http://proxy/path", false),
            ("http://", false),
        ] {
            assert_eq!(is_address(address), fits, "{address}");
        }
    }
}
