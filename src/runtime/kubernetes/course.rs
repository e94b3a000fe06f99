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
        let follow = self.launch_of(&record);
        Ok(follow.map(|follow| self.followed(record, follow)))
    }

    /// The launch of `record` whose pod `follow` follows.
    pub(super) fn followed(self: Arc<Self>, record: Record, mut follow: Follow) -> Launch {
        let (verdict, evidence) = (follow.verdict(), follow.evidence());
        let begun = self.launched(&record, verdict, &evidence);
        let course = Course {
            runtime: self,
            record,
            follow,
            step: Step::Begun,
        };
        Launch {
            mark: LaunchMark::new(evidence.uid),
            begun,
            course: stream::unfold(course, Course::next).boxed(),
        }
    }
}

impl Course {
    async fn next(mut self) -> Option<(Found, Self)> {
        let verdict = match self.step {
            Step::Begun => self.runtime.running(&mut self.follow).await,
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
