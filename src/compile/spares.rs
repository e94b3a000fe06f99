//! Containers made ahead of need (ADR 0015), as far as compiles go: after a run the runtime is asked for one such as it had, whose agent fetches
//! what the compiler kept while it waits. `delivery` brings its questions. Which compile gets which container the runtime decides; that one is
//! missing or broken costs its head start and nothing else, so failures here are told and end nothing.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::increments::{self, Whose};
use super::{Compiles, ReportError, whose};
use crate::names::{CompileKey, Digest, SpareId};
use crate::runtime::{CompileSpec, SpareSpec, Spares, UnknownSpare, Work};
use crate::store::Blob;

/// What those that wait are given of what their compilers kept.
#[derive(Default)]
pub(super) struct Warmed(Mutex<HashMap<SpareId, Arc<Warming>>>);

struct Warming {
    whose: Whose,
    /// Bytes that they may have; `None` where nothing is kept.
    most: Option<u64>,
    /// Its parts, once it has asked.
    given: OnceLock<Vec<Blob>>,
}

/// Known as long as this lives.
struct Known<'a> {
    warmed: &'a Warmed,
    id: SpareId,
}

impl Warmed {
    fn add(&self, id: SpareId, whose: Whose, most: Option<u64>) -> Known<'_> {
        let given = OnceLock::new();
        let warming = Warming { whose, most, given };
        self.all().insert(id, Arc::new(warming));
        Known { warmed: self, id }
    }

    fn of(&self, id: &SpareId) -> Result<Arc<Warming>, UnknownSpare> {
        self.all().get(id).cloned().ok_or(UnknownSpare(*id))
    }

    fn all(&self) -> MutexGuard<'_, HashMap<SpareId, Arc<Warming>>> {
        self.0
            .lock()
            .expect("nothing panics while it holds what waits")
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.warmed.all().remove(&self.id);
    }
}

impl Compiles {
    /// Has a container made for the next compile such as `spec`, which is over. Returns at once.
    pub(super) fn prepare(&self, spec: &CompileSpec) {
        if !self.0.runtime.spares().is_some_and(Spares::are_made) {
            return;
        }
        let Some(spare) = SpareSpec::like(spec) else {
            return;
        };
        let this = self.clone();
        self.0.tasks.spawn(async move {
            let inner = &this.0;
            let whose = whose(&spare.tenant, &spare.builder, &spare.facts);
            let most = this.cache_bytes(&spare.tenant, &spare.image);
            let _known = inner.warmed.add(spare.id, whose, most);
            if let Err(error) = inner.runtime.spare(&spare).await {
                tracing::warn!(tenant = %spare.tenant, image = %spare.image, %error, "compile: no pod was made ahead of need (compile.warmPods); the next compile makes its own");
            }
        });
    }

    /// What the agent that waits as `id` is to do; `None`: it is to ask again.
    ///
    /// # Errors
    /// [`ReportError::UnknownSpare`].
    pub async fn work(&self, id: &SpareId) -> Result<Option<Work>, ReportError> {
        let spares = self.0.runtime.spares().ok_or(UnknownSpare(*id))?;
        Ok(spares.work(id).await?)
    }

    /// The agent that waited as `id` begins with the compile `key`, if this succeeds.
    ///
    /// # Errors
    /// [`ReportError::UnknownSpare`].
    pub fn accept_work(&self, id: &SpareId, key: &CompileKey) -> Result<(), ReportError> {
        let spares = self.0.runtime.spares().ok_or(UnknownSpare(*id))?;
        Ok(spares.accept(id, key)?)
    }

    /// What the agent that waits as `id` may fetch ahead of what its compiler kept: parts to be unpacked one over the other, and how many bytes
    /// they may have. `None` where nothing is kept. Its compile is given a plan of its own, and goes on from there where that begins with these parts.
    ///
    /// # Errors
    /// [`ReportError::UnknownSpare`], [`ReportError::Store`].
    pub async fn parts_ahead(&self, id: &SpareId) -> Result<Option<(Vec<Blob>, u64)>, ReportError> {
        let warming = self.0.warmed.of(id)?;
        let Some(most) = warming.most else {
            return Ok(None);
        };
        let row = increments::row(&self.0.store, &warming.whose).await?;
        let parts = row.iter().map(|it| it.kept.blob).collect();
        // One list for each, as for a compile: it reads nothing that is not in it.
        Ok(Some((warming.given.get_or_init(|| parts).clone(), most)))
    }

    /// One of these parts, for reading.
    ///
    /// # Errors
    /// [`ReportError::UnknownSpare`], [`ReportError::NoIncrement`], [`ReportError::Store`].
    pub async fn part_ahead(
        &self,
        id: &SpareId,
        digest: &Digest,
    ) -> Result<(File, Blob), ReportError> {
        let warming = self.0.warmed.of(id)?;
        let mut given = warming.given.get().into_iter().flatten();
        if !given.any(|it| it.digest == *digest) {
            return Err(ReportError::NoIncrement(*digest));
        }
        let found = self.0.store.open_blob(digest).await?;
        found.ok_or(ReportError::NoIncrement(*digest))
    }
}
