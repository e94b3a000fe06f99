//! What happens in the engine: one stream of events for all containers of this Peitho. An event only says that
//! something is to be looked at; what is true is asked from the engine. So nothing is lost when the stream breaks:
//! when it is there again, everybody looks again.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{EventActor, EventMessage};
use bollard::query_parameters::EventsOptions;
use futures::StreamExt as _;
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::request::{Bound, Failure, Requests};
use crate::names::InstanceName;
use crate::names::docker as names;

/// How many events one who waits may be behind; then he looks anew.
const BACKLOG: usize = 1024;
/// Between two tries to get the stream back.
const PAUSE: Duration = Duration::from_secs(1);

/// Something happened.
#[derive(Clone, Debug)]
enum News {
    /// To the container with this id.
    Of(String, Change),
    /// Perhaps, to the container with this id: an order of our own was carried out.
    PerhapsOf(String),
    /// Perhaps, and nobody knows to what: the stream is new, or an order of our own has failed.
    Perhaps,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Started,
    /// Its process is over, with this code.
    Died(i64),
    /// It is no more.
    Destroyed,
}

/// The stream of events, for as long as this lives.
pub(super) struct Watch {
    news: broadcast::Sender<News>,
    /// Why there is no stream, while there is none.
    trouble: watch::Receiver<Option<String>>,
    _task: AbortOnDropHandle<()>,
}

/// The changes of one container.
pub(super) struct Follow {
    id: String,
    news: broadcast::Receiver<News>,
    /// The code of its process, where an event told it: the container may be gone before one can ask.
    died: Option<i64>,
}

impl Watch {
    /// Begins to watch the containers of `instance`.
    pub(super) fn start(
        docker: bollard::Docker,
        requests: Requests,
        instance: &InstanceName,
    ) -> Self {
        let (news, _) = broadcast::channel(BACKLOG);
        let (telling, trouble) = watch::channel(Some("it was not asked yet".to_owned()));
        let stream = Stream {
            docker,
            requests,
            filter: names::of_instance(instance),
            news: news.clone(),
            trouble: telling,
        };
        Self {
            news,
            trouble,
            _task: AbortOnDropHandle::new(tokio::spawn(stream.keep())),
        }
    }

    /// The changes of the container with the engine's id `id`, from now.
    pub(super) fn follow(&self, id: &str) -> Follow {
        Follow {
            id: id.to_owned(),
            news: self.news.subscribe(),
            died: None,
        }
    }

    /// Has everybody look again: an order has failed, of which the engine tells no event.
    pub(super) fn look_again(&self) {
        // Nobody may be waiting.
        let _ = self.news.send(News::Perhaps);
    }

    /// Has those look again who follow the container with the engine's id `id`: it is not what it was.
    pub(super) fn look_at(&self, id: &str) {
        // Nobody may be following it.
        let _ = self.news.send(News::PerhapsOf(id.to_owned()));
    }

    /// Why nothing is seen at present.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }
}

impl Follow {
    /// The engine's id of the container.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Waits until there may be something new to see. To be called between two looks.
    pub(super) async fn change(&mut self) {
        loop {
            match self.news.recv().await {
                Ok(News::Of(id, change)) if id == self.id => {
                    if let Change::Died(code) = change {
                        self.died = Some(code);
                    }
                    return;
                }
                Ok(News::PerhapsOf(id)) if id == self.id => return,
                Ok(News::Of(..) | News::PerhapsOf(_)) => {}
                Ok(News::Perhaps) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                // The runtime was dropped, and with it whoever waits here.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// The code of the process where an event has told it.
    pub(super) fn died(&mut self) -> Option<i64> {
        while let Ok(news) = self.news.try_recv() {
            if let News::Of(id, Change::Died(code)) = news
                && id == self.id
            {
                self.died = Some(code);
            }
        }
        self.died
    }
}

struct Stream {
    docker: bollard::Docker,
    requests: Requests,
    filter: String,
    news: broadcast::Sender<News>,
    trouble: watch::Sender<Option<String>>,
}

impl Stream {
    /// Keeps a stream open, for ever.
    async fn keep(self) {
        loop {
            let cause = match self.once().await {
                Ok(()) => "the stream of events has ended".to_owned(),
                Err(Failure::Away(cause) | Failure::Status { message: cause, .. }) => cause,
            };
            let was_good = self.trouble.send_replace(Some(cause.clone())).is_none();
            if was_good {
                tracing::warn!(cause, "the events of the Docker Engine are interrupted");
            }
            sleep(PAUSE).await;
        }
    }

    /// One stream, until it ends.
    async fn once(&self) -> Result<(), Failure> {
        // By its own clock: what happens between this answer and the begin of the stream is told by the stream.
        let now = now(&self.docker, &self.requests).await?;
        let options = EventsOptions {
            since: now.map(|now| format!("{}.{:09}", now.as_second(), now.subsec_nanosecond())),
            until: None,
            filters: Some(HashMap::from([
                ("type".to_owned(), vec!["container".to_owned()]),
                ("label".to_owned(), vec![self.filter.clone()]),
                (
                    "event".to_owned(),
                    ["start", "die", "destroy"].map(str::to_owned).into(),
                ),
            ])),
        };
        let mut events = Box::pin(self.docker.events(Some(options)));
        // Whoever looks from now on sees what was before that time.
        self.seeing();
        while let Some(event) = events.next().await {
            let event = self.requests.once(Bound::Short, async { event }).await?;
            if let Some(news) = news(event) {
                let _ = self.news.send(news);
            }
        }
        Ok(())
    }

    fn seeing(&self) {
        if self.trouble.send_replace(None).is_some() {
            tracing::debug!("the events of the Docker Engine are watched");
        }
        let _ = self.news.send(News::Perhaps);
    }
}

/// The engine's own time, where it tells it.
pub(super) async fn now(
    docker: &bollard::Docker,
    requests: &Requests,
) -> Result<Option<jiff::Timestamp>, Failure> {
    let info = requests.once(Bound::Short, docker.info()).await?;
    Ok(info.system_time.and_then(|text| text.parse().ok()))
}

fn news(event: EventMessage) -> Option<News> {
    let EventActor { id, attributes } = event.actor?;
    let change = match event.action.as_deref()? {
        "start" => Change::Started,
        "die" => {
            let code = attributes.and_then(|all| all.get("exitCode")?.parse().ok());
            Change::Died(code.unwrap_or(137))
        }
        "destroy" => Change::Destroyed,
        _ => return None,
    };
    Some(News::Of(id?, change))
}
