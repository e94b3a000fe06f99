//! The log: one line per event on stderr, for people or for machines (`docs/logging.md`). `cli` starts it before
//! the server; everybody writes to it by `tracing`. It knows nothing but its section of the configuration. Below it, the clock that
//! tells a request's own time from that of others.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{Log, LogColor, LogFormat};

mod elsewhere;

pub use elsewhere::{accounted, elsewhere};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is not a filter.
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    /// The process has a log already.
    #[error(transparent)]
    Second(#[from] TryInitError),
}

/// Starts the log of the process. A panic also becomes a line of it, so that machines can read its end.
///
/// # Errors
/// [`Error::Level`], or [`Error::Second`] when it was called before.
pub fn init(config: &Log) -> Result<(), Error> {
    let filter = (config.level.parse::<Targets>()?)
        // What cannot be read of an answer is logged whole there, and an answer may be a Secret.
        .with_target("kube_client::client", LevelFilter::OFF)
        // Orders are logged whole there, with all variables of their containers.
        .with_target("bollard", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Text => registry
            .with(lines.with_ansi(coloured(config.color)))
            .try_init()?,
        LogFormat::Json => registry
            .with(lines.json().flatten_event(true).with_current_span(false))
            .try_init()?,
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(
            place,
            "panic: {}",
            panic.payload_as_str().unwrap_or("without a message")
        );
    }));
    Ok(())
}

fn coloured(color: LogColor) -> bool {
    match color {
        LogColor::Always => true,
        LogColor::Never => false,
        // By https://no-color.org, any value but the empty one.
        LogColor::Auto => {
            std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        }
    }
}
