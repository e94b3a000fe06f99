//! The composition root.

use crate::config::Config;

/// Runs the server until it is told to stop.
///
/// # Errors
/// What keeps it from serving.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let _ = config;
    todo!()
}
