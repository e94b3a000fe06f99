//! Results in the store: a finished compile is served from there, log and all (design D7). Failures are
//! never kept. `compile` uses it, and `collection` asks which there are and when they were used: any of them may go, the
//! next install compiles again.

use std::time::Duration;

use futures::{Stream, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{End, Run};
use crate::names::{CompileKey, Tenant};
use crate::store::spool::Spool;
use crate::store::{Blob, Error, Place, Read, RefKind, Store};

/// A use is noted when the last note is older: a network that installs one package on many peers writes once.
pub const USE_IS_NOTED: Duration = Duration::from_secs(3600);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    log: Blob,
    output: Option<Blob>,
}

/// A result in the store, or the record of one that is damaged, which is worth nothing: it has no blobs.
#[derive(Clone, Debug)]
pub struct StoredResult {
    /// Whose it is, where it stands, and when it was last noted as used: [`USE_IS_NOTED`] less exact.
    pub place: Place,
    /// What it consists of.
    pub blobs: Vec<Blob>,
}

impl StoredResult {
    /// Whether its record is damaged: a sound one names a log at the least.
    pub fn is_damaged(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Bytes of its blobs.
    pub fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}

/// Every result in the store, in no order. A damaged one is told. One that the disk does not give, or that another release may have
/// written, is told and left out.
///
/// # Errors
/// When the store cannot be read.
pub fn stored(store: &Store) -> impl Stream<Item = Result<StoredResult, Error>> {
    let read = store.every_ref::<Kept>(RefKind::Compile);
    read.try_filter_map(async |read| match read {
        Read::Ref { place, value, .. } => Ok(Some(StoredResult {
            place,
            blobs: value.output.into_iter().chain([value.log]).collect(),
        })),
        Read::Damaged { place, reason } => {
            tracing::warn!(record = %place, reason, "compile: the record of a result is damaged, and goes; the next install of its package compiles again");
            let blobs = Vec::new();
            Ok(Some(StoredResult { place, blobs }))
        }
        Read::Unread { place, reason } | Read::Strange { place, reason } => {
            tracing::warn!(record = %place, reason, "compile: the record of a result cannot be read, and what it names may go; the next install of its package compiles again");
            Ok(None)
        }
    })
}

/// The kept result of `key`, if its blobs are still there.
pub(super) async fn find(
    store: &Store,
    tenant: &Tenant,
    key: &CompileKey,
) -> Result<Option<Run>, Error> {
    let name = key.to_string();
    let kept = match store.get_ref::<Kept>(RefKind::Compile, tenant, &name).await {
        Ok(Some(kept)) => kept,
        Ok(None) => return Ok(None),
        Err(error @ Error::Corrupt { .. }) => {
            tracing::warn!(compile = %key, %tenant, %error, "compile: its result in the store cannot be read; it is compiled again");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // First: who makes room leaves what was used since it looked. What it removes at this very moment may be found below and be
    // gone when it is fetched: that is told then, and the next install compiles.
    match (store.touch_ref(RefKind::Compile, tenant, &name, USE_IS_NOTED)).await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        // A full volume refuses that, and what is there can be served all the same.
        Err(error) => {
            tracing::warn!(compile = %key, %tenant, %error, "compile: the use of its result is not noted; it may go from the store sooner");
        }
    }
    if let Some(output) = &kept.output
        && !store.holds(output).await?
    {
        return Ok(None);
    }
    let log = match Spool::of_blob(store, &kept.log).await {
        Ok(Some(log)) => log,
        Ok(None) => return Ok(None),
        Err(error @ Error::Damaged { .. }) => {
            tracing::warn!(compile = %key, %tenant, %error, "compile: the log of its result is damaged; it is compiled again");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let end = End::Exited {
        code: 0,
        output: kept.output,
    };
    Ok(Some(Run {
        log,
        end: watch::Sender::new(Some(end)).subscribe(),
        door: None,
    }))
}

/// Keeps a success. Durable when this returns.
pub(super) async fn keep(
    store: &Store,
    tenant: &Tenant,
    key: &CompileKey,
    log: &Spool,
    output: Option<Blob>,
) -> Result<(), Error> {
    let kept = Kept {
        log: log.commit(store).await?,
        output,
    };
    store
        .put_ref(RefKind::Compile, tenant, &key.to_string(), &kept)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    /// By a machine that has no copies.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_result_whose_log_is_damaged_in_the_bucket_is_none() {
        let bucket = fixture::Bucket::new().await;
        let store = bucket.open().await;
        let (tenant, key) = (
            Tenant::default_tenant(),
            CompileKey::new(crate::names::Digest::of(b"key")),
        );
        let log = Spool::create(&store).await.unwrap();
        log.append(b"compiled").await.unwrap();
        keep(&store, &tenant, &key, &log, None).await.unwrap();
        let elsewhere = bucket.open().await;
        assert!(find(&elsewhere, &tenant, &key).await.unwrap().is_some());

        let digest = crate::names::Digest::of(b"compiled");
        let object = bucket.objects.join("blobs/sha256").join(digest.hex());
        std::fs::write(&object, "c0mpiled").unwrap();
        let elsewhere = bucket.open().await;
        assert!(find(&elsewhere, &tenant, &key).await.unwrap().is_none());
        // The next one is compiled, and kept in its place.
        assert!(!object.exists());
        keep(&elsewhere, &tenant, &key, &log, None).await.unwrap();
        let elsewhere = bucket.open().await;
        assert!(find(&elsewhere, &tenant, &key).await.unwrap().is_some());
    }
}
