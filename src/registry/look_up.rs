//! What registries say of an image: whether it exists, its manifest and its configuration. What was found is remembered for a
//! while, and so is for a moment that nobody could tell. `image` looks up bases and builders by it, `pull` begins with it.

use std::convert::Infallible;

use backon::{ExponentialBuilder, Retryable as _};
use futures::TryStreamExt as _;
use oci_client::Reference;
use oci_client::client::LayerDescriptor;
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use tokio::time::Instant;

use super::answer::{self, Refusal};
use super::manifest::{Configuration, ImageManifest, Manifest, Unusable};
use super::turns::Turn;
use super::{Found, Lookup, Registries, held, reference};
use crate::image_spec::ImageFacts;
use crate::names::{Digest, ImageName};

/// A configuration has a few kilobytes.
const LARGEST_CONFIG: usize = 4 << 20;

impl Found {
    /// The same, as a mirror told it: that one may keep what is not there any more, or packed it otherwise.
    fn of_mirror(self) -> Self {
        let facts = ImageFacts {
            architecture: self.facts.architecture,
            ..ImageFacts::default()
        };
        Self { facts, ..self }
    }
}

impl Registries {
    /// Manifest and configuration of `name`: of the held image, as Docker prefers what is local; else of its
    /// registry, after its mirrors, for linux on the nodes' architecture, bounded to ten seconds for each. There a found image is
    /// remembered for five minutes, an unknown one for half a minute.
    pub async fn look_up(&self, name: &ImageName) -> Lookup {
        match self.remembered(name).await {
            Some(lookup) => lookup,
            None => self.learned(name, self.ask(name).await),
        }
    }

    /// As [`Registries::look_up`], for who cannot do without the image: asks again while the fault may pass and `patience`
    /// lasts, also what was unknown a moment ago.
    pub(super) async fn look_up_patiently(
        &self,
        name: &ImageName,
        patience: ExponentialBuilder,
    ) -> Lookup {
        if let Some(found @ Lookup::Found(_)) = self.remembered(name).await {
            return found;
        }
        let ask = || self.ask(name);
        let answer = ask
            .retry(patience)
            .when(Refusal::may_pass)
            .notify(|refusal, pause| {
                tracing::warn!(
                    image = %name, error = %refusal, ?pause,
                    "image: the registry of {name} is asked again after a fault"
                );
            })
            .await;
        self.learned(name, answer)
    }

    async fn remembered(&self, name: &ImageName) -> Option<Lookup> {
        match held::found(&self.0.store, name).await {
            Ok(Some(found)) => return Some(Lookup::Found(Box::new(found))),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(image = %name, %error, "image: whether {name} is held cannot be told; its registry is asked");
            }
        }
        self.known().get(name, Instant::now())
    }

    /// Keeps in mind what became of a question.
    fn learned(&self, name: &ImageName, answer: Result<Found, Refusal>) -> Lookup {
        let lookup = match answer {
            Ok(found) => Lookup::Found(Box::new(found)),
            Err(Refusal::Missing(words)) => Lookup::Missing(words),
            Err(refusal) => Lookup::Unknown(refusal.to_string()),
        };
        self.known().put(name, &lookup, Instant::now());
        lookup
    }

    /// Asks each of its places.
    async fn ask(&self, name: &ImageName) -> Result<Found, Refusal> {
        let work = |place: ImageName, turn| async move {
            let asked = self.ask_in_time(&place).await;
            Ok::<_, Infallible>(asked.map(|found| match turn {
                Turn::Last => found,
                Turn::Earlier => found.of_mirror(),
            }))
        };
        let Ok(asked) = self.first_that_has(name, None, work).await;
        asked
    }

    /// The same of one place, bounded to the time of a look-up.
    pub(super) async fn ask_in_time(&self, name: &ImageName) -> Result<Found, Refusal> {
        let asked = tokio::time::timeout(self.0.timeout, self.ask_at(name)).await;
        asked.unwrap_or_else(|_| {
            let (host, limit) = (name.registry(), self.0.timeout.as_secs());
            let told = format!("{host} gave no answer within {limit} s");
            Err(Refusal::Passing(told))
        })
    }

    async fn ask_at(&self, name: &ImageName) -> Result<Found, Refusal> {
        let reference = reference(name);
        let auth = self.log_in(name, &reference).await?;
        let mut answer = self.manifest(&reference, &auth).await?;
        let told = digest_of(&answer.1)?;
        if let Manifest::Index(index) = Manifest::parse(&answer.0)? {
            let entry = index.of(&self.0.architecture)?;
            let of_platform = reference.clone_with_digest(entry.digest.clone());
            answer = self.manifest(&of_platform, &auth).await?;
        }
        let (bytes, digest) = answer;
        let Manifest::Image(manifest) = Manifest::parse(&bytes)? else {
            return Err(Unusable::from("an index of indexes").into());
        };
        let raw_config = self.config(&reference, &manifest).await?;
        let config = Configuration::parse(&raw_config, manifest.layers.len())?;
        Ok(Found {
            id: Digest::of(&raw_config),
            digest: digest_of(&digest)?,
            manifest: bytes,
            raw_config,
            facts: ImageFacts {
                digest: Some(told),
                place: Some(name.clone()),
                architecture: config.architecture(),
            },
            config: config.start,
            source: name.clone(),
        })
    }

    async fn manifest(
        &self,
        reference: &Reference,
        auth: &RegistryAuth,
    ) -> Result<(Vec<u8>, String), Refusal> {
        let (bytes, digest) = self
            .client_of(reference.registry())
            .pull_manifest_raw(reference, auth, answer::MEDIA_TYPES)
            .await?;
        Ok((bytes.into(), digest))
    }

    async fn config(
        &self,
        reference: &Reference,
        manifest: &ImageManifest,
    ) -> Result<Vec<u8>, Refusal> {
        let blob = LayerDescriptor {
            digest: &manifest.config.digest,
            urls: &None,
        };
        let unreadable = |error: OciDistributionError| {
            let told = |cause: &str| format!("its configuration cannot be read: {cause}");
            Refusal::from(error).of_part(told)
        };
        let client = self.client_of(reference.registry());
        let stream = client.pull_blob_stream(reference, &blob).await;
        let mut stream = stream.map_err(unreadable)?.stream;
        let mut config = Vec::new();
        while let Some(part) = stream.try_next().await.map_err(|e| unreadable(e.into()))? {
            if config.len() + part.len() > LARGEST_CONFIG {
                return Err(Unusable::from("a configuration of more than 4 MiB").into());
            }
            config.extend_from_slice(&part);
        }
        Ok(config)
    }
}

fn digest_of(text: &str) -> Result<Digest, Unusable> {
    text.parse().map_err(|_| "no sha256 digest".into())
}
