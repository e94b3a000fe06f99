//! What happened lately to containers and images, for people who look on. `image` and `container` tell it, `engine_api` gives
//! it to who listens. The last events of each tenant are kept in memory, those of this process alone; it knows neither HTTP nor
//! what an event is about.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use crate::names::Tenant;

#[cfg(test)]
mod tests;

/// How many events of a tenant are kept, and how many one who listens may be behind: as many as Docker keeps.
pub const KEPT: usize = 256;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was ordered.
    Create,
    /// Its process runs.
    Start,
    /// Its process was told to end.
    Kill,
    /// Its process is over, or never ran.
    Die,
    /// It was stopped.
    Stop,
    /// It is no more.
    Destroy,
    /// An image has this name.
    Tag,
    /// An image lost this name.
    Untag,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of what.
    pub kind: Kind,
    /// What happened.
    pub action: Action,
    /// Its id: of a container in 64 hexadecimal digits, of an image with `sha256:`.
    pub id: String,
    /// What else is known, by Docker's names and by `names::labels`.
    pub attributes: BTreeMap<String, String>,
}

/// An event and when it was told: no two of a tenant have the same time, and none is earlier than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// By this machine's clock.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What is heard by one who listens.
#[derive(Clone, Debug)]
pub enum Heard {
    /// An event.
    Event(Arc<Dated>),
    /// So many were told that this one, who is too slow, cannot have any more.
    Lost(u64),
}

/// From when to when one listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Also what was told before now, from this time on.
    pub since: Option<Timestamp>,
    /// Nothing that is told later. When it has come, the listening is over.
    pub until: Option<Timestamp>,
}

/// The events of all tenants; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Mutex<HashMap<Tenant, Feed>>>);

/// The events of one tenant.
#[derive(Debug)]
struct Feed {
    past: VecDeque<Arc<Dated>>,
    live: broadcast::Sender<Arc<Dated>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            past: VecDeque::new(),
            live: broadcast::Sender::new(KEPT),
        }
    }
}

impl Events {
    /// Tells `event` to those of `tenant` who listen, and keeps it for those who come.
    pub fn tell(&self, tenant: &Tenant, event: Event) {
        let mut all = self.lock();
        let feed = all.entry(tenant.clone()).or_default();
        let next = |last: &Arc<Dated>| last.at.checked_add(Duration::from_nanos(1)).ok();
        let now = Timestamp::now();
        // A clock may be set back.
        let at = feed
            .past
            .back()
            .and_then(next)
            .map_or(now, |at| at.max(now));
        let dated = Arc::new(Dated { at, event });
        if feed.past.len() >= KEPT {
            feed.past.pop_front();
        }
        feed.past.push_back(Arc::clone(&dated));
        // Nobody may be listening.
        let _ = feed.live.send(dated);
    }

    /// The events of `tenant` within `extent`: what is kept where it has a begin or an end, and then what comes, until its end.
    pub fn listen(&self, tenant: &Tenant, extent: Extent) -> BoxStream<'static, Heard> {
        let (past, live) = {
            let mut all = self.lock();
            let feed = all.entry(tenant.clone()).or_default();
            (feed.within(extent), feed.live.subscribe())
        };
        let past = stream::iter(past.into_iter().map(Heard::Event));
        let Some(until) = extent.until else {
            return past.chain(heard(live)).boxed();
        };
        let left = until.duration_since(Timestamp::now());
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => {
                let over = Box::pin(tokio::time::sleep(left));
                past.chain(heard(live).take_until(over)).boxed()
            }
            _ => past.boxed(),
        }
    }

    /// How many listen to what happens to `tenant`'s.
    pub fn listeners(&self, tenant: &Tenant) -> usize {
        let all = self.lock();
        all.get(tenant).map_or(0, |feed| feed.live.receiver_count())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Tenant, Feed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn within(&self, Extent { since, until }: Extent) -> Vec<Arc<Dated>> {
        if since.is_none() && until.is_none() {
            return Vec::new();
        }
        let fits = |it: &&Arc<Dated>| {
            since.is_none_or(|since| it.at >= since) && until.is_none_or(|until| it.at <= until)
        };
        self.past.iter().filter(fits).cloned().collect()
    }
}

fn heard(live: broadcast::Receiver<Arc<Dated>>) -> BoxStream<'static, Heard> {
    use tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged;
    BroadcastStream::new(live)
        .map(|next| match next {
            Ok(dated) => Heard::Event(dated),
            Err(Lagged(count)) => Heard::Lost(count),
        })
        .boxed()
}
