//! Results in the store: a finished compile is served from there, log and all (design D7). Failures are
//! never kept. Only `compile` uses it.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{End, Run};
use crate::names::{CompileKey, Tenant};
use crate::store::spool::Spool;
use crate::store::{Blob, Error, RefKind, Store};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    log: Blob,
    output: Option<Blob>,
}

/// The kept result of `key`, if its blobs are still there.
pub(super) async fn find(
    store: &Store,
    tenant: &Tenant,
    key: &CompileKey,
) -> Result<Option<Run>, Error> {
    let Some(kept) = store
        .get_ref::<Kept>(RefKind::Compile, tenant, &key.to_string())
        .await?
    else {
        return Ok(None);
    };
    for blob in kept.output.iter().chain([&kept.log]) {
        if store.find_blob(&blob.digest).await?.is_none() {
            return Ok(None);
        }
    }
    let end = End::Exited {
        code: 0,
        output: kept.output,
    };
    Ok(Some(Run {
        log: Spool::of_blob(store, &kept.log).await?,
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
