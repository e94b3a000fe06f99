//! Grants: what a pod may fetch from Peitho or send to it, and what a person may pull. A token is an HMAC under the
//! instance's key, bound to one layer of one container, to one compile or to one container that waits for a compile (design D16); it is as good as the thing it
//! names lasts, so it also works after a restart and for an init container that runs again. A person's names nothing that
//! ends, so it says until when it is good. `runtime` and `cli` issue tokens, `delivery` reads them and gives the compile's to who waited for one; this module
//! knows none of them, and no clock.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::names::{CompileKey, ContainerKey, Digest, SpareId, Tenant};

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
    /// Fetch the input of one compile and report its log, output and exit; fetch what its compiler kept, and add to it.
    Compile {
        /// The compile.
        key: CompileKey,
    },
    /// Ask which compile a container that was made ahead of need is for, and fetch what its compiler keeps: until it has one.
    Spare {
        /// The container.
        id: SpareId,
    },
    /// Pull any image that was built for a tenant.
    Images {
        /// Whose images.
        tenant: Tenant,
        /// The last moment at which it is good, in seconds since the Unix epoch.
        until: i64,
    },
}

/// Issues and reads tokens under one key. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Grants {
    key: std::sync::Arc<SecretBox<[u8; 32]>>,
}

impl Grants {
    /// Tokens under `key`: equal on all replicas of one instance.
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            key: std::sync::Arc::new(SecretBox::new(Box::new(key))),
        }
    }

    /// A token for `grant`: text fit for an HTTP header, the same for the same grant.
    ///
    /// Form: the grant as JSON and the HMAC-SHA256 of that text, both in base64url without padding, with a
    /// dot between them.
    pub fn issue(&self, grant: &Grant) -> SecretString {
        let grant = serde_json::to_vec(grant).expect("a grant is strings and digests, always JSON");
        let grant = URL_SAFE_NO_PAD.encode(grant);
        let mac = URL_SAFE_NO_PAD.encode(self.mac(&grant).finalize().into_bytes());
        format!("{grant}.{mac}").into()
    }

    /// What `token` allows, or `None` when it is not one of ours. The comparison takes the same time for
    /// every wrong code.
    pub fn read(&self, token: &str) -> Option<Grant> {
        let (grant, mac) = token.split_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        self.mac(grant).verify_slice(&mac).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(grant).ok()?).ok()
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose_secret())
            .expect("HMAC takes a key of any length");
        mac.update(text.as_bytes());
        mac
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grants(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layer() -> Grant {
        Grant::Layer {
            container: ContainerKey {
                tenant: Tenant::default_tenant(),
                name: "dev-peer0-basic_1".parse().unwrap(),
            },
            digest: Digest::of(b"layer"),
        }
    }

    fn compile() -> Grant {
        Grant::Compile {
            key: CompileKey::new(Digest::of(b"compile")),
        }
    }

    fn spare() -> Grant {
        Grant::Spare {
            id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        }
    }

    fn images() -> Grant {
        Grant::Images {
            tenant: "org1".parse().unwrap(),
            until: 1_800_000_000,
        }
    }

    fn token(grants: &Grants, grant: &Grant) -> String {
        grants.issue(grant).expose_secret().to_owned()
    }

    #[test]
    fn a_token_says_what_it_was_issued_for() {
        let grants = Grants::new([1; 32]);
        for grant in [layer(), compile(), spare(), images()] {
            let token = token(&grants, &grant);
            assert!(
                token
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
                "{token}"
            );
            assert_eq!(grants.read(&token), Some(grant));
        }
    }

    #[test]
    fn a_restart_or_another_replica_issues_and_reads_the_same_token() {
        let (one, other) = (Grants::new([1; 32]), Grants::new([1; 32]));
        assert_eq!(token(&one, &layer()), token(&other, &layer()));
        assert_eq!(other.read(&token(&one, &layer())), Some(layer()));
    }

    #[test]
    fn another_instance_reads_nothing() {
        assert_eq!(
            Grants::new([2; 32]).read(&token(&Grants::new([1; 32]), &layer())),
            None
        );
    }

    #[test]
    fn parts_of_two_tokens_do_not_make_a_third() {
        let grants = Grants::new([1; 32]);
        let (layer, compile) = (token(&grants, &layer()), token(&grants, &compile()));
        let (grant, _) = layer.split_once('.').unwrap();
        let (_, mac) = compile.split_once('.').unwrap();
        assert_eq!(grants.read(&format!("{grant}.{mac}")), None);
        assert_eq!(grants.read(&format!("{grant}.")), None);
        assert_eq!(grants.read(grant), None);
    }

    #[test]
    fn debug_shows_nothing() {
        let grants = Grants::new([7; 32]);
        assert_eq!(format!("{grants:?}"), "Grants(..)");
        let issued = format!("{:?}", grants.issue(&layer()));
        assert!(!issued.contains(&token(&grants, &layer())), "{issued}");
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_token(text in ".*") {
            prop_assert_eq!(Grants::new([1; 32]).read(&text), None);
        }

        #[test]
        fn no_changed_character_passes(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
            let grants = Grants::new([1; 32]);
            let issued = token(&grants, &layer());
            let at = at.index(issued.len());
            let mut changed = issued.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != issued);
            prop_assert_eq!(grants.read(&changed), None);
        }
    }
}
