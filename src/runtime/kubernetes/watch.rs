//! The watches, one per kind and namespace (design D20): pods and their events as [`Evidence`] that anyone
//! may follow, and what becomes of records. They are taken up again after any gap, and what vanished in it is
//! seen as gone. `chaincode` and `compile` follow; nothing here decides anything.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event as Change};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Settings;
use super::evidence::{Evidence, Incident};
use super::request::{Requests, describe};
use super::roster::Roster;
use crate::names::kubernetes as names;

/// Seconds after which the API server ends a watch, which is then taken up where it was. A connection that
/// died without a word (a lost node, a forgetful NAT) is noticed after this and five more.
const WATCH_SECONDS: u32 = 60;
/// Objects per page of a list: what is held in full at a time.
const PAGE: u32 = 100;
/// How many events are kept of pods that are still unknown: an event may be faster than its pod.
const STRAYS_KEPT: usize = 256;

/// The longest pause after an error.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After how long without errors the pauses are short again.
const CALM: Duration = Duration::from_secs(30);

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pods,
    Records,
    Events,
}

const KINDS: [Kind; 3] = [Kind::Pods, Kind::Records, Kind::Events];

/// What one watch sees.
struct Place {
    kind: Kind,
    namespace: String,
}

/// How one watch stands.
#[derive(Clone, Debug, Default)]
struct Health {
    listed: bool,
    /// The last interruption: a watch that goes on says nothing of it, so only a recent one counts.
    trouble: Option<(Instant, String)>,
}

/// While a watch cannot go on it says so at least every five seconds.
const RECENT: std::time::Duration = std::time::Duration::from_secs(15);

/// The watches; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    cache: Arc<Cache>,
    tasks: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Cache {
    seen: Mutex<Seen>,
    /// Counts arrivals of pods, endings of launches and departures of records: for those who wait for something to
    /// follow.
    arrivals: watch::Sender<u64>,
    health: watch::Sender<[Health; 3]>,
    requests: Arc<Requests>,
}

#[derive(Debug, Default)]
struct Seen {
    pods: Roster<watch::Sender<Evidence>>,
    strays: VecDeque<(String, String, Incident)>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Watch {
    /// Begins to watch.
    pub(super) fn start(client: &Client, settings: &Settings, requests: Arc<Requests>) -> Self {
        let cache = Arc::new(Cache::new(requests));
        let namespace = &settings.namespace;
        let config = watcher::Config::default()
            .timeout(WATCH_SECONDS)
            .page_size(PAGE);
        let pods = watcher::watcher(
            Api::<Pod>::namespaced(client.clone(), namespace),
            config.clone().labels(&names::selector(&settings.instance)),
        );
        // Metadata only: what is in a record does not pass here.
        let records = watcher::watcher(
            Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace),
            config
                .clone()
                .labels(&names::chaincode_selector(&settings.instance)),
        );
        let events = watcher::watcher(
            Api::<Event>::namespaced(client.clone(), namespace),
            config.fields("involvedObject.kind=Pod"),
        );
        let place = |kind| Place {
            kind,
            namespace: namespace.clone(),
        };
        let shared = || Arc::clone(&cache);
        let tasks = vec![
            tokio::spawn(run(shared(), place(Kind::Pods), pods, Cache::pod)).abort_handle(),
            tokio::spawn(run(shared(), place(Kind::Records), records, Cache::record))
                .abort_handle(),
            tokio::spawn(run(shared(), place(Kind::Events), events, Cache::event)).abort_handle(),
        ];
        Self { cache, tasks }
    }

    /// The evidence on `pod`, a reply to a create or a read: nothing that happened since is lost.
    pub(super) fn follow(&self, pod: &Pod) -> watch::Receiver<Evidence> {
        self.cache.admit(pod)
    }

    /// The evidence on the pod that the Secret with `owner` owns, where one is known.
    pub(super) fn of_owner(&self, owner: &str) -> Option<watch::Receiver<Evidence>> {
        let seen = self.cache.lock();
        seen.pods
            .values()
            .find(|pod| pod.borrow().owner.as_deref() == Some(owner))
            .map(watch::Sender::subscribe)
    }

    /// Changes whenever a pod comes, a launch is noted to have ended, or a record goes.
    pub(super) fn arrivals(&self) -> watch::Receiver<u64> {
        self.cache.arrivals.subscribe()
    }

    /// Waits until pods and records are known, at most for `patience`.
    ///
    /// # Errors
    /// What is in the way.
    pub(super) async fn listed(&self, patience: Duration) -> Result<(), String> {
        let mut health = self.cache.health.subscribe();
        let listed = health.wait_for(|all| {
            KINDS
                .iter()
                .zip(all)
                .all(|(kind, health)| *kind == Kind::Events || health.listed)
        });
        match tokio::time::timeout(patience, listed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self
                .trouble()
                .unwrap_or_else(|| "pods are not listed yet".to_owned())),
        }
    }

    /// What is wrong with a watch that orders depend on, if anything is. Without events verdicts come later,
    /// and that is all.
    pub(super) fn trouble(&self) -> Option<String> {
        let all = self.cache.health.borrow();
        KINDS.iter().zip(all.iter()).find_map(|(kind, health)| {
            let what = match kind {
                Kind::Pods => "pods",
                Kind::Records => "secrets",
                Kind::Events => return None,
            };
            match &health.trouble {
                Some((at, trouble)) if at.elapsed() < RECENT => {
                    Some(format!("watch of {what}: {trouble}"))
                }
                _ if !health.listed => Some(format!("watch of {what}: not listed yet")),
                _ => None,
            }
        })
    }
}

/// Feeds one watch into the cache, for ever.
async fn run<K, S>(
    cache: Arc<Cache>,
    Place { kind, namespace }: Place,
    changes: S,
    take: impl Fn(&Cache, Change<K>) + Send,
) where
    K: Debug,
    S: Stream<Item = watcher::Result<Change<K>>> + Send,
{
    let mut changes = std::pin::pin!(changes.backoff(Again::default()));
    let mut told = String::new();
    while let Some(change) = changes.next().await {
        match change {
            Ok(change) => {
                // `Init` says only that a list is about to be tried.
                if !matches!(change, Change::Init) {
                    cache.requests.note_answer();
                    cache.note_health(kind, matches!(change, Change::InitDone), None);
                    told.clear();
                }
                take(&cache, change);
            }
            Err(error) => {
                let text = watch_error(&error);
                // Once for the same trouble, which may last: it is tried again every five seconds.
                if told == text {
                    tracing::debug!(
                        ?kind,
                        namespace,
                        error = text,
                        "a watch is still interrupted"
                    );
                } else {
                    tracing::warn!(
                        ?kind,
                        namespace,
                        error = text,
                        "a watch was interrupted; it goes on"
                    );
                    told.clone_from(&text);
                }
                cache.note_health(kind, false, Some((Instant::now(), text)));
            }
        }
    }
}

impl Seen {
    /// Adds an unknown pod, with the events that came before it.
    fn admit(&mut self, pod: &Pod) -> watch::Receiver<Evidence> {
        let mut evidence = Evidence::of(pod, None, Instant::now());
        self.strays.retain(|(of, name, incident)| {
            let is_of_pod = *of == evidence.uid;
            if is_of_pod {
                evidence.note(name.clone(), incident.clone());
            }
            !is_of_pod
        });
        let uid = evidence.uid.clone();
        let (sender, receiver) = watch::channel(evidence);
        self.pods.insert(&uid, sender);
        receiver
    }
}

impl Cache {
    fn new(requests: Arc<Requests>) -> Self {
        Self {
            seen: Mutex::default(),
            arrivals: watch::Sender::new(0),
            health: watch::Sender::default(),
            requests,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self) {
        self.arrivals.send_modify(|count| *count += 1);
    }

    fn pod(&self, change: Change<Pod>) {
        let uid_of = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
        match change {
            Change::Init => self.lock().pods.begin_list(),
            Change::InitApply(pod) => {
                self.lock().pods.note_listed(&uid_of(&pod));
                self.show(&pod);
            }
            Change::Apply(pod) => self.show(&pod),
            Change::Delete(pod) => {
                // Its last state first: it may tell the exit code.
                self.show(&pod);
                let gone = self.lock().pods.bury(&uid_of(&pod));
                gone.iter().for_each(mark_gone);
            }
            Change::InitDone => {
                let gone = self.lock().pods.end_list();
                gone.iter().for_each(mark_gone);
            }
        }
    }

    /// Takes in what the watch shows of `pod`.
    fn show(&self, pod: &Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut seen = self.lock();
        if let Some(sender) = seen.pods.get(&uid) {
            sender.send_if_modified(|known| {
                let now = Evidence::of(pod, Some(known), Instant::now());
                let is_news = now != *known;
                *known = now;
                is_news
            });
        } else {
            seen.admit(pod);
            drop(seen);
            self.announce();
        }
    }

    /// Takes in a reply about `pod`: it may be older than what the watch has shown.
    fn admit(&self, pod: &Pod) -> watch::Receiver<Evidence> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut seen = self.lock();
        if let Some(sender) = seen.pods.get(&uid) {
            return sender.subscribe();
        }
        if seen.pods.is_buried(&uid) {
            let mut evidence = Evidence::of(pod, None, Instant::now());
            evidence.gone = true;
            return watch::Sender::new(evidence).subscribe();
        }
        let receiver = seen.admit(pod);
        drop(seen);
        self.announce();
        receiver
    }

    /// Only that records went or tell of an ending matters, not which: those who wait ask for theirs.
    fn record(&self, change: Change<PartialObjectMeta<Secret>>) {
        let is_news = match &change {
            Change::Delete(_) | Change::InitDone => true,
            Change::Apply(record) => {
                let annotations = record.metadata.annotations.as_ref();
                annotations.is_some_and(|all| all.contains_key(names::OUTCOME))
            }
            Change::Init | Change::InitApply(_) => false,
        };
        if is_news {
            self.announce();
        }
    }

    fn event(&self, change: Change<Event>) {
        // That an event expires does not undo what it told.
        let (Change::Apply(event) | Change::InitApply(event)) = change else {
            return;
        };
        let name = event.metadata.name.clone().unwrap_or_default();
        let of = event.involved_object.uid.clone().unwrap_or_default();
        let incident = Incident::of(&event, Instant::now());
        let mut seen = self.lock();
        if let Some(sender) = seen.pods.get(&of) {
            sender.send_modify(|evidence| evidence.note(name, incident));
        } else if event
            .involved_object
            .name
            .as_deref()
            .is_some_and(names::may_be_pod)
            && !seen.pods.is_buried(&of)
        {
            if seen.strays.len() >= STRAYS_KEPT {
                seen.strays.pop_front();
            }
            seen.strays.push_back((of, name, incident));
        }
    }

    fn note_health(&self, kind: Kind, now_listed: bool, trouble: Option<(Instant, String)>) {
        self.health.send_if_modified(|all| {
            let health = &mut all[kind as usize];
            let is_news = (now_listed && !health.listed) || health.trouble != trouble;
            health.listed |= now_listed;
            health.trouble = trouble;
            is_news
        });
    }
}

fn mark_gone(sender: &watch::Sender<Evidence>) {
    sender.send_modify(|evidence| evidence.gone = true);
}

fn watch_error(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => describe(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// Pauses after errors: 0.2 s, doubled up to 5 s, so that a watch is back soon after the API server is;
/// with a part left to chance, so that not all come back at once.
#[derive(Debug, Default)]
struct Again {
    failures: u32,
    last: Option<Instant>,
}

impl Iterator for Again {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_none_or(|last| now - last > CALM) {
            self.failures = 0;
        }
        let pause = Duration::from_millis(200 << self.failures.min(5)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.last = Some(now);
        Some(pause.mul_f64(rand::random_range(0.7..1.0)))
    }
}

impl Backoff for Again {
    /// Comes after each success, also the mere beginning of a list that then fails: no reason to hurry.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests;
