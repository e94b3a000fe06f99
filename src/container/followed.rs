//! One launch that is followed: what was told of it, and the task that tells it, from the launch's own course. `launches` makes it
//! and keeps it; the orders of `container` ask it what is known, and wait for the telling of its end, though never for long. It
//! knows neither which launches there are nor the wire.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Shown, happened};
use crate::events::{Action, Events};
use crate::names::ContainerKey;
use crate::runtime::{Launch, LaunchMark, Place, State};

/// How long an order, or the answer to a `wait`, is held until those who look on were told of the end: as long as for one who
/// reads an output (protocol rule 12). What tells it may be away, and peers are not to depend on that.
const TOLD: Duration = Duration::from_secs(2);

/// One launch that is followed, or was; clones share it.
#[derive(Clone)]
pub(super) struct Followed(Arc<Known>);

struct Known {
    mark: LaunchMark,
    /// Whatever is told of the launch is told while this is held, so that it is told in order.
    now: watch::Sender<Now>,
}

/// What is known of a launch, and what was told.
struct Now {
    start: Start,
    step: Step,
    /// As it was seen last.
    shown: Shown,
}

/// Whether the start of a launch is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It is, and will be told.
    News,
    /// It is none: it ran before this process was there, or was started by another one.
    Known,
    /// It was told.
    Told,
}

/// How far a launch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begun,
    Running,
    /// Its end was told.
    Over,
    /// Nobody follows it any more, and its end was not told.
    Lost,
}

impl Followed {
    /// A launch to be followed, and what tells of it once that it runs.
    pub(super) fn begin(
        key: &ContainerKey,
        events: &Events,
        launch: Launch,
        start: Start,
        before: Option<Followed>,
    ) -> (Self, Teller) {
        let now = Now {
            start,
            step: Step::Begun,
            shown: Shown::from(launch.begun),
        };
        let followed = Self(Arc::new(Known {
            mark: launch.mark,
            now: watch::Sender::new(now),
        }));
        let teller = Teller {
            key: key.clone(),
            events: events.clone(),
            followed: followed.clone(),
            course: launch.course,
            before,
        };
        (followed, teller)
    }

    /// Whether it is this one.
    pub(super) fn is(&self, mark: &LaunchMark) -> bool {
        self.0.mark == *mark
    }

    /// Whether its end is still to be told, and somebody is there to tell it.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.0.now.borrow().step, Step::Begun | Step::Running)
    }

    /// Whether nobody will tell its end, which was not told.
    pub(super) fn is_lost(&self) -> bool {
        self.0.now.borrow().step == Step::Lost
    }

    /// What was seen of it last.
    pub(super) fn shown(&self) -> Shown {
        self.0.now.borrow().shown.clone()
    }

    /// Its start, which was taken for known, is news: who waits may have seen it run before whoever started it had an answer.
    pub(super) fn is_news(&self, key: &ContainerKey, events: &Events) {
        self.0.now.send_modify(|now| {
            if now.start == Start::Known && now.step == Step::Begun {
                now.start = Start::News;
            } else if now.start == Start::Known && now.step == Step::Running {
                tell(events, key, &now.shown, Action::Start);
                now.start = Start::Told;
            }
        });
    }
}

/// Waits until the end of a launch was told, but not for long. Only for one that is over, or about to be.
pub(super) async fn end_told(followed: Option<&Followed>) {
    if let Some(Followed(known)) = followed {
        let mut now = known.now.subscribe();
        let over = now.wait_for(|now| matches!(now.step, Step::Over | Step::Lost));
        if timeout(TOLD, over).await.is_err() {
            tracing::debug!("an end is told later than it is answered");
        }
    }
}

/// Tells of one launch.
pub(super) struct Teller {
    key: ContainerKey,
    events: Events,
    followed: Followed,
    course: futures::stream::BoxStream<'static, crate::runtime::Found>,
    before: Option<Followed>,
}

impl Teller {
    /// Tells what becomes of it, after the end of the launch before it.
    pub(super) async fn tell_all(mut self) {
        end_told(self.before.take().as_ref()).await;
        while let Some(found) = self.course.next().await {
            let step = match &found.state {
                State::Exited(_) | State::NeverStarted(_) => Step::Over,
                _ => Step::Running,
            };
            let ran = !matches!(found.state, State::NeverStarted(_));
            let shown = Shown::from(found);
            self.followed.0.now.send_modify(|now| {
                if ran && now.start == Start::News {
                    tell(&self.events, &self.key, &shown, Action::Start);
                    now.start = Start::Told;
                }
                if step == Step::Over {
                    tell_end(&self.events, &self.key, &shown);
                }
                now.step = step;
                now.shown = shown;
            });
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.followed.0.now.send_modify(|now| {
            if now.step != Step::Over {
                now.step = Step::Lost;
            }
        });
    }
}

fn tell(events: &Events, key: &ContainerKey, shown: &Shown, action: Action) {
    events.tell(&key.tenant, happened::event(shown, action));
}

/// Tells that a launch is over, or will not be: in the log and in the events.
pub(super) fn tell_end(events: &Events, key: &ContainerKey, shown: &Shown) {
    let pod = match &shown.life.place {
        Place::Pod { name, .. } => Some(name),
        _ => None,
    };
    let why = shown.reason();
    match &shown.state {
        State::Exited(exit) => {
            tracing::info!(container = %key, pod, code = exit.code, why, "chaincode ended");
        }
        _ => tracing::info!(container = %key, pod, reason = why, "chaincode did not start"),
    }
    tell(events, key, shown, Action::Die);
}
