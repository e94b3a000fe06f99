//! Section `log`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;

use super::Problems;

/// The log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,peitho::runtime=debug`.
    pub level: String,
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// Colours in the `text` format.
    pub color: LogColor,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
            color: LogColor::Auto,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogColor {
    /// When the log is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Log {
    pub(super) fn check(&self, problems: &mut Problems) {
        if !is_filter(&self.level) {
            let accepted = "error, warn, info, debug, trace, off, or a filter such as info,peitho::runtime=debug";
            problems.add("log.level", &self.level, accepted);
        }
    }
}

/// A lone word that is no level would be taken for a module and silence all others: it is a slip.
fn is_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let level = |word: &str| {
        LEVELS
            .iter()
            .any(|level| level.eq_ignore_ascii_case(word.trim()))
    };
    let directives_fit = text
        .split(',')
        .all(|directive| level(directive) || directive.contains('='));
    directives_fit && text.parse::<Targets>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_filter;

    #[test]
    fn a_slip_is_not_a_module() {
        for good in ["info", "WARN", "info,peitho::runtime=debug", "off"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "inof", "verbose", "info,kube", "info,kube=loud"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }
}
