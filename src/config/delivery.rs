//! Section `delivery`.

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// What pods talk to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delivery {
    /// `https://host:port` of the delivery listener as pods reach it. The host stands in the listener's
    /// certificate.
    pub address: String,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            address: "https://peitho:8081".to_owned(),
        }
    }
}

impl Delivery {
    pub(super) fn check(&self, problems: &mut Problems) {
        if !is_https_origin(&self.address) {
            let accepted = "https://host:port as pods reach it, without user and path";
            // A user in front of the host may come with a password.
            let shown = self.address.rsplit('@').next().unwrap_or_default();
            problems.add("delivery.address", shown, accepted);
        }
    }
}

fn is_https_origin(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else {
        return false;
    };
    uri.scheme_str() == Some("https")
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
        && matches!(uri.path_and_query().map(|p| p.as_str()), None | Some("/"))
}
