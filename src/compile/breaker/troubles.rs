//! What is remembered of rows that gave trouble, and what the next runs of them are to do otherwise. Only `breaker` uses it; what a trouble is
//! it decides.

use super::super::increments::Whose;
use super::failing::Failing;
use super::remembered::Remembered;

/// After a whole part that did not come in time so many runs of the row are not asked for one: each would hold its place for it in vain.
const SPARED: u32 = 4;

/// What a run has no room for is not a row that has less than this, nor is that too much to come in time.
const LEAST: u64 = 64 << 20;

/// So many runs bear a row that is near its bound, until it may have twice as much: whatever it was too large for may be over.
const BORNE: u32 = 8;

/// Near its bound is one whose parts have this part of it: stored they are about half as large as unpacked, and a bound is of unpacked bytes.
const NEAR: u64 = 4;

/// What is remembered of rows that gave trouble, and of compiles that failed with them.
#[derive(Default)]
pub(in crate::compile) struct Troubles {
    rows: Remembered<Whose, Trouble>,
    pub(super) failing: Failing,
}

#[derive(Clone, Copy, Default)]
struct Trouble {
    late: Late,
    /// So many runs are not asked for all of it: the last one that was asked did not bring it in time.
    spared: u32,
    /// Bytes that it may have, where that is less than else: what was too large once grows there again.
    most: Option<u64>,
    /// So many runs had it in time and came to an ordinary end, while it was near that.
    borne: u32,
}

impl Trouble {
    /// Bytes that it may have, which else may have `allowed`.
    fn bounded(&self, allowed: u64) -> u64 {
        self.most.map_or(allowed, |most| most.min(allowed))
    }

    /// It may have so many from now on.
    fn bound(&mut self, most: u64) {
        (self.most, self.borne) = (Some(most), 0);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Late {
    #[default]
    InTime,
    /// It came too late: the next run is to bring half of it.
    Once,
    /// One had it for that in twice the time, and brought nothing: the next one is to.
    Slow,
    /// Half of it is there now.
    Halved,
}

/// What a run is to do with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compile) struct Terms {
    pub(in crate::compile) aim: Aim,
    /// Bytes that it may bring.
    pub(in crate::compile) most: u64,
}

/// What a run is for, as far as its row goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::compile) enum Aim {
    /// To add to it.
    #[default]
    Adding,
    /// To make half of it, since it came too late.
    Halving,
}

/// What a row is that came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Half of it may be in time.
    MayBeHalved,
    /// Half of it is late too, or cannot be had.
    Useless,
}

impl Troubles {
    /// Bytes that a row may have, which else may have `allowed`.
    pub(super) fn most(&self, whose: &Whose, allowed: u64) -> u64 {
        self.known(whose).bounded(allowed)
    }

    fn known(&self, whose: &Whose) -> Trouble {
        self.rows.change_known(whose, |it| *it).unwrap_or_default()
    }

    /// For a run that is given a row of `size` bytes as it is stored, and may bring `allowed`.
    pub(in crate::compile) fn terms(&self, whose: &Whose, allowed: u64, size: u64) -> Terms {
        let known = self.known(whose);
        let most = known.bounded(allowed);
        match known.late {
            // Stored it is about half as large as it is unpacked.
            Late::Once | Late::Slow if size > 0 => Terms {
                aim: Aim::Halving,
                most: (most / 2).min(size).max(LEAST.min(most)),
            },
            _ => Terms {
                aim: Aim::Adding,
                most,
            },
        }
    }

    /// It came too late for a run with this `aim`.
    pub(super) fn is_late(&self, whose: &Whose, aim: Aim) -> Verdict {
        let mut verdict = Verdict::MayBeHalved;
        self.rows.change(whose, |it| {
            (it.late, verdict) = match (it.late, aim) {
                (Late::InTime, Aim::Adding) => (Late::Once, Verdict::MayBeHalved),
                (late @ (Late::Once | Late::Slow), Aim::Adding) => (late, Verdict::MayBeHalved),
                (Late::Halved, _) | (_, Aim::Halving) => (Late::InTime, Verdict::Useless),
            };
        });
        verdict
    }

    /// It came to a run that was to bring half of it, later than it is worth, and nothing came of that: the second time that is too late.
    pub(super) fn is_slow(&self, whose: &Whose) -> Verdict {
        let verdict = self.rows.change_known(whose, |it| {
            let verdict;
            (it.late, verdict) = match it.late {
                Late::Once => (Late::Slow, Verdict::MayBeHalved),
                Late::Slow => (Late::InTime, Verdict::Useless),
                // Another one has brought it meanwhile, or it is gone.
                late @ (Late::InTime | Late::Halved) => (late, Verdict::MayBeHalved),
            };
            verdict
        });
        verdict.unwrap_or(Verdict::MayBeHalved)
    }

    /// It came in the time that it is worth, `size` bytes as it is stored, to a run that came to an ordinary end.
    pub(super) fn is_in_time(&self, whose: &Whose, size: u64, allowed: u64) {
        self.rows.change_known(whose, |it| {
            it.late = Late::InTime;
            let Some(most) = it.most.filter(|most| size >= most / NEAR) else {
                return;
            };
            it.borne += 1;
            if it.borne == BORNE {
                it.bound(2 * most);
                it.most = it.most.filter(|most| *most < allowed);
            }
        });
    }

    /// A run brought half of it, in no more than `most` bytes.
    pub(in crate::compile) fn is_halved(&self, whose: &Whose, most: u64) {
        self.rows.change(whose, |it| {
            it.late = Late::Halved;
            it.bound(most);
        });
    }

    /// It goes.
    pub(super) fn is_gone(&self, whose: &Whose) {
        self.rows.change_known(whose, |it| it.late = Late::InTime);
    }

    /// It goes, and a run that might bring `most` bytes of it may have had no room for it: the next one is to be half as large.
    pub(super) fn is_too_large(&self, whose: &Whose, most: u64) {
        let half = (most / 2).max(LEAST.min(most));
        self.rows.change(whose, |it| {
            it.late = Late::InTime;
            // Another run of the same row may have said so already.
            if it.most.is_none_or(|bound| half < bound) {
                it.bound(half);
            }
        });
    }

    /// All of it was asked for, and did not come.
    pub(super) fn lacks_whole(&self, whose: &Whose) {
        self.rows.change(whose, |it| it.spared = SPARED);
    }

    /// Whether a run is not to be asked for all of it; counted.
    pub(in crate::compile) fn spare(&self, whose: &Whose) -> bool {
        let spared = self.rows.change_known(whose, |it| {
            let spared = it.spared;
            it.spared = spared.saturating_sub(1);
            spared
        });
        spared.is_some_and(|spared| spared > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Architecture, Digest, Tenant};

    const M: u64 = 1 << 20;

    fn whose() -> Whose {
        let builder = Digest::of(b"builder");
        Whose::new(
            Tenant::default_tenant(),
            &builder,
            &Architecture::of_this_machine(),
        )
    }

    fn adding(most: u64) -> Terms {
        let aim = Aim::Adding;
        Terms { aim, most }
    }

    fn halving(most: u64) -> Terms {
        let aim = Aim::Halving;
        Terms { aim, most }
    }

    #[test]
    fn what_is_late_is_halved_and_goes_when_half_is_late_too() {
        let (troubles, whose) = (Troubles::default(), whose());
        assert_eq!(troubles.terms(&whose, 1000 * M, 300 * M), adding(1000 * M));
        assert_eq!(troubles.is_late(&whose, Aim::Adding), Verdict::MayBeHalved);
        // Another one that had begun by then says nothing new.
        assert_eq!(troubles.is_late(&whose, Aim::Adding), Verdict::MayBeHalved);
        assert_eq!(troubles.terms(&whose, 1000 * M, 300 * M), halving(300 * M));
        assert_eq!(troubles.terms(&whose, 1000 * M, 900 * M), halving(500 * M));
        assert_eq!(troubles.terms(&whose, 1000 * M, 20 * M), halving(64 * M));
        // Of a row that is gone there is no half.
        assert_eq!(troubles.terms(&whose, 1000 * M, 0), adding(1000 * M));
        troubles.is_halved(&whose, 300 * M);
        assert_eq!(troubles.terms(&whose, 1000 * M, 200 * M), adding(300 * M));
        assert_eq!(troubles.is_late(&whose, Aim::Adding), Verdict::Useless);
        // It is made anew, and does not grow beyond that.
        assert_eq!(troubles.terms(&whose, 1000 * M, 100 * M), adding(300 * M));
    }

    #[test]
    fn what_is_late_when_half_is_wanted_goes() {
        let (troubles, whose) = (Troubles::default(), whose());
        troubles.is_late(&whose, Aim::Adding);
        assert_eq!(troubles.is_late(&whose, Aim::Halving), Verdict::Useless);
        assert_eq!(troubles.terms(&whose, 1000 * M, 300 * M), adding(1000 * M));
        troubles.is_late(&whose, Aim::Adding);
        troubles.is_in_time(&whose, 300 * M, 1000 * M);
        assert_eq!(troubles.terms(&whose, 1000 * M, 300 * M), adding(1000 * M));
    }

    #[test]
    fn what_is_slow_twice_when_half_is_wanted_and_not_brought_goes() {
        let (troubles, whose) = (Troubles::default(), whose());
        // A run that did not have to bring half is none of these.
        assert_eq!(troubles.is_slow(&whose), Verdict::MayBeHalved);
        troubles.is_late(&whose, Aim::Adding);
        assert_eq!(troubles.is_slow(&whose), Verdict::MayBeHalved);
        // In between one may have been late that was not asked for half.
        troubles.is_late(&whose, Aim::Adding);
        assert_eq!(troubles.terms(&whose, 1000 * M, 300 * M), halving(300 * M));
        assert_eq!(troubles.is_slow(&whose), Verdict::Useless);
        assert_eq!(troubles.terms(&whose, 1000 * M, 300 * M), adding(1000 * M));
        // One that brought half in between has mended it.
        troubles.is_late(&whose, Aim::Adding);
        troubles.is_slow(&whose);
        troubles.is_halved(&whose, 300 * M);
        assert_eq!(troubles.is_slow(&whose), Verdict::MayBeHalved);
        assert_eq!(troubles.terms(&whose, 1000 * M, 300 * M), adding(300 * M));
    }

    #[test]
    fn what_a_run_had_no_room_for_is_half_as_large_the_next_time() {
        let (troubles, whose) = (Troubles::default(), whose());
        let mut had = 2 << 30;
        for most in [1 << 30, 512 << 20, 256 << 20, 128 << 20, 64 << 20, 64 << 20] {
            // Those that ran beside it had the same one.
            for _ in 0..3 {
                troubles.is_too_large(&whose, had);
            }
            assert_eq!(troubles.terms(&whose, 2 << 30, 1), adding(most));
            had = most;
        }
        // Where no more is allowed at all.
        assert_eq!(troubles.terms(&whose, 1 << 20, 1), adding(1 << 20));
        let troubles = Troubles::default();
        troubles.is_too_large(&whose, 1 << 20);
        assert_eq!(troubles.terms(&whose, 1 << 20, 1), adding(1 << 20));
    }

    #[test]
    fn what_runs_bear_may_be_twice_as_large_after_some_of_them() {
        let (troubles, whose) = (Troubles::default(), whose());
        let allowed = 500 * M;
        troubles.is_too_large(&whose, 250 * M);
        let most = || troubles.terms(&whose, allowed, 1).most;
        assert_eq!(most(), 125 * M);
        let bears = |size, count: u32| {
            for _ in 0..count {
                troubles.is_in_time(&whose, size, allowed);
            }
        };
        // Far from its bound it says nothing of it.
        bears(30 * M, 2 * BORNE);
        bears(32 * M, BORNE - 1);
        assert_eq!(most(), 125 * M);
        // Counted is from the last bound on.
        troubles.is_too_large(&whose, 125 * M);
        assert_eq!(most(), 64 * M);
        bears(32 * M, BORNE - 1);
        assert_eq!(most(), 64 * M);
        bears(32 * M, 1);
        assert_eq!(most(), 128 * M);
        bears(100 * M, BORNE);
        assert_eq!(most(), 256 * M);
        bears(100 * M, BORNE);
        assert_eq!(most(), allowed);
        assert_eq!(troubles.known(&whose).most, None);
        // What is gone for another reason may be as large again.
        troubles.is_gone(&whose);
        assert_eq!(most(), allowed);
    }
}
