//! Clients of other registries: manifest and configuration of base images. `image` uses it.

use crate::config;
use crate::image_spec::ImageConfig;
use crate::names::{Digest, ImageName};

/// What a registry answered.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The image exists.
    Found(Box<Found>),
    /// The registry says that it does not; its words.
    Missing(String),
    /// Nobody can tell: unreachable, denied, or an answer that is none; the cause. A node may still be able
    /// to pull it, by its own mirrors and secrets.
    Unknown(String),
}

/// An image in a registry.
#[derive(Clone, Debug)]
pub struct Found {
    /// Digest of its configuration: the image's id.
    pub id: Digest,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's bytes as received.
    pub manifest: Vec<u8>,
    /// The configuration's bytes as received.
    pub raw_config: Vec<u8>,
    /// The part of the configuration that decides how it starts.
    pub config: ImageConfig,
}

/// All registries; clones share connections and what was learned.
#[derive(Clone)]
pub struct Registries {}

impl Registries {
    /// Clients for the registries that `config` describes; any other host is asked anonymously over https.
    ///
    /// # Errors
    /// When a password file cannot be read: says which.
    pub async fn new(config: &[config::Registry]) -> anyhow::Result<Self> {
        let _ = config;
        todo!()
    }

    /// Manifest and configuration of `name` for linux on this machine's architecture; bounded to a few
    /// seconds, and remembered by digest.
    pub async fn look_up(&self, name: &ImageName) -> Lookup {
        let _ = name;
        todo!()
    }
}
