//! Base images and where they come from: held in the store with all their content ([`HeldImage`]), or in other
//! registries, whose clients these are. `image` looks up manifest and configuration, a runtime of this host has
//! images held whole, `cli` imports them from archives. What a registry says is kept apart from what nobody can
//! tell ([`Lookup`]), because a node pulls by mirrors and secrets of its own: only a registry's clear "no" may end
//! a build.

mod access;
mod answer;
mod bring;
mod docker_config;
#[cfg(test)]
pub(crate) mod fixture;
mod held;
mod import;
mod known;
mod logins;
mod look_up;
mod manifest;
mod outside;
mod places;
mod pull;
mod push;
mod session;
mod turns;
mod wire;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use crate::config;
use crate::image_spec::{ImageConfig, ImageFacts};
use crate::names::{Architecture, Digest, ImageName};
use crate::single_flight::SingleFlight;
use crate::store::Store;

use access::{Access, Reader};
use answer::Refusal;
pub use bring::{LayerContent, LayerError};
pub use held::{HeldImage, HeldLayer, list as list_held, remove as remove_held};
pub use import::{ImportError, import};
use known::Known;
pub use logins::{Login, Logins};
pub(crate) use manifest::split_env;
pub use manifest::{Contents, Unusable};
pub use places::Places;
pub use pull::HoldError;
pub use push::{Order, PushError, Pusher};

/// For all requests of one look-up together.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How image names spell Docker Hub. It answers at [`DOCKER_HUB_HOST`].
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "index.docker.io";

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
    /// What nodes have to know of it. No digest, where it was found elsewhere than nodes look for it.
    pub facts: ImageFacts,
    /// Where it was found: its layers are there.
    pub source: ImageName,
}

/// All registries; clones share connections and what was learned.
#[derive(Clone)]
pub struct Registries(Arc<Inner>);

struct Inner {
    /// For every host without one of its own.
    reader: Reader,
    /// By the host that image names carry: those that trust authorities of their own, which no other registry may use.
    readers: HashMap<String, Reader>,
    logins: Logins,
    places: Places,
    architecture: Architecture,
    /// Of those that the configuration has, by the host that image names carry.
    accesses: HashMap<String, Access>,
    timeout: Duration,
    store: Store,
    pulls: SingleFlight<ImageName, Result<HeldImage, HoldError>>,
    room: bring::Room,
    /// Locked for a look at the map only, never across a request.
    known: Mutex<Known>,
}

impl Registries {
    /// Clients for the registries that `config` describes; any other host is asked anonymously over https. Images
    /// that `store` holds are not asked for.
    ///
    /// A rustls crypto provider must be installed in the process.
    ///
    /// # Errors
    /// When a file of passwords or certificates cannot be read: says which.
    pub async fn new(config: &[config::Registry], store: Store) -> anyhow::Result<Self> {
        Self::with_timeout(config, store, TIMEOUT).await
    }

    /// As [`Registries::new`], with all that the section says: the registry that built images are pushed to, the logins of other
    /// hosts, the nodes' architecture.
    ///
    /// # Errors
    /// As [`Registries::new`].
    pub async fn of(config: &config::Images, store: Store) -> anyhow::Result<Self> {
        Self::with(config, store, TIMEOUT).await
    }

    async fn with_timeout(
        config: &[config::Registry],
        store: Store,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let config = config::Images {
            registries: config.to_vec(),
            ..config::Images::default()
        };
        Self::with(&config, store, timeout).await
    }

    async fn with(
        config: &config::Images,
        store: Store,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let mut accesses = Access::all(&config.registries).await?;
        if let Some(built) = config.pushed_to() {
            accesses.push(Access::of_built(built).await?);
        }
        let reader = Reader::new(&accesses, &[], timeout)?;
        let mut readers = HashMap::new();
        for access in accesses.iter().filter(|it| !it.authorities.is_empty()) {
            let reader = Reader::new(&accesses, &access.authorities, timeout)?;
            readers.insert(access.host.clone(), reader);
        }
        let own = accesses.iter().filter_map(|access| {
            let login = access.login.clone()?;
            Some((access.host.clone(), login))
        });
        Ok(Self(Arc::new(Inner {
            reader,
            readers,
            logins: Logins::read(own.collect(), config.docker_config_file.as_deref()).await?,
            places: Places::of_config(&config.registries),
            architecture: (config.architecture.clone())
                .unwrap_or_else(Architecture::of_this_machine),
            accesses: (accesses.into_iter())
                .map(|access| (access.host.clone(), access))
                .collect(),
            timeout,
            store,
            pulls: SingleFlight::default(),
            room: bring::Room::default(),
            known: Mutex::default(),
        })))
    }

    /// With what images are pulled, also for who pulls by himself.
    pub fn logins(&self) -> &Logins {
        &self.0.logins
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where images are taken from.
    pub fn places(&self) -> &Places {
        &self.0.places
    }

    fn client(&self, name: &ImageName) -> &Client {
        self.client_of(name.registry())
    }

    fn client_of(&self, host: &str) -> &Client {
        &self.reader(host).client
    }

    fn reader(&self, host: &str) -> &Reader {
        self.0.readers.get(host).unwrap_or(&self.0.reader)
    }

    /// How the registry of `name` is reached: by https, where nothing else is said.
    fn access(&self, name: &ImageName) -> Cow<'_, Access> {
        match self.0.accesses.get(name.registry()) {
            Some(access) => Cow::Borrowed(access),
            None => Cow::Owned(Access::plain(name.registry())),
        }
    }

    /// Lets the library read `reference`, which is `name`. It gets tokens and never the password for them: left alone it would
    /// send that to any token service, also without TLS, and take every fault of one for a no.
    async fn log_in(
        &self,
        name: &ImageName,
        reference: &Reference,
    ) -> Result<RegistryAuth, Refusal> {
        let (access, login) = (self.access(name), self.0.logins.of(name).await);
        let tokens = &self.reader(name.registry()).tokens;
        let auth = session::authorization(tokens, &access, login, name.repository()).await?;
        // On its own, or a registry that is out of reach would be tried twice, and its cause get lost.
        let told = self
            .client(name)
            .auth(reference, &auth, RegistryOperation::Pull);
        told.await?;
        Ok(auth)
    }
}

fn reference(name: &ImageName) -> Reference {
    let (registry, repository) = (name.registry().to_owned(), name.repository().to_owned());
    match (name.digest(), name.tag()) {
        (Some(digest), _) => Reference::with_digest(registry, repository, digest.to_string()),
        (None, tag) => {
            let tag = tag.unwrap_or("latest").to_owned();
            Reference::with_tag(registry, repository, tag)
        }
    }
}

#[cfg(test)]
mod tests;
