//! Owns the times of a scenario's steps, for the table that tests and the bench print.

use std::fmt;
use std::time::{Duration, Instant};

/// Named durations in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub struct Steps(Vec<(String, Duration)>);

impl Steps {
    /// No steps yet.
    pub fn new() -> Steps {
        Steps::default()
    }

    /// Does something and notes how long it took, whether it went well or not.
    pub fn time<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.0.push((name.to_owned(), begun.elapsed()));
        result
    }

    /// How long the step of this name took.
    pub fn get(&self, name: &str) -> Option<Duration> {
        self.iter()
            .find(|(step, _)| *step == name)
            .map(|(_, time)| time)
    }

    /// All steps.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.0.iter().map(|(name, time)| (name.as_str(), *time))
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        self.0.iter().map(|(_, time)| time).sum()
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, time) in self.iter() {
            writeln!(formatter, "{:8.2} s  {name}", time.as_secs_f64())?;
        }
        write!(formatter, "{:8.2} s  in all", self.total().as_secs_f64())
    }
}
