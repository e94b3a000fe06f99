//! One run's way: the moments that Peitho sees of it, by `job`, its runtime and its agent's requests, and in the end how long each part took. It
//! fills the histogram of `parts` and writes one line of the log. Nothing here decides anything.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::parts::{Part, Parts, Took};
use super::{Asker, Compiles, ReportError};
use crate::names::{CompileKey, Tenant};
use crate::runtime::{Milestone, Milestones};

/// One run's way.
pub(super) struct Course {
    parts: Parts,
    /// What its runtime sees.
    pub(super) milestones: Arc<Milestones>,
    begun: Instant,
    moments: Mutex<Moments>,
}

#[derive(Default)]
struct Moments {
    placed: Option<Instant>,
    /// When the agent asked first for what it fetches.
    asked: Option<Instant>,
    took: Took,
    reported: Option<Instant>,
    over: Option<Instant>,
    /// What came of them, in milliseconds.
    known: [Option<u64>; Part::ALL.len()],
}

impl Course {
    /// A run that begins now.
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            milestones: Arc::default(),
            begun: Instant::now(),
            moments: Mutex::default(),
        }
    }

    /// It has a place.
    pub(super) fn placed(&self) {
        self.moments().placed.get_or_insert_with(Instant::now);
    }

    /// Its agent asks for what it fetches.
    pub(super) fn asked(&self) {
        self.moments().asked.get_or_insert_with(Instant::now);
    }

    /// Its exit is reported.
    pub(super) fn reported(&self) {
        self.moments().reported.get_or_insert_with(Instant::now);
    }

    /// It is over for those who wait.
    pub(super) fn over(&self) {
        let mut moments = self.moments();
        let over = *moments.over.get_or_insert_with(Instant::now);
        let mut known = self.until_asked(&moments);
        known.extend(self.until_over(&moments, over));
        for (part, time) in known {
            self.note(&mut moments, part, time);
        }
    }

    /// What Peitho and the runtime see, one after the other. Who joined a container that was there does not know how that came to be.
    fn until_asked(&self, moments: &Moments) -> Vec<(Part, Duration)> {
        let at = |milestone| self.milestones.at(milestone);
        let made = at(Milestone::Made);
        let seen = |milestone| {
            let seen = made.and(at(milestone));
            // The agent may be heard before the platform says that it could begin.
            seen.map(|seen| moments.asked.map_or(seen, |asked| seen.min(asked)))
        };
        let mut last = self.begun;
        let ends = [
            (Part::Queue, moments.placed),
            (Part::Order, made),
            (Part::Schedule, seen(Milestone::Placed)),
            (Part::Start, made.and(moments.asked)),
        ];
        let ended = ends
            .into_iter()
            .filter_map(|(part, end)| Some((part, end?)));
        let parts = ended.map(|(part, end)| {
            let time = end.saturating_duration_since(last);
            last = last.max(end);
            (part, time)
        });
        parts.collect()
    }

    /// The agent's word, and what passes beside that.
    fn until_over(&self, moments: &Moments, over: Instant) -> Vec<(Part, Duration)> {
        let Some(reported) = moments.reported else {
            return Vec::new();
        };
        // A command that speaks in the agent's name is not to tell of centuries.
        let whole = reported.saturating_duration_since(self.begun);
        let within = |said: Option<u64>| said.map(|ms| Duration::from_millis(ms).min(whole));
        let took = moments.took;
        let [source, cache, command, pack, upload] = [
            took.source_ms,
            took.cache_ms,
            took.command_ms,
            took.pack_ms,
            took.upload_ms,
        ]
        .map(within);
        let asked = moments.asked.filter(|_| command.is_some());
        let asked = asked.filter(|_| self.milestones.at(Milestone::Made).is_some());
        let exit_known = asked.map(|asked| {
            let fetched = source.max(cache);
            let said: Duration = [fetched, command, pack, upload].into_iter().flatten().sum();
            (reported.saturating_duration_since(asked)).saturating_sub(said)
        });
        let parts = [
            (Part::SourceFetch, source),
            (Part::CacheFetch, cache),
            (Part::Command, command),
            (Part::Pack, pack),
            (Part::Upload, upload),
            (Part::ExitKnown, exit_known),
            (Part::Keep, Some(over.saturating_duration_since(reported))),
        ];
        let known = parts.into_iter();
        known
            .filter_map(|(part, time)| Some((part, time?)))
            .collect()
    }

    /// Somebody who waits has the answer.
    fn answered(&self) {
        let mut moments = self.moments();
        let is_first = moments.known[Part::Reply as usize].is_none();
        if let Some(over) = moments.over.filter(|_| is_first) {
            self.note(&mut moments, Part::Reply, over.elapsed());
        }
    }

    /// A `part` after the end, which began at `since`, is over.
    pub(super) fn after(&self, part: Part, since: Instant) {
        self.note(&mut self.moments(), part, since.elapsed());
    }

    fn note(&self, moments: &mut Moments, part: Part, time: Duration) {
        moments.known[part as usize] = Some(time.as_millis() as u64);
        self.parts.note(part, time);
    }

    /// One line, with what is known.
    pub(super) fn tell(&self, key: &CompileKey, tenant: &Tenant) {
        let known = self.moments().known;
        let of = |part: Part| known[part as usize];
        tracing::info!(
            compile = %key, %tenant,
            queue_ms = of(Part::Queue), order_ms = of(Part::Order), schedule_ms = of(Part::Schedule),
            start_ms = of(Part::Start),
            source_fetch_ms = of(Part::SourceFetch), cache_fetch_ms = of(Part::CacheFetch),
            command_ms = of(Part::Command), pack_ms = of(Part::Pack), upload_ms = of(Part::Upload),
            exit_known_ms = of(Part::ExitKnown), keep_ms = of(Part::Keep), reply_ms = of(Part::Reply),
            gather_ms = of(Part::Gather), removal_ms = of(Part::Removal),
            "compile: where its time went"
        );
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        self.moments
            .lock()
            .expect("nothing panics while it holds a run's moments")
    }
}

impl Compiles {
    /// How long the parts of `key` took that its agent alone knows: to be told before its exit.
    ///
    /// # Errors
    /// [`ReportError::Unknown`].
    pub fn took(&self, key: &CompileKey, took: Took) -> Result<(), ReportError> {
        let job = self.job(key)?;
        job.course.moments().took = took;
        Ok(())
    }
}

impl Asker {
    /// Who waited has the answer.
    pub fn answered(&self) {
        self.0.course.answered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that is over; its agent says that its command took so long.
    fn over(milestones: &[Milestone], command_ms: u64) -> Course {
        let course = Course::new(Parts::default());
        course.placed();
        for milestone in milestones {
            course.milestones.reach(*milestone);
        }
        course.asked();
        course.moments().took.command_ms = Some(command_ms);
        course.reported();
        course.over();
        course
    }

    fn known(course: &Course) -> Vec<&'static str> {
        let known = course.moments().known;
        let told = Part::ALL
            .into_iter()
            .filter(|part| known[*part as usize].is_some());
        told.map(Part::as_str).collect()
    }

    #[test]
    fn a_run_that_was_joined_does_not_tell_how_its_container_came() {
        let joined = over(&[Milestone::Placed], 0);
        assert_eq!(known(&joined), ["queue", "command", "keep"]);
        let begun = over(&[Milestone::Made], 0);
        let parts = ["queue", "order", "start", "command", "exit_known", "keep"];
        assert_eq!(known(&begun), parts);
    }

    #[test]
    fn what_the_agent_says_is_no_longer_than_the_run() {
        let course = over(&[Milestone::Made], u64::MAX);
        let command = course.moments().known[Part::Command as usize];
        assert!(command.unwrap() <= course.begun.elapsed().as_millis() as u64);
    }

    #[test]
    fn the_platform_may_tell_later_than_the_agent() {
        let course = Course::new(Parts::default());
        course.placed();
        course.milestones.reach(Milestone::Made);
        course.asked();
        std::thread::yield_now();
        course.milestones.reach(Milestone::Placed);
        let moments = course.moments();
        let (asked, begun) = (moments.asked.unwrap(), course.begun);
        let sum: Duration = course.until_asked(&moments).iter().map(|it| it.1).sum();
        assert_eq!(sum, asked - begun);
    }

    #[test]
    fn each_part_has_a_row_in_the_documentation() {
        let page = include_str!("../../docs/metrics.md");
        for (index, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, index);
            let row = format!("\n| `{}` |", part.as_str());
            assert!(page.contains(&row), "{row}");
        }
    }
}
