//! Where the time of compiles goes, part by part: one histogram for all runs, which `admin` registers, and what the agent tells of the parts
//! that nobody else sees. `course` has the way of one run, and fills the histogram.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use serde::Deserialize;

use super::Compiles;

/// A part of a compile, as `docs/metrics.md` describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Waiting for a place.
    Queue,
    /// Until whoever runs the container has taken its order.
    Order,
    /// Until it has a node.
    Schedule,
    /// Until the agent's first request: images, volumes, sandbox, the agent's program.
    Start,
    /// The source comes.
    SourceFetch,
    /// The compiler's cache comes, beside the source.
    CacheFetch,
    /// The command runs.
    Command,
    /// Its output is packed.
    Pack,
    /// It goes to Peitho.
    Upload,
    /// What passes beside all these until Peitho knows the exit.
    ExitKnown,
    /// The result becomes durable.
    Keep,
    /// Until the first `wait` is answered.
    Reply,
    /// What the compiler's cache gained comes back.
    Gather,
    /// The container goes.
    Removal,
}

impl Part {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Queue,
        Self::Order,
        Self::Schedule,
        Self::Start,
        Self::SourceFetch,
        Self::CacheFetch,
        Self::Command,
        Self::Pack,
        Self::Upload,
        Self::ExitKnown,
        Self::Keep,
        Self::Reply,
        Self::Gather,
        Self::Removal,
    ];

    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Order => "order",
            Self::Schedule => "schedule",
            Self::Start => "start",
            Self::SourceFetch => "source_fetch",
            Self::CacheFetch => "cache_fetch",
            Self::Command => "command",
            Self::Pack => "pack",
            Self::Upload => "upload",
            Self::ExitKnown => "exit_known",
            Self::Keep => "keep",
            Self::Reply => "reply",
            Self::Gather => "gather",
            Self::Removal => "removal",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    part: &'static str,
}

/// From a hundredth of a second to five minutes: a request, and a compile.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 16))
}

/// How long the parts of compiles took; clones share it.
#[derive(Clone, Debug)]
pub struct Parts(Family<Labels, Histogram>);

impl Default for Parts {
    fn default() -> Self {
        Self(Family::new_with_constructor(buckets as fn() -> Histogram))
    }
}

impl Parts {
    /// Puts `compile_part_duration_seconds` into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "compile_part_duration_seconds",
            "Time of the parts of compiles",
            self.0.clone(),
        );
    }

    pub(super) fn note(&self, part: Part, time: Duration) {
        let labels = Labels {
            part: part.as_str(),
        };
        (self.0.get_or_create(&labels)).observe(time.as_secs_f64());
    }
}

/// How long the parts took that Peitho does not see, in milliseconds, by the word of the agent.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Took {
    /// Until all of the source was there.
    pub source_ms: Option<u64>,
    /// Until all of the compiler's cache was, where one is kept.
    pub cache_ms: Option<u64>,
    /// The command.
    pub command_ms: Option<u64>,
    /// Its output as a tar.
    pub pack_ms: Option<u64>,
    /// Until Peitho had taken that.
    pub upload_ms: Option<u64>,
}

impl Compiles {
    /// How long the parts of compiles take.
    pub fn parts(&self) -> Parts {
        self.0.parts.clone()
    }
}
