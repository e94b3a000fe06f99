//! Owns how a suite with real counterparts runs: cases in order, one at a time, by the names that they are chosen by; the counterparts
//! start when the first case needs them, and at the end nothing is left on the machine.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::leftovers::Leftovers;
use crate::progress::say;
use crate::steps::Steps;

/// A case: what it asserts it asserts itself; it may give the times of its steps.
pub type Case<C> = fn(&C) -> Result<Option<Steps>>;

/// What a suite does around its cases. `C` is what the cases share: the counterparts.
#[derive(Debug)]
pub struct Suite<C: 'static> {
    /// All cases by name, in the order in which they run.
    pub cases: &'static [(&'static str, Case<C>)],
    /// Starts the counterparts.
    pub start: fn() -> Result<C>,
    /// Undoes what a case that failed in the middle did not undo itself.
    pub mend: fn(&C),
    /// Judges a run of all cases, each of which passed.
    pub judge_whole: fn(&C) -> Result<()>,
    /// Ends the counterparts.
    pub end: fn(C) -> Result<()>,
}

struct State<C: 'static> {
    suite: Suite<C>,
    counterparts: OnceLock<Result<C, String>>,
    times: Mutex<Vec<(String, Duration, Option<Steps>)>>,
}

impl<C: Send + Sync + 'static> Suite<C> {
    /// Runs what the command line asks for: all cases, or those whose names contain a word.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads = Some(1);
        let cases = self.cases;
        let state = Arc::new(State {
            suite: self,
            counterparts: OnceLock::new(),
            times: Mutex::default(),
        });
        let trials = cases
            .iter()
            .map(|(name, case)| {
                let state = Arc::clone(&state);
                Trial::test(*name, move || {
                    state
                        .judge(name, *case)
                        .map_err(|error| Failed::from(format!("{error:#}")))
                })
            })
            .collect();
        let is_whole = arguments.filter.is_none()
            && arguments.skip.is_empty()
            && std::env::var_os("FAULT").is_none();
        let conclusion = libtest_mimic::run(&arguments, trials);
        let judged = match state.counterparts.get() {
            Some(Ok(counterparts)) if is_whole && !conclusion.has_failed() => {
                (state.suite.judge_whole)(counterparts)
            }
            _ => Ok(()),
        };
        let ended = judged.and(state.end());
        if let Err(error) = &ended {
            say(format!("the suite's end failed: {error:#}"));
        }
        if conclusion.has_failed() || ended.is_err() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

impl<C> State<C> {
    /// Runs one case and notes its time.
    fn judge(&self, name: &str, case: Case<C>) -> Result<()> {
        let counterparts = self
            .counterparts
            .get_or_init(|| (self.suite.start)().map_err(|error| format!("{error:#}")));
        let counterparts = counterparts
            .as_ref()
            .map_err(|error| anyhow!("the counterparts did not start: {error}"))?;
        say(format!("case {name}"));
        let begun = Instant::now();
        // A panic is a failure like any other: what the case spoiled must not spoil the next ones.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| case(counterparts)))
            .unwrap_or_else(|panic| Err(anyhow!("{}", said_by(&*panic))));
        if result.is_err() {
            (self.suite.mend)(counterparts);
        }
        let time = begun.elapsed();
        say(format!(
            "case {name}: {} in {:.1} s",
            if result.is_ok() { "passed" } else { "FAILED" },
            time.as_secs_f64()
        ));
        let steps = result.as_ref().ok().cloned().flatten();
        lock(&self.times).push((name.to_owned(), time, steps));
        result.map(|_| ())
    }

    /// Ends everything, prints the table of times, and says what is left on the machine: nothing.
    fn end(self: Arc<Self>) -> Result<()> {
        for (name, time, steps) in lock(&self.times).iter() {
            say(format!("{:7.1} s  {name}", time.as_secs_f64()));
            for (step, time) in steps.iter().flat_map(Steps::iter) {
                say(format!("{:11.2} s  {step}", time.as_secs_f64()));
            }
        }
        let Ok(state) = Arc::try_unwrap(self) else {
            bail!("a case is still running");
        };
        if let Some(Ok(counterparts)) = state.counterparts.into_inner() {
            (state.suite.end)(counterparts)?;
            let left = Leftovers::find();
            ensure!(
                left.is_empty(),
                "the testbed left on this machine: {left:#?}"
            );
            say("nothing of the testbed is left: no process, mount, interface or cgroup");
        }
        Ok(())
    }
}

/// What a panic said.
fn said_by(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A case that panicked has failed and said so; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
