//! Rows of a compiler's cache that are suspected: a run that began with one and came to no ordinary end may have died of it, and every
//! later one would die of it again. So the row goes, and the next run begins cold. That costs a cold compile at the worst; a cache that is
//! served for ever costs a tenant its installs. Where its size may have been the cause, the next row is smaller for a while. `compile` asks
//! here when a run is over.

use serde::Deserialize;

use super::increments::{self, Increment, Whose};
use super::told::Fared;
use super::warmth::{Coming, Warmth, size};
use super::{Compiles, End, ReportError};
use crate::names::CompileKey;
use crate::store::{Error, Store};

mod failing;
mod remembered;
mod troubles;

use failing::OFTEN;
use troubles::Verdict;
pub(super) use troubles::{Aim, Troubles};

/// From here on a code says which signal ended the command.
pub(super) const SIGNALLED: i64 = 128;

/// What a command ran out of, by the agent's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lack {
    /// The kernel killed some of it.
    Memory,
    /// It failed, and its volume has less left than the cache takes; or its node ended it for want of room.
    Room,
}

impl Lack {
    fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "it ran out of memory",
            Self::Room => "its volume was full",
        }
    }
}

/// Why what a run began with may be what ended it; `None` after an ordinary end.
fn suspicion(end: &End, lack: Option<Lack>) -> Option<String> {
    match (end, lack) {
        (End::Failed(reason), _) => Some(reason.to_string()),
        (End::Exited { .. }, Some(lack)) => Some(lack.as_str().to_owned()),
        (End::Exited { code, .. }, None) if *code >= SIGNALLED => {
            Some(format!("it ended with {code}"))
        }
        (End::Exited { .. }, None) => None,
    }
}

impl Compiles {
    /// As [`Compiles::exited`], where the command failed for `lack` of something.
    ///
    /// # Errors
    /// As [`Compiles::exited`].
    pub async fn ran_out(
        &self,
        key: &CompileKey,
        code: i64,
        lack: Lack,
    ) -> Result<(), ReportError> {
        let job = self.job(key)?;
        job.report_exit(code, Some(lack), &self.0.store).await
    }

    /// The command of `key` came to this `end`. Whoever orders the same again waits for this, so that he does not find what it died of; and so does
    /// what its agent brings back.
    pub(super) async fn judge(&self, key: &CompileKey, warmth: &Warmth, end: &End) {
        self.judge_row(key, warmth, end).await;
        warmth.set_judged();
    }

    async fn judge_row(&self, key: &CompileKey, warmth: &Warmth, end: &End) {
        let (troubles, allowed) = (&self.0.troubles, warmth.allowed());
        let failing = &troubles.failing;
        let code = match end {
            End::Exited { code, .. } => Some(*code),
            End::Failed(_) => None,
        };
        if code == Some(0) || warmth.began_without().is_some() {
            failing.forget(key);
        }
        if let Some((whose, kept_away)) = warmth.began_without().filter(|_| code == Some(0)) {
            let why = format!("a compile that failed {OFTEN} times with it succeeds without");
            return self.lose(key, whose, &kept_away, allowed, &why).await;
        }
        let Some((whose, given)) = warmth.began_with() else {
            return;
        };
        match suspicion(end, warmth.lack()) {
            Some(_) if warmth.was_left_early() => {}
            Some(why) => {
                match warmth.lack() {
                    Some(Lack::Room) => troubles.is_too_large(whose, warmth.most()),
                    // A smaller one would be no cure.
                    Some(Lack::Memory) | None => troubles.is_gone(whose),
                }
                self.lose(key, whose, &given, allowed, &why).await;
            }
            None if code != Some(0) => failing.failed(key),
            None => {}
        }
    }
}

impl Compiles {
    /// Whether the next run of `key` is to begin with nothing, since it failed too often with what was kept.
    pub(super) fn doubts(&self, key: &CompileKey) -> bool {
        self.0.troubles.failing.is_doubted(key)
    }

    /// Heeds what became of what the agent of `key` was asked for, once nothing more comes.
    pub(super) async fn heed_gathered(&self, key: &CompileKey, warmth: &Warmth) {
        if let Some(whose) = warmth.lacks_whole() {
            self.0.troubles.lacks_whole(whose);
        }
        let Some((whose, given)) = warmth.lacks_half() else {
            return;
        };
        if self.0.troubles.is_slow(whose) == Verdict::Useless {
            let why = "it comes late, and half of it is not brought";
            self.lose(key, whose, &given, warmth.allowed(), why).await;
        }
    }

    /// Heeds how an agent fared with what it was given.
    pub(super) async fn heed(&self, coming: &Coming) {
        let (whose, (fared, given)) = (coming.whose(), coming.fared());
        let (troubles, allowed) = (&self.0.troubles, coming.allowed());
        if let Some(Fared::Late | Fared::Failed) = fared {
            // It ran without after all.
            troubles.failing.forget(&coming.key());
        }
        match fared {
            Some(Fared::Late) => match troubles.is_late(whose, coming.aim()) {
                Verdict::MayBeHalved => {}
                Verdict::Useless => {
                    let why = "it comes later than it is worth";
                    let key = coming.key();
                    self.lose(&key, whose, &given, allowed, why).await;
                }
            },
            // One that is not fit has judged it already.
            Some(Fared::Warm) if coming.is_in_time() && coming.is_fit() => {
                troubles.is_in_time(whose, size(&given), allowed);
            }
            Some(Fared::Warm | Fared::Cold | Fared::Failed) | None => {}
        }
    }

    /// Removes the row that `given` belongs to, unless all of that is gone. Rows of it may have `allowed` bytes at the most.
    async fn lose(
        &self,
        key: &CompileKey,
        whose: &Whose,
        given: &[Increment],
        allowed: u64,
        why: &str,
    ) {
        match removed(&self.0.store, whose, given).await {
            Ok(true) => {
                let most = self.0.troubles.most(whose, allowed);
                tracing::warn!(compile = %key, %whose, why, most, "compile: a compiler's cache may do harm to runs, and goes; the next one begins cold");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(compile = %key, %whose, why, %error, "compile: a compiler's cache may do harm to runs, and was not removed; see `peitho prune --caches`");
            }
        }
    }
}

async fn removed(store: &Store, whose: &Whose, given: &[Increment]) -> Result<bool, Error> {
    if !increments::is_any_there(store, whose, given).await? {
        return Ok(false);
    }
    for increment in increments::row(store, whose).await? {
        increments::remove(store, whose, &increment.name).await?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i64) -> End {
        End::Exited { code, output: None }
    }

    #[test]
    fn an_ordinary_end_is_no_suspicion() {
        for code in [0, 1, 125, 127] {
            assert_eq!(suspicion(&exited(code), None), None, "{code}");
        }
        assert!(suspicion(&exited(137), None).is_some());
        assert!(suspicion(&exited(1), Some(Lack::Room)).is_some());
        assert!(suspicion(&End::Failed("gone".into()), None).is_some());
    }
}
