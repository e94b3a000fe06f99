//! The reader of Dockerfiles for those who feed it with anything, as `engine_api/fuzzing.rs` has it for the wire.

use std::collections::BTreeMap;

use super::{Error, dockerfile};
use crate::names::ImageName;

/// What a Dockerfile orders.
#[derive(Debug)]
pub struct Orders {
    /// The base.
    pub from: ImageName,
    /// Where the output goes.
    pub destination: String,
    /// Variables in order.
    pub env: Vec<(String, String)>,
    /// Labels by name.
    pub labels: BTreeMap<String, String>,
}

/// Reads a Dockerfile.
///
/// # Errors
/// [`Error::Dockerfile`] with the line.
pub fn dockerfile(text: &str) -> Result<Orders, Error> {
    let parsed = dockerfile::parse(text)?;
    Ok(Orders {
        from: parsed.from,
        destination: parsed.destination,
        env: parsed.env,
        labels: parsed.labels,
    })
}
