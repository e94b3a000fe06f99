//! Section `compile`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;
use super::quantity::{Quantities, quantities};

/// Compile pods.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Compile {
    /// How many compiles run at once; others wait in a queue.
    pub parallel: usize,
    /// Seconds after which a compile is ended.
    pub timeout_seconds: u64,
    /// The peers' `chaincode.installTimeout` in seconds; at 80 % of it the log gets a warning.
    pub install_timeout_seconds: u64,
    /// Seconds for which a compile goes on while nobody waits for it: time for a peer, or for a restarted Peitho's
    /// peers, to ask again.
    pub abandoned_after_seconds: u64,
    /// Environment added to each compile, for example `GOPROXY`.
    pub env: BTreeMap<String, String>,
    /// Resource requests of a compile pod.
    pub requests: Quantities,
    /// Resource limits of a compile pod.
    pub limits: Quantities,
    /// The numeric user (and group) where the builder image names none by number.
    pub run_as_user: i64,
}

impl Default for Compile {
    fn default() -> Self {
        Self {
            parallel: 4,
            timeout_seconds: 30 * 60,
            install_timeout_seconds: 300,
            abandoned_after_seconds: 30,
            env: BTreeMap::new(),
            requests: quantities([("cpu", "200m"), ("memory", "512Mi")]),
            limits: quantities([("cpu", "4"), ("memory", "4Gi")]),
            run_as_user: 500,
        }
    }
}

impl Compile {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.number("compile.parallel", self.parallel, 1..=1000);
        problems.number("compile.timeoutSeconds", self.timeout_seconds, 1..=86_400);
        let key = "compile.installTimeoutSeconds";
        problems.number(key, self.install_timeout_seconds, 1..=86_400);
        let key = "compile.abandonedAfterSeconds";
        problems.number(key, self.abandoned_after_seconds, 10..=86_400);
        for name in self.env.keys() {
            let mut bytes = name.bytes();
            let fits = bytes
                .next()
                .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
            if !fits {
                let accepted = "a name such as GOPROXY: letters, digits, _, - and .";
                problems.add(format!("compile.env.{name}"), name, accepted);
            }
        }
        problems.quantities("compile.requests", &self.requests);
        problems.quantities("compile.limits", &self.limits);
        problems.within_limits("compile.requests", &self.requests, &self.limits);
        problems.user("compile.runAsUser", self.run_as_user);
    }
}

/// Values of `env` may be secrets, for example the password in a proxy's address: names only.
impl fmt::Debug for Compile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compile")
            .field("parallel", &self.parallel)
            .field("timeout_seconds", &self.timeout_seconds)
            .field("install_timeout_seconds", &self.install_timeout_seconds)
            .field("abandoned_after_seconds", &self.abandoned_after_seconds)
            .field("env", &self.env.keys())
            .field("requests", &self.requests)
            .field("limits", &self.limits)
            .field("run_as_user", &self.run_as_user)
            .finish()
    }
}
