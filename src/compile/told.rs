//! What Peitho and the agent tell each other about a compiler's cache: what there is and what is wanted, and how that went. `warmth` has the rules, `delivery` the
//! words on the wire.

use std::time::Duration;

use crate::archive::Extent;
use crate::store::Blob;

/// What the agent is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// To be unpacked one over the other.
    pub increments: Vec<Blob>,
    /// What to bring back; `None`: nothing.
    pub give: Option<Extent>,
    /// Bytes that a cache may have.
    pub most: u64,
    /// Bytes that what it brings back may have: less than that, where the cache gave trouble.
    pub give_most: u64,
    /// How long to wait for the increments.
    pub patience: Duration,
}

/// How the agent fared with the increments, by its own word: it may spoil what its own tenant keeps, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fared {
    /// All of them were there for the command.
    Warm,
    /// There were none.
    Cold,
    /// They could not be had, or not be unpacked.
    Failed,
    /// They did not come in the time that they are worth.
    Late,
}

/// What comes back.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// How it fared.
    pub fared: Fared,
    /// For how many milliseconds the command had to wait for the increments.
    pub fetch_ms: u64,
    /// How much it brings.
    pub extent: Extent,
}

impl Fared {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Failed => "failed",
            Self::Late => "late",
        }
    }
}
