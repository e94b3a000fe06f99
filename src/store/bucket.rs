//! The objects in a bucket of S3: how it is reached, by the configuration, and whether it takes and keeps objects. `store` opens
//! it; what is in an object is none of its business. Nothing in a bucket is swept here: other Peithos write to it.
//!
//! Passing faults are repeated inside `object_store`; above it `image` alone repeats, an inspect (D18). Uploads that a killed process left are
//! no objects; the bucket's own rule for incomplete uploads removes them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backon::ExponentialBuilder;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt as _, RetryConfig};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Mutex, Semaphore};

use super::copies::Copies;
use super::{Error, Inner, Pressure, Store, local, volume};
use crate::config::{Addressing, S3};
use crate::names::Digest;

mod fault;
mod http;
mod upload;

pub(super) use fault::{is_missing, is_untold};
pub(super) use upload::Stop;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After how much silence the start says that it waits.
const SILENCE: Duration = Duration::from_secs(1);
/// Bytes of the probe.
const PROBE: usize = 64;

/// What the environment may say of the region.
const REGION: [AmazonS3ConfigKey; 2] =
    [AmazonS3ConfigKey::DefaultRegion, AmazonS3ConfigKey::Region];
/// What it may say of credentials; all else is in the configuration.
const CREDENTIALS: [AmazonS3ConfigKey; 11] = [
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::SecretAccessKey,
    AmazonS3ConfigKey::Token,
    AmazonS3ConfigKey::MetadataEndpoint,
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::RoleArn,
    AmazonS3ConfigKey::RoleSessionName,
    AmazonS3ConfigKey::StsEndpoint,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
    AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
];

/// One bucket, or what is below a prefix in it.
pub(super) struct Bucket {
    shown: String,
    /// The same without repeating: readiness is to tell a fault and not to wait for its end, and some deletions must not come late.
    impatient: Arc<dyn ObjectStore>,
    /// For how long passing faults are repeated.
    patience: Duration,
    /// Of this process alone, and of one probe at a time.
    probe: Mutex<Key>,
    /// On their way to quarantine.
    pub(super) rotten: Rotten,
    /// Of the parts that are in memory, over all uploads.
    parts: Arc<Semaphore>,
    pub(super) copies: Copies,
}

/// Blobs that this process has found damaged, and is about to move: a commit of the same bytes must not take such an object for
/// its own, by its length, or it would go with it.
#[derive(Default)]
pub(super) struct Rotten(std::sync::Mutex<HashSet<Digest>>);

/// A blob is noted until this is dropped.
pub(super) struct Noted<'a>(&'a Rotten, Digest);

impl Rotten {
    fn all(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, digest: &Digest) -> Noted<'_> {
        self.all().insert(*digest);
        Noted(self, *digest)
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.all().contains(digest)
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.all().remove(&self.1);
    }
}

/// Opens the store in the bucket of `config`, with its local part in `directory`. Passing faults are repeated for `patience`.
pub(super) async fn open(
    config: &S3,
    directory: &Path,
    patience: Duration,
) -> Result<Store, Error> {
    let shown = shown(config);
    let unusable = |reason| Error::Unusable {
        place: shown.clone(),
        reason,
    };
    let builder = {
        let config = config.clone();
        let built = volume::blocking(move || {
            let environment = of_environment(std::env::vars_os());
            Ok(builder(&config, &environment))
        });
        let built = built.await;
        built
            .map_err(|e| unusable(e.to_string()))?
            .map_err(unusable)?
    };
    let (directory, lock) = local(directory, &["copies"]).await?;
    let limit = config.cache_bytes().unwrap_or(u64::MAX);
    let opened = {
        let copies = directory.join("copies");
        volume::blocking(move || Copies::open(copies, limit)).await
    };
    let copies = opened.map_err(|e| Error::of(&directory, "reading", &directory, 0, e))?;
    let made = |retry: RetryConfig| {
        let built = builder.clone().with_retry(retry).build();
        built.map(|built| within(&config.prefix, built))
    };
    let made = made(repeated(patience)).and_then(|patient| Ok((patient, made(never())?)));
    let (objects, impatient) = made.map_err(|e| unusable(e.to_string()))?;
    let bucket = Bucket {
        shown: shown.clone(),
        impatient,
        patience,
        probe: Mutex::new(Key::from(format!("probe/{:016x}", rand::random::<u64>()))),
        rotten: Rotten::default(),
        parts: Arc::new(Semaphore::new(upload::AT_ONCE)),
        copies,
    };
    let store = Store(Arc::new(Inner {
        directory,
        unsynced: Arc::clone(&objects),
        objects,
        bucket: Some(bucket),
        pressure: Pressure::default(),
        lock,
    }));
    patiently(&store, &shown).await?;
    Ok(store)
}

/// The first answer of the bucket. It may be away, or still starting: the log says that we wait, and for how long it was.
async fn patiently(store: &Store, shown: &str) -> Result<(), Error> {
    let begun = Instant::now();
    let mut asking = pin!(async {
        refuse_in_place_of_directory(store, shown).await?;
        store.agree_on_layout().await?;
        match &store.0.bucket {
            Some(bucket) => bucket.probe_by(&*store.0.objects).await,
            None => Ok(()),
        }
    });
    match tokio::time::timeout(SILENCE, &mut asking).await {
        Ok(answer) => return answer,
        Err(_) => tracing::warn!("waiting for {shown}, which does not answer"),
    }
    asking.await?;
    let seconds = begun.elapsed().as_secs();
    tracing::info!("{shown} answers after {seconds} s");
    Ok(())
}

/// A directory that had the store until the bucket was set is not read any more, and every image of it is missed. One copy
/// mends that, so that a bucket that nobody has opened yet does not take its place.
async fn refuse_in_place_of_directory(store: &Store, shown: &str) -> Result<(), Error> {
    let directory = store.directory();
    let refs = directory.join("refs/v1");
    let found = volume::blocking(move || volume::has_files(&refs)).await;
    if !found.map_err(|e| Error::of(directory, "reading", directory, 0, e))? {
        return Ok(());
    }
    let told = format!(
        "{} has a store that is not read, since store.s3.bucket is set: stop Peitho and bring it there with `aws s3 sync` (docs/store.md), or delete blobs/ and refs/ there",
        directory.display()
    );
    if store.is_marked().await? {
        tracing::warn!("store: {told}");
        return Ok(());
    }
    Err(Error::Unusable {
        place: shown.to_owned(),
        reason: format!("nobody has used it yet, and {told}"),
    })
}

impl Bucket {
    /// Its name and endpoint, for people.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The error of an `action` on `key`.
    pub(super) fn error(
        &self,
        action: &'static str,
        key: &Key,
        error: &object_store::Error,
    ) -> Error {
        fault::error(action, key.as_ref(), &self.shown, error)
    }

    /// Deletes an object, if it is there, without repeating: it goes now or not at all.
    pub(super) async fn delete_at_once(&self, key: &Key) -> Result<(), Error> {
        match self.impatient.delete(key).await {
            Ok(()) => Ok(()),
            Err(e) if is_missing(&e) => Ok(()),
            Err(e) => Err(self.error("deleting", key, &e)),
        }
    }

    /// How the client repeats, for what is repeated around it.
    pub(super) fn repeated(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(LONGEST_PAUSE)
            .with_total_delay(Some(self.patience))
            .without_max_times()
    }

    /// The error of a move of `key` that ended with its first half.
    pub(super) fn slow(&self, action: &'static str, key: &Key) -> Error {
        fault::slow(action, key.as_ref(), &self.shown)
    }

    /// Writes, reads back and removes an object, without repeating.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        self.probe_by(&*self.impatient).await
    }

    async fn probe_by(&self, objects: &dyn ObjectStore) -> Result<(), Error> {
        // Two at once would read and remove what the other one wrote.
        let key = &*self.probe.lock().await;
        let failed = |e| self.error("probing", key, &e);
        let written: Vec<u8> = (0..PROBE).map(|_| rand::random()).collect();
        let put = objects.put(key, written.clone().into()).await;
        put.map_err(failed)?;
        let read = objects.get(key).await.map_err(failed)?;
        let read = read.bytes().await.map_err(failed)?;
        objects.delete(key).await.map_err(failed)?;
        if read != written {
            let other = "the bucket returned other bytes than were written";
            return Err(failed(object_store::Error::Generic {
                store: "probe",
                source: other.into(),
            }));
        }
        Ok(())
    }
}

fn within(prefix: &str, bucket: AmazonS3) -> Arc<dyn ObjectStore> {
    match prefix {
        "" => Arc::new(bucket),
        prefix => Arc::new(PrefixStore::new(bucket, prefix)),
    }
}

/// Time alone ends it.
fn repeated(patience: Duration) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            max_backoff: LONGEST_PAUSE,
            ..BackoffConfig::default()
        },
        max_retries: usize::MAX,
        retry_timeout: patience,
    }
}

fn never() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn shown(config: &S3) -> String {
    let prefix = config.prefix.trim_end_matches('/');
    let name = match prefix {
        "" => config.bucket.clone(),
        prefix => format!("{}/{prefix}", config.bucket),
    };
    let endpoint = config
        .endpoint
        .as_deref()
        .map(|it| it.trim_end_matches('/'));
    format!("the bucket {name} at {}", endpoint.unwrap_or("AWS"))
}

/// Reads files: blocks.
fn builder(
    config: &S3,
    environment: &HashMap<AmazonS3ConfigKey, String>,
) -> Result<AmazonS3Builder, String> {
    let mut builder = AmazonS3Builder::new();
    for key in REGION {
        if let Some(region) = environment.get(&key) {
            builder = builder.with_region(region);
        }
    }
    if config.access_key_id.is_none() {
        let found = CREDENTIALS
            .iter()
            .filter_map(|key| Some((*key, environment.get(key)?)));
        let found: Vec<_> = found.collect();
        if found.is_empty() && config.endpoint.is_some() {
            return Err(
                "there are no credentials; set store.s3.accessKeyId and store.s3.secretAccessKeyFile, \
                 or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    .to_owned(),
            );
        }
        for (key, value) in found {
            builder = builder.with_config(key, value);
        }
    }
    if let (Some(key), Some(file)) = (&config.access_key_id, &config.secret_access_key_file) {
        let secret = secret(file)?;
        builder = builder
            .with_access_key_id(key)
            .with_secret_access_key(secret.expose_secret());
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    let virtual_hosted = config.addressing() == Addressing::VirtualHosted;
    if let Some((scheme, host)) = config.server() {
        let endpoint = match virtual_hosted {
            true => format!("{scheme}://{}.{host}", config.bucket),
            false => format!("{scheme}://{host}"),
        };
        builder = builder.with_endpoint(endpoint);
    }
    let connector = http::Connector::new(config.ca_file.as_deref())?;
    Ok(builder
        .with_bucket_name(&config.bucket)
        .with_virtual_hosted_style_request(virtual_hosted)
        // One request that all servers know, instead of one that only some do.
        .with_disable_bulk_delete(true)
        .with_http_connector(connector))
}

/// The variables `AWS_*` that are set to something. Others may hold anything, and be no text.
fn of_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> HashMap<AmazonS3ConfigKey, String> {
    let known = variables.filter_map(|(name, value)| {
        let name = name.to_str()?.strip_prefix("AWS_")?.to_ascii_lowercase();
        let key = format!("aws_{name}").parse().ok()?;
        let value = value.into_string().ok()?;
        (!value.is_empty()).then_some((key, value))
    });
    known.collect()
}

fn secret(file: &Path) -> Result<SecretString, String> {
    let secret = std::fs::read_to_string(file).map_err(|error| {
        let file = file.display();
        format!("store.s3.secretAccessKeyFile {file} cannot be read: {error}")
    })?;
    let secret = secret.strip_suffix('\n').unwrap_or(&secret);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    Ok(SecretString::from(secret))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    /// What is made of a configuration, with a key of its own or without, in an environment.
    fn made(has_key: HasKey, variables: &[(&str, &str)]) -> Result<AmazonS3Builder, String> {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "secret\n").unwrap();
        let mut config = S3 {
            bucket: "b".to_owned(),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            ..S3::default()
        };
        if has_key == HasKey::Yes {
            config.access_key_id = Some("own".to_owned());
            config.secret_access_key_file = Some(secret.path().to_owned());
        }
        let unreadable = OsString::from_vec(vec![b'A', 0xff]);
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        let variables = variables.chain([(unreadable.clone(), unreadable)]);
        builder(&config, &of_environment(variables))
    }

    #[derive(PartialEq)]
    enum HasKey {
        Yes,
        No,
    }

    #[test]
    fn the_environment_names_the_region_and_a_key_where_there_is_none() {
        let region = ("AWS_REGION", "eu-central-1");
        let (id, secret) = (
            ("AWS_ACCESS_KEY_ID", "theirs"),
            ("AWS_SECRET_ACCESS_KEY", "theirs"),
        );
        let value = |made: &AmazonS3Builder, key| made.get_config_value(&key);
        let own = made(HasKey::Yes, &[region, id, secret]).unwrap();
        assert_eq!(
            value(&own, AmazonS3ConfigKey::Region).as_deref(),
            Some("eu-central-1")
        );
        assert_eq!(
            value(&own, AmazonS3ConfigKey::AccessKeyId).as_deref(),
            Some("own")
        );
        let theirs = made(HasKey::No, &[region, id, secret]).unwrap();
        assert_eq!(
            value(&theirs, AmazonS3ConfigKey::Region).as_deref(),
            Some("eu-central-1")
        );
        assert_eq!(
            value(&theirs, AmazonS3ConfigKey::AccessKeyId).as_deref(),
            Some("theirs")
        );
        let empty = ("AWS_ACCESS_KEY_ID", "");
        for variables in [&[region][..], &[region, empty], &[]] {
            let told = made(HasKey::No, variables).unwrap_err();
            assert!(told.starts_with("there are no credentials; "), "{told}");
        }
    }
}
