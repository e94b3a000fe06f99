//! A run and its compiler's cache: what the agent is given of it before the command, and what it brings back afterwards. Nobody waits
//! for that but the container, which stays until it came or a while is over. That a cache is cold, damaged or full costs a compile
//! its head start and nothing else, so failures here are told and end nothing. `delivery` calls it for the agent, whose word counts for
//! nothing beyond its own tenant and builder: the run says whose the cache is. What comes back is `gained`'s.

use std::fs::File;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures::future::FusedFuture;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, timeout};

use super::breaker::{Aim, SIGNALLED};
use super::increments::{self, Increment, Whose};
use super::job::Job;
use super::told::{Fared, Plan, Told};
use super::{Compiles, Lack, ReportError};
use crate::archive::Extent;
use crate::names::{CompileKey, Digest};
use crate::store::Blob;

mod gained;

pub use gained::Coming;

/// So many increments are laid one over the other at the most: each is a request and a record to read.
const LONGEST_ROW: usize = 16;

/// A cache is waited for at the most for this part of what it can save: one that is late costs so much more than none.
const SHARE: u64 = 4;

/// One of which nobody knows what it saves, or that saves little, is waited for as long as this all the same.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);

/// How long the container stays for what the agent brings back.
const GATHERING: Duration = Duration::from_secs(60);

/// The same while somebody waits for its end, since he wants the same compile again, or for its place.
const HURRIED: Duration = Duration::from_secs(5);

/// The same once the container is over: what came of it may still be written.
const WRITING: Duration = Duration::from_secs(5);

/// A run that nobody waits for any more is over in so long, or its cache may be what it hangs in.
const LEFT: Duration = Duration::from_secs(60);

/// A run's part in this.
pub(super) struct Warmth {
    /// `None` where nothing is kept: the builder is not known, or it is switched off.
    whose: Option<(Whose, u64)>,
    /// What the agent was told when it asked first: it is never told anything else, so that nobody gets back by asking anew what was wiped
    /// meanwhile.
    plan: OnceCell<Plan>,
    state: Mutex<State>,
    stage: watch::Sender<Stage>,
    hurried: watch::Sender<bool>,
    /// Whether it is known what the run's end says of the cache that it began with.
    judged: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// What the agent was given, less what it found damaged.
    given: Vec<Increment>,
    /// What it was not given, since its compile failed too often with it.
    kept_away: Vec<Increment>,
    asked: Option<Instant>,
    /// How long the command took, from the question on.
    took: Option<Duration>,
    /// Its code, and what it ran out of.
    code: Option<i64>,
    lack: Option<Lack>,
    /// How long it had run when it was ended because nobody waited for it any more.
    left_after: Option<Duration>,
    told: Option<Told>,
    /// What it was asked for, to what end, and bytes of that at the most.
    asked_for: Option<Extent>,
    aim: Aim,
    most: u64,
    /// In which what it was given has to come, where nothing is to be done about it.
    patience: Duration,
    /// Whether that came, or the agent said that there is nothing.
    is_answered: bool,
    /// Bytes of what it brought.
    brought: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The agent has not asked: it will not bring anything.
    Unasked,
    /// It will.
    Awaited,
    /// It does.
    Coming,
    /// Nothing is taken any more.
    Over,
}

impl Warmth {
    /// `most`: bytes that a cache may have.
    pub(super) fn new(whose: Option<Whose>, most: Option<u64>) -> Self {
        Self {
            whose: whose.zip(most),
            plan: OnceCell::new(),
            state: Mutex::default(),
            stage: watch::Sender::new(Stage::Unasked),
            hurried: watch::Sender::new(false),
            judged: watch::Sender::new(false),
        }
    }

    pub(super) fn set_judged(&self) {
        self.judged.send_replace(true);
    }

    /// Waits for that.
    async fn judged(&self) {
        let mut judged = self.judged.subscribe();
        // The sender lives in `self`: it does not go.
        let _ = judged.wait_for(|judged| *judged).await;
    }

    /// The command is over.
    pub(super) fn command_ended(&self, code: i64, lack: Option<Lack>) {
        let mut state = self.state();
        state.code = Some(code);
        state.lack = lack;
        let took = state.asked.map(|asked| asked.elapsed());
        state.took = state.took.or(took);
    }

    /// The container ended for want of this, and nobody told of the command's end.
    pub(super) fn lacked(&self, lack: Lack) {
        self.state().lack = Some(lack);
    }

    /// Whose cache the run was given, and what of it; `None` where that was nothing.
    pub(super) fn began_with(&self) -> Option<(&Whose, Vec<Increment>)> {
        let (whose, _) = self.whose.as_ref()?;
        let given = self.state().given.clone();
        (!given.is_empty()).then_some((whose, given))
    }

    /// Whose cache the run was not given, and what was there of it; `None` where it was given all.
    pub(super) fn began_without(&self) -> Option<(&Whose, Vec<Increment>)> {
        let (whose, _) = self.whose.as_ref()?;
        let kept_away = self.state().kept_away.clone();
        (!kept_away.is_empty()).then_some((whose, kept_away))
    }

    /// Nobody waits for the run any more, and it is ended.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.left_after = state.asked.map(|asked| asked.elapsed());
    }

    /// Whether it was ended, for want of somebody who waits, before it had taken longer than one without a cache does.
    pub(super) fn was_left_early(&self) -> bool {
        let state = self.state();
        let worth = worth(&state.given);
        state.left_after.is_some_and(|after| is_early(after, worth))
    }

    /// Whose cache it is of which a whole part was wanted, and did not come.
    pub(super) fn lacks_whole(&self) -> Option<&Whose> {
        let (whose, _) = self.whose.as_ref()?;
        let state = self.state();
        (state.asked_for == Some(Extent::Whole) && !state.is_answered).then_some(whose)
    }

    /// Whose cache came later than it is worth to a run that was to bring half of it, and brought nothing; and what of it.
    pub(super) fn lacks_half(&self) -> Option<(&Whose, Vec<Increment>)> {
        let (whose, _) = self.whose.as_ref()?;
        let state = self.state();
        let is_warm = state.told.is_some_and(|told| told.fared == Fared::Warm);
        let is_slow = state.aim == Aim::Halving && is_warm && !state.is_in_time();
        (is_slow && state.brought == 0).then(|| (whose, state.given.clone()))
    }

    /// Bytes that the run was allowed to bring.
    pub(super) fn most(&self) -> u64 {
        self.state().most
    }

    /// Bytes that the cache might have.
    pub(super) fn allowed(&self) -> u64 {
        self.whose.as_ref().map_or(0, |(_, most)| *most)
    }

    /// What the command ran out of.
    pub(super) fn lack(&self) -> Option<Lack> {
        self.state().lack
    }

    /// Whether the agent knows of it, and so may bring something back.
    pub(super) fn is_asked(&self) -> bool {
        self.state().asked.is_some()
    }

    /// Somebody waits for the end of all this.
    pub(super) fn hurry(&self) {
        self.hurried.send_replace(true);
    }

    /// Nothing is taken any more.
    pub(super) fn close(&self) {
        self.stage.send_replace(Stage::Over);
    }

    /// Waits for what the agent brings back from its container, which is `running`.
    ///
    /// `wanted`: whether somebody waits for its place.
    pub(super) async fn gathered(
        &self,
        running: &mut (impl FusedFuture + Unpin),
        mut wanted: watch::Receiver<bool>,
    ) {
        if *self.stage.borrow() == Stage::Unasked {
            return self.close();
        }
        let mut stage = self.stage.subscribe();
        let mut hurried = self.hurried.subscribe();
        let came = stage.wait_for(|stage| *stage == Stage::Over);
        let container_ended = async {
            if !running.is_terminated() {
                running.await;
            }
            if *self.stage.borrow() == Stage::Coming {
                sleep(WRITING).await;
            }
        };
        let hurried = async {
            // The senders live in `self` and in the queue: they do not go.
            tokio::select! {
                _ = hurried.wait_for(|hurried| *hurried) => {}
                _ = wanted.wait_for(|wanted| *wanted) => {}
            }
            sleep(HURRIED).await;
        };
        let waited = async {
            tokio::select! {
                _ = came => {}
                () = container_ended => {}
                () = hurried => {}
            }
        };
        if timeout(GATHERING, waited).await.is_err() {
            tracing::warn!(
                seconds = GATHERING.as_secs(),
                "compile: what a compiler's cache gained did not come in time, and is lost"
            );
        }
        self.close();
    }

    /// One line, where there was something to tell.
    pub(super) fn tell(&self, key: &CompileKey) {
        let Some((whose, _)) = &self.whose else {
            return;
        };
        let state = self.state();
        if state.asked.is_none() {
            return;
        }
        let told = state.told;
        tracing::info!(
            compile = %key, tenant = %whose.tenant,
            cache = told.map_or("unknown", |told| told.fared.as_str()),
            parts = state.given.len(),
            parts.bytes = size(&state.given),
            most = state.most,
            fetch_ms = told.map(|told| told.fetch_ms),
            gained.bytes = state.brought,
            "compile: its compiler's cache"
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds a run's warmth")
    }
}

impl State {
    /// Whether the command came to an ordinary end: else anything may be half done.
    fn is_fit(&self) -> bool {
        self.lack.is_none() && self.code.is_some_and(|code| code < SIGNALLED)
    }

    /// Whether what the agent was given came in the time that it is worth.
    fn is_in_time(&self) -> bool {
        let fetched = self.told.map(|told| Duration::from_millis(told.fetch_ms));
        fetched.is_some_and(|fetched| fetched <= self.patience)
    }

    /// What a cache can save by this run: how long its command took without one. One that failed may have begun hardly anything.
    fn worth(&self) -> Option<u64> {
        let told = self.told.filter(|told| told.fared != Fared::Warm)?;
        let took = self.took.filter(|_| self.code == Some(0))?.as_millis() as u64;
        Some(took.saturating_sub(told.fetch_ms))
    }
}

impl Compiles {
    /// What the agent of `key` is to do about its compiler's cache; `None`: nothing. The same however often it asks.
    ///
    /// # Errors
    /// [`ReportError::Unknown`], [`ReportError::Store`].
    pub async fn cache_plan(&self, key: &CompileKey) -> Result<Option<Plan>, ReportError> {
        let job = self.going_on(key)?;
        job.course.asked();
        let Some((whose, most)) = &job.warmth.whose else {
            return Ok(None);
        };
        let plan = &job.warmth.plan;
        let plan = plan.get_or_try_init(|| self.planned(key, &job, whose, *most));
        plan.await.cloned().map(Some)
    }

    async fn planned(
        &self,
        key: &CompileKey,
        job: &Job,
        whose: &Whose,
        most: u64,
    ) -> Result<Plan, ReportError> {
        let (store, warmth) = (&self.0.store, &job.warmth);
        let mut row = increments::row(store, whose).await?;
        let mut kept_away = Vec::new();
        if !row.is_empty() && self.doubts(key) {
            std::mem::swap(&mut row, &mut kept_away);
            if let Err(error) = job.log.append(WITHOUT.as_bytes()).await {
                tracing::warn!(compile = %key, %error, "compile: notice not written");
            }
        }
        // What makes way for other things first must not be what fills the volume.
        let is_full = store.room().await?.is_little();
        increments::note_use(store, whose, &row).await;
        let patience = Duration::from_millis(worth(&row).unwrap_or_default() / SHARE);
        let patience = patience.max(LEAST_PATIENCE);
        let troubles = &self.0.troubles;
        let terms = troubles.terms(whose, most, size(&row));
        let wanted = match terms.aim {
            Aim::Adding => wanted(&row, terms.most),
            Aim::Halving => Extent::Whole,
        };
        let give = (!is_full)
            .then_some(wanted)
            .filter(|extent| *extent == Extent::New || !troubles.spare(whose));
        // Who brings no half does not wait for it either.
        let aim = give.map_or(Aim::Adding, |_| terms.aim);
        let plan = Plan {
            increments: row.iter().map(|it| it.kept.blob).collect(),
            give,
            most,
            give_most: terms.most,
            patience: match aim {
                Aim::Adding => patience,
                // What does not come in that, half of it would not come in time either.
                Aim::Halving => 2 * patience,
            },
        };
        {
            let mut state = warmth.state();
            (state.aim, state.most, state.patience) = (aim, terms.most, patience);
            state.given = row;
            state.kept_away = kept_away;
            state.asked_for = plan.give;
            state.asked = Some(Instant::now());
        }
        warmth.stage.send_if_modified(|stage| {
            let is_first = *stage == Stage::Unasked;
            if is_first {
                *stage = Stage::Awaited;
            }
            is_first
        });
        Ok(plan)
    }

    /// An increment that the agent of `key` was told of, for reading.
    ///
    /// # Errors
    /// [`ReportError::Unknown`], [`ReportError::NoIncrement`], [`ReportError::Store`].
    pub async fn increment(
        &self,
        key: &CompileKey,
        digest: &Digest,
    ) -> Result<(File, Blob), ReportError> {
        let job = self.going_on(key)?;
        let is_given = |it: &Increment| it.kept.blob.digest == *digest;
        if !job.warmth.state().given.iter().any(is_given) {
            return Err(ReportError::NoIncrement(*digest));
        }
        let found = self.0.store.open_blob(digest).await?;
        found.ok_or(ReportError::NoIncrement(*digest))
    }

    /// The agent of `key` found an increment damaged, and compiles without any: its record goes. Nobody else can be harmed by that. It may say
    /// so when the run is over: the command does not wait for it.
    ///
    /// # Errors
    /// As [`Compiles::increment`].
    pub async fn increment_is_damaged(
        &self,
        key: &CompileKey,
        digest: &Digest,
    ) -> Result<(), ReportError> {
        let job = self.job(key)?;
        let Some((whose, _)) = &job.warmth.whose else {
            return Err(ReportError::NoIncrement(*digest));
        };
        let damaged: Vec<_> = {
            let mut state = job.warmth.state();
            let is_it = |it: &mut Increment| it.kept.blob.digest == *digest;
            state.given.extract_if(.., is_it).collect()
        };
        if damaged.is_empty() {
            return Err(ReportError::NoIncrement(*digest));
        }
        for increment in &damaged {
            tracing::warn!(compile = %key, %whose, blob = %digest, "compile: a part of a compiler's cache is damaged, and goes");
            increments::remove(&self.0.store, whose, &increment.name).await?;
        }
        Ok(())
    }
}

/// The line in the log of a run that is not given what there is.
const WITHOUT: &str = "peitho: this compile failed again and again with what its compiler kept of others; now it begins with nothing\n";

/// All of it again where the row is long or large, or where several began it at the same time.
fn wanted(row: &[Increment], most: u64) -> Extent {
    let wholes = row.iter().filter(|it| it.kept.extent == Extent::Whole);
    match row.is_empty() || row.len() >= LONGEST_ROW || size(row) > most || wholes.count() > 1 {
        true => Extent::Whole,
        false => Extent::New,
    }
}

/// In milliseconds, what it can save.
fn worth(row: &[Increment]) -> Option<u64> {
    row.iter().filter_map(|it| it.kept.worth).max()
}

pub(super) fn size(row: &[Increment]) -> u64 {
    row.iter().map(|it| it.kept.blob.size).sum()
}

/// Whether a run with a cache of this `worth` that had gone on for so long could well have been over soon.
fn is_early(after: Duration, worth: Option<u64>) -> bool {
    after < Duration::from_millis(worth.unwrap_or_default()).max(LEFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_nobody_waits_for_is_no_suspicion_before_a_cold_one_would_be_over() {
        let early = |seconds, worth| is_early(Duration::from_secs(seconds), worth);
        assert!(early(59, None) && early(59, Some(25_000)) && early(119, Some(120_000)));
        assert!(!early(60, None) && !early(60, Some(25_000)) && !early(120, Some(120_000)));
    }
}
