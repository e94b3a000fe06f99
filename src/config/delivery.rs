//! Section `delivery`.

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// What pods and other containers talk to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delivery {
    /// `https://host:port` of the delivery listener as pods, and containers of a Docker Engine elsewhere, reach it. The
    /// host stands in the listener's certificate. Unset: `https://peitho:8081` for pods; containers on this machine
    /// need none.
    pub address: Option<String>,
}

impl Delivery {
    /// As pods reach it.
    pub fn for_pods(&self) -> &str {
        self.address.as_deref().unwrap_or("https://peitho:8081")
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(address) = self.address.as_deref().filter(|it| !is_https_origin(it)) {
            let accepted = "https://host:port as pods reach it, without user and path";
            // A user in front of the host may come with a password.
            let shown = address.rsplit('@').next().unwrap_or_default();
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
