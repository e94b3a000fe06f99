//! What an agent brings back of its compiler's cache, on its way into the store: once, after its exit, and only what was asked for. `delivery` calls it with
//! the bytes, which nobody here looks into.

use std::sync::Arc;

use super::super::breaker::Aim;
use super::super::increments::{self, Increment, Whose};
use super::super::job::Job;
use super::super::told::{Fared, Told};
use super::super::{Compiles, ReportError};
use super::{LONGEST_ROW, Stage, worth};
use crate::archive::Extent;
use crate::names::CompileKey;
use crate::store::{Ingest, Store};

/// Beyond so many a row takes nothing but what replaces others of it: runs at the same time may each have been asked for an addition.
const HARD_END: usize = 4 * LONGEST_ROW;

/// The way of what an agent brings back into the store. Dropped, nothing more comes.
pub struct Coming {
    key: CompileKey,
    job: Arc<Job>,
    whose: Whose,
    /// Bytes at the most.
    pub most: u64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.job.warmth.stage.send_replace(Stage::Over);
    }
}

impl Coming {
    pub(in crate::compile) fn key(&self) -> CompileKey {
        self.key
    }

    pub(in crate::compile) fn whose(&self) -> &Whose {
        &self.whose
    }

    /// Whether somebody waits for it still.
    fn is_awaited(&self) -> bool {
        *self.job.warmth.stage.borrow() == Stage::Coming
    }

    /// How the agent fared, and what it was given.
    pub(in crate::compile) fn fared(&self) -> (Option<Fared>, Vec<Increment>) {
        let state = self.job.warmth.state();
        (state.told.map(|told| told.fared), state.given.clone())
    }

    /// To what end something was asked for.
    pub(in crate::compile) fn aim(&self) -> Aim {
        self.job.warmth.state().aim
    }

    /// Bytes that the cache might have at the most, whatever became of it.
    pub(in crate::compile) fn allowed(&self) -> u64 {
        self.job.warmth.allowed()
    }

    /// Whether the command came to an ordinary end.
    pub(in crate::compile) fn is_fit(&self) -> bool {
        self.job.warmth.state().is_fit()
    }

    /// Whether what the agent was given came in the time that it is worth.
    pub(in crate::compile) fn is_in_time(&self) -> bool {
        self.job.warmth.state().is_in_time()
    }
}

impl Compiles {
    /// What the agent of `key` brings back is about to come. Once, after its exit was reported.
    ///
    /// # Errors
    /// [`ReportError::Unknown`] where nobody waits for it, or not yet: the command, which has the token too, is not to bring what it likes while it
    /// runs.
    pub fn increment_comes(&self, key: &CompileKey, told: Told) -> Result<Coming, ReportError> {
        let job = self.job(key)?;
        let unknown = || ReportError::Unknown(*key);
        let (whose, _) = job.warmth.whose.clone().ok_or_else(unknown)?;
        if !job.has_reported() {
            return Err(unknown());
        }
        let begins = job.warmth.stage.send_if_modified(|stage| {
            let is_awaited = *stage == Stage::Awaited;
            if is_awaited {
                *stage = Stage::Coming;
            }
            is_awaited
        });
        if !begins {
            return Err(unknown());
        }
        let most = {
            let mut state = job.warmth.state();
            state.told = Some(told);
            state.most
        };
        let key = *key;
        Ok(Coming {
            key,
            job,
            whose,
            most,
        })
    }

    /// Keeps what came, unless it is nothing.
    ///
    /// # Errors
    /// [`ReportError::Superseded`] when what it builds on was removed meanwhile: who wiped a cache must not find it
    /// there again. [`ReportError::Unwanted`], [`ReportError::Store`]; [`ReportError::Unknown`] when nobody waits for it any more.
    pub async fn keep_increment(&self, coming: Coming, brought: Ingest) -> Result<(), ReportError> {
        let (bytes, warmth, store) = (brought.len(), &coming.job.warmth, &self.0.store);
        // What the run's end says of the cache that it began with is done by then.
        warmth.judged().await;
        self.heed(&coming).await;
        warmth.state().is_answered = true;
        if bytes == 0 {
            return Ok(());
        }
        // It was a passing trouble: half of it is no gain.
        let is_warm = coming.fared().0 == Some(Fared::Warm);
        if coming.aim() == Aim::Halving && is_warm && coming.is_in_time() {
            return Err(ReportError::Unwanted);
        }
        let (extent, given, own) = {
            let state = warmth.state();
            let extent = state.told.map_or(Extent::New, |told| told.extent);
            let is_wanted = match state.asked_for {
                Some(Extent::Whole) => extent == Extent::Whole,
                Some(Extent::New) => true,
                None => false,
            };
            // Instead of what it was not given, only if it did better without.
            let is_better = state.kept_away.is_empty() || state.code == Some(0);
            if !is_wanted || !is_better || !state.is_fit() {
                return Err(ReportError::Unwanted);
            }
            (extent, state.given.clone(), state.worth())
        };
        let worth = worth(&given).max(own);
        let kept = keep(store, &coming, &given, brought, extent, worth);
        kept.await?;
        if coming.aim() == Aim::Halving {
            self.0.troubles.is_halved(&coming.whose, coming.most);
        }
        warmth.state().brought = bytes;
        self.0.gained.send_modify(|gained| *gained += bytes);
        Ok(())
    }
}

async fn keep(
    store: &Store,
    coming: &Coming,
    given: &[Increment],
    brought: Ingest,
    extent: Extent,
    worth: Option<u64>,
) -> Result<(), ReportError> {
    let whose = &coming.whose;
    if !increments::is_there(store, whose, given).await? {
        return Err(ReportError::Superseded);
    }
    let replaces = extent == Extent::Whole && !given.is_empty();
    if !replaces && increments::row(store, whose).await?.len() >= HARD_END {
        return Err(ReportError::Unwanted);
    }
    let blob = store.commit(brought).await?;
    if !coming.is_awaited() {
        return Err(ReportError::Unknown(coming.key));
    }
    let name = increments::add(store, whose, blob, extent, worth).await?;
    // Again: who removed them a moment ago may not have seen the new one.
    if !increments::is_there(store, whose, given).await? {
        increments::remove(store, whose, &name).await?;
        return Err(ReportError::Superseded);
    }
    if extent == Extent::Whole {
        for increment in given {
            increments::remove(store, whose, &increment.name).await?;
        }
    }
    Ok(())
}
