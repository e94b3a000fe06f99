//! A launch as its follower hears it: that its pod runs, and how it ended. One that will not run is given up here too, also
//! where nobody waits for it. Called through the trait in `kubernetes`.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;

use super::Kubernetes;
use super::follow::Follow;
use super::record::Record;
use super::verdict::Verdict;
use crate::names::ContainerKey;
use crate::runtime::{Error, Found, Launch, LaunchMark};

/// How far it was heard.
enum Step {
    Begun,
    Running,
    Over(Verdict),
}

struct Course {
    runtime: Arc<Kubernetes>,
    record: Record,
    follow: Follow,
    step: Step,
}

impl Kubernetes {
    pub(super) async fn follow_launch(
        self: Arc<Self>,
        key: &ContainerKey,
    ) -> Result<Option<Launch>, Error> {
        let record = self.existing(key).await?;
        let Some(follow) = self.launch_of(&record) else {
            return Ok(None);
        };
        let mark = LaunchMark::new(follow.evidence().uid);
        let course = Course {
            runtime: self,
            record,
            follow,
            step: Step::Begun,
        };
        let course = stream::unfold(course, Course::next).boxed();
        Ok(Some(Launch { mark, course }))
    }
}

impl Course {
    async fn next(mut self) -> Option<(Found, Self)> {
        let verdict = match self.step {
            Step::Begun => self.follow.running().await,
            Step::Running => self.follow.end().await,
            Step::Over(verdict) => {
                let evidence = self.follow.evidence();
                self.runtime
                    .take_end(&self.record, &evidence, &verdict)
                    .await;
                return None;
            }
        };
        let evidence = self.follow.evidence();
        let found = self
            .runtime
            .launched(&self.record, verdict.clone(), &evidence);
        self.step = match verdict.is_final() {
            true => Step::Over(verdict),
            false => Step::Running,
        };
        Some((found, self))
    }
}
