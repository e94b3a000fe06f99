//! Grants: what a pod may fetch from Peitho or send to it. A token is an HMAC under the instance's key,
//! bound to one layer of one container or to one compile (design D16); it is as good as the thing it
//! names lasts, so it also works after a restart and for an init container that runs again. `container`
//! and `compile` issue tokens, `delivery` reads them; this module knows neither.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::names::{CompileKey, ContainerKey, Digest};

/// What the bearer of a token may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Grant {
    /// Fetch one blob for one container's launch.
    Layer {
        /// The chaincode container whose pod fetches.
        container: ContainerKey,
        /// The blob.
        digest: Digest,
    },
    /// Fetch the input of one compile and report its log, output and exit.
    Compile {
        /// The compile.
        key: CompileKey,
    },
}

/// Issues and reads tokens under one key.
#[derive(Clone)]
pub struct Grants {
    key: std::sync::Arc<secrecy::SecretBox<[u8; 32]>>,
}

impl Grants {
    /// Tokens under `key`: equal on all replicas of one instance.
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            key: std::sync::Arc::new(secrecy::SecretBox::new(Box::new(key))),
        }
    }

    /// A token for `grant`: text fit for an HTTP header, the same for the same grant.
    pub fn issue(&self, grant: &Grant) -> SecretString {
        let _ = (&self.key, grant);
        todo!()
    }

    /// What `token` allows, or `None` when it is not one of ours.
    pub fn read(&self, token: &str) -> Option<Grant> {
        let _ = token;
        todo!()
    }
}
