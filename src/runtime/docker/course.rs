//! A launch as its follower hears it: that its process runs, and how it ended. The engine is asked after each of its events;
//! where it has no answer any more, since the container is gone or was started again, the event had the code. Called through the
//! trait in `docker`.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;

use super::Engine;
use super::record::{self, Record};
use super::watch::Follow;
use crate::names::ContainerKey;
use crate::runtime::{Error, Exit, Found, Launch, LaunchMark, Life, State};

/// The code of what was killed.
const KILLED: i64 = 137;

/// How far it was heard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Begun,
    Running,
    Over,
}

struct Course {
    engine: Arc<Engine>,
    /// As it was when it was begun to be followed.
    record: Record,
    follow: Follow,
    step: Step,
}

impl Engine {
    pub(super) async fn follow_launch(
        self: Arc<Self>,
        key: &ContainerKey,
    ) -> Result<Option<Launch>, Error> {
        let record = self.existing(key).await?;
        let Some(started) = record.life.started else {
            return Ok(None);
        };
        let mark = LaunchMark::new(format!("{} {started}", record.engine_id));
        let course = Course {
            follow: self.watch.follow(&record.engine_id),
            engine: self,
            record,
            step: Step::Begun,
        };
        let course = stream::unfold(course, Course::next).boxed();
        Ok(Some(Launch { mark, course }))
    }
}

impl Course {
    async fn next(mut self) -> Option<(Found, Self)> {
        loop {
            match self.step {
                Step::Begun => {}
                Step::Running => self.follow.change().await,
                Step::Over => return None,
            }
            let (state, life) = match self.look().await {
                Ok(seen) => seen,
                Err(error) => {
                    let key = &self.record.spec.key;
                    tracing::warn!(container = %key, %error, "chaincode cannot be followed any further");
                    return None;
                }
            };
            let step = match state {
                State::Exited(_) | State::NeverStarted(_) => Step::Over,
                _ => Step::Running,
            };
            if self.step != step {
                self.step = step;
                let found = Found {
                    spec: self.record.spec.clone(),
                    state,
                    life,
                };
                return Some((found, self));
            }
        }
    }

    /// What the launch is doing.
    async fn look(&mut self) -> Result<(State, Life), Error> {
        let shown = self.engine.glimpse(&mut self.follow).await?;
        let known = &self.record.life;
        if let Some(shown) = shown {
            let seen = record::seen(&shown, &known.place);
            if seen.1.started == known.started {
                return Ok(seen);
            }
        }
        let code = self.follow.died().unwrap_or(KILLED);
        Ok((State::Exited(Exit { code }), known.clone()))
    }
}
