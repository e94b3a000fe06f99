//! A launch as its follower hears it: that its process runs, and how it ended. Called through the trait in `oci`.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;

use super::Oci;
use super::host::{Ending, Followed};
use super::records::Chaincode;
use crate::names::{ContainerKey, HostName};
use crate::runtime::{Error, Exit, Found, Launch, LaunchMark, Life, Place, State};

/// How far it was heard.
enum Step {
    Begun,
    Running,
    Over,
}

struct Course {
    runtime: Arc<Oci>,
    name: HostName,
    chaincode: Chaincode,
    followed: Followed,
    step: Step,
}

impl Oci {
    pub(super) async fn follow_launch(
        self: Arc<Self>,
        key: &ContainerKey,
    ) -> Result<Option<Launch>, Error> {
        let (name, chaincode) = self.existing(key)?;
        let Some(followed) = self.host.follow(&name) else {
            return Ok(None);
        };
        let mark = LaunchMark::new(followed.number().to_string());
        let course = Course {
            runtime: self,
            name,
            chaincode,
            followed,
            step: Step::Begun,
        };
        let course = stream::unfold(course, Course::next).boxed();
        Ok(Some(Launch { mark, course }))
    }
}

impl Course {
    async fn next(mut self) -> Option<(Found, Self)> {
        if matches!(self.step, Step::Begun) && self.followed.running().await {
            self.step = Step::Running;
            let life = Life {
                place: match self.runtime.host.span(&self.name).await.pid {
                    Some(pid) => Place::Process { pid },
                    None => Place::Unknown,
                },
                ..self.life()
            };
            let found = self.found(State::Running, life);
            return Some((found, self));
        }
        if matches!(self.step, Step::Over) {
            return None;
        }
        let (state, out_of_memory) = match self.followed.ended().await? {
            Ending::Exited {
                code,
                out_of_memory,
            } => (State::Exited(Exit { code }), out_of_memory),
            Ending::NeverStarted { reason } => (State::NeverStarted(reason), false),
        };
        self.step = Step::Over;
        let life = Life {
            out_of_memory,
            ..self.life()
        };
        let found = self.found(state, life);
        Some((found, self))
    }

    fn life(&self) -> Life {
        let created = self.chaincode.created_millis;
        Life {
            created: created.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            ..Life::default()
        }
    }

    fn found(&self, state: State, life: Life) -> Found {
        Found {
            spec: self.chaincode.spec.clone(),
            state,
            life,
        }
    }
}
