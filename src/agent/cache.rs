//! The directory that is kept from one compile to the next, where the tools of all languages have their caches. Before the command it is brought
//! from Peitho in parts, one unpacked over the other; afterwards what is new in it goes back. Whatever goes wrong on the way costs the
//! head start and nothing else: the directory is emptied, a line says why, and the command runs. `compile` calls it; the way back is
//! `give`'s.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::client::{self, Client};
use super::part::{self, Content};
use super::{blocking, empty};
use crate::archive::{self, Extent, Known};
use crate::names::{CompileKey, Digest};

mod ahead;
mod give;

pub(super) use ahead::Ahead;
pub(super) use give::Lost;

/// How long the question what there is may take.
const QUESTION: Duration = Duration::from_secs(5);

/// How long nothing may come in the middle of a part.
const SILENCE: Duration = Duration::from_secs(5);

/// Bytes of the answer to the question: 16 parts take less than 2 KiB.
const ANSWER_BODY: usize = 64 << 10;

/// What Peitho says is to be done.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    parts: Vec<Part>,
    give: Option<Extent>,
    most: u64,
    /// What is brought back may have less, where the cache gave trouble.
    give_most: Option<u64>,
    patience_ms: u64,
}

impl Plan {
    /// Bytes that may be brought back.
    fn given(&self) -> u64 {
        self.give_most.unwrap_or(self.most)
    }

    /// When the parts are no longer worth their time, with a command that could begin at `started`.
    fn deadline(&self, started: Instant) -> Instant {
        started + Duration::from_millis(self.patience_ms)
    }
}

#[derive(Clone, Deserialize)]
struct Part {
    digest: Digest,
    size: u64,
}

/// Why the command has to do without.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{LATE}")]
    Late,
    #[error("{path:?}: {source}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Unpacked(#[source] archive::Error),
    #[error("part {digest} is damaged: {reason}")]
    Damaged { digest: Digest, reason: String },
    #[error("with part {digest} they are too much: {error}")]
    TooMuch {
        digest: Digest,
        error: archive::Error,
    },
    #[error("{0:?} is not empty: what is in it stays as it is, and is not kept by Peitho")]
    Occupied(PathBuf),
    #[error("{free} bytes are free in {path:?}, and as many as the parts take are to stay free")]
    Room { path: PathBuf, free: u64 },
}

/// The directory and where it comes from.
pub(super) struct Cache {
    client: Client,
    path: String,
    directory: PathBuf,
    /// What is in it before this is asked for it.
    ahead: Mutex<Ahead>,
}

/// The directory as the command finds it.
pub(super) struct Fetched {
    fared: &'static str,
    took: Duration,
    known: Known,
    /// What to bring back, in how many bytes.
    give: Option<(Extent, u64)>,
    /// Whether Peitho heard of the part that was to blame: else there is nothing to bring back in its place.
    telling: Option<JoinHandle<Result<(), client::Error>>>,
    /// For the compile's log.
    pub(super) trouble: Option<String>,
}

impl Fetched {
    fn cold(give: Option<(Extent, u64)>) -> Self {
        Self {
            fared: "cold",
            took: Duration::ZERO,
            known: Known::default(),
            give,
            telling: None,
            trouble: None,
        }
    }
}

impl Cache {
    pub(super) fn new(client: Client, key: &CompileKey, directory: PathBuf) -> Self {
        let path = format!("/compile/{key}/cache");
        Self {
            client,
            path,
            directory,
            ahead: Mutex::default(),
        }
    }

    /// Fills the directory. `None` where Peitho keeps nothing for this compile.
    pub(super) async fn fetch(&self) -> Option<Fetched> {
        let started = Instant::now();
        let plan = self.asked::<Plan>().await;
        let known = plan.as_ref().ok().and_then(Option::as_ref);
        let begun = self.begun(known, started).await;
        let without = |trouble: String| Fetched {
            fared: "failed",
            trouble: Some(trouble),
            ..Fetched::cold(None)
        };
        let plan = match (plan, &begun) {
            (Ok(Some(plan)), _) => plan,
            (Ok(None), Ok(_)) => return None,
            // What was fetched ahead is in the command's way.
            (Ok(None), Err(error)) => return Some(without(told(error))),
            (Err(error), Ok(_)) => return Some(without(told(&error))),
            (Err(error), Err(other)) => return Some(without(format!("{}; {other}", told(&error)))),
        };
        let give = plan.give.map(|extent| (extent, plan.given()));
        let brought = match begun {
            Ok(begun) => self.bring(&plan, begun, started).await,
            Err(error) => Err(error),
        };
        let mut fetched = match brought {
            // Somebody's own, on a volume that outlives the compile: others may be using it.
            Err(error @ Trouble::Occupied(_)) => without(told(&error)),
            Ok(known) if plan.parts.is_empty() => Fetched {
                known,
                ..Fetched::cold(give)
            },
            Ok(known) => Fetched {
                fared: "warm",
                known,
                ..Fetched::cold(give)
            },
            Err(error) => Fetched {
                fared: match error {
                    Trouble::Late => "late",
                    _ => "failed",
                },
                ..self.without(&error, &plan).await
            },
        };
        fetched.took = started.elapsed();
        Some(fetched)
    }

    /// What Peitho says of the directory, if it says anything.
    async fn asked<T: DeserializeOwned>(&self) -> Result<Option<T>, client::Error> {
        let asked = async {
            let response = self.client.get(&self.path).await?;
            if response.status() == StatusCode::NO_CONTENT {
                return Ok(None);
            }
            let parsed = self.client.parsed(&self.path, response, ANSWER_BODY);
            parsed.await.map(Some)
        };
        let answered = timeout(QUESTION, asked).await;
        answered.unwrap_or_else(|_| Err(silent(&self.client, &self.path)))
    }

    /// Unpacks all parts that were not unpacked `ahead`.
    async fn bring(&self, plan: &Plan, ahead: Ahead, started: Instant) -> Result<Known, Trouble> {
        let directory = self.directory.clone();
        let made = blocking(move || {
            std::fs::create_dir_all(&directory)?;
            Ok(std::fs::read_dir(&directory)?.next().is_none())
        });
        let is_empty = made.await.map_err(|source| Trouble::Directory {
            path: self.directory.clone(),
            source,
        })?;
        if !is_empty && ahead.parts.is_empty() {
            return Err(Trouble::Occupied(self.directory.clone()));
        }
        // With what is there of them already, which had its room before.
        let free = self.free().await?.saturating_add(ahead.known.bytes());
        let room = || Trouble::Room {
            path: self.directory.clone(),
            free,
        };
        // What they take unpacked nobody knows before: the archive is not unpacked further than to half of what is free.
        if plan.parts.iter().map(|it| it.size).sum::<u64>() > free / 2 {
            return Err(room());
        }
        let missing = &plan.parts[ahead.parts.len()..];
        let most = plan.most.min(free / 2);
        let deadline = plan.deadline(started);
        let mut known = ahead.known;
        for part in missing {
            known = match self.unpacked(part, most, deadline, known).await {
                Err(Trouble::TooMuch { .. }) if most < plan.most => return Err(room()),
                unpacked => unpacked?,
            };
        }
        Ok(known)
    }

    async fn unpacked(
        &self,
        part: &Part,
        most: u64,
        deadline: Instant,
        mut known: Known,
    ) -> Result<Known, Trouble> {
        let path = format!("{}/{}", self.path, part.digest);
        let answer = timeout_at(deadline, self.client.get(&path)).await;
        let answer = answer.map_err(|_| Trouble::Late)??;
        let broken = Arc::new(OnceLock::new());
        let bytes = arriving(answer.into_body(), deadline, Arc::clone(&broken));
        let reader = SyncIoBridge::new(StreamReader::new(bytes));
        let late = Arc::clone(&broken);
        let (into, size, digest) = (self.directory.clone(), part.size, part.digest);
        let unpacked = blocking(move || {
            part::read(reader, size, &digest, |archive| {
                let archive = part::Timely::new(archive, deadline.into_std(), || {
                    let _ = late.set(LATE.to_owned());
                });
                known.unpack(archive, most, &into)?;
                Ok(known)
            })
        });
        let damaged = |reason| Trouble::Damaged { digest, reason };
        match (unpacked.await, broken.get()) {
            (Ok((known, Content::AsPromised)), _) => Ok(known),
            (_, Some(reason)) if reason == LATE => Err(Trouble::Late),
            (_, Some(reason)) => Err(self.client.broken(&path, reason).into()),
            (Err(error @ archive::Error::TooLarge { .. }), None) => {
                Err(Trouble::TooMuch { digest, error })
            }
            (Ok((_, Content::Another)), None) => Err(damaged("it has another digest".to_owned())),
            (Err(error), None) if !is_malformed(&error) => Err(Trouble::Unpacked(error)),
            (Err(error), None) => Err(damaged(error.to_string())),
        }
    }

    /// Bytes that are free where the directory is.
    async fn free(&self) -> Result<u64, Trouble> {
        let directory = self.directory.clone();
        let free = blocking(move || Room::of(&directory)).await;
        let free = free.map_err(|source| Trouble::Directory {
            path: self.directory.clone(),
            source,
        })?;
        Ok(free.bytes)
    }

    /// Whether less is free there than what was fetched takes: what failed for want of room might have had it without.
    pub(super) async fn takes_what_lacks(&self, fetched: &Fetched) -> bool {
        let (bytes, entries) = (fetched.known.bytes(), fetched.known.entries());
        let directory = self.directory.clone();
        let room = blocking(move || Room::of(&directory)).await;
        entries > 0
            && room.is_ok_and(|room| {
                room.bytes < bytes || room.entries.is_some_and(|free| free < entries)
            })
    }

    /// Puts an empty directory into the place of this one, whose content goes: where some of it does not, the command finds nothing of it all the
    /// same. What goes on beside is returned; the end of the process waits for it, as for every blocking task.
    async fn put_away(&self) -> io::Result<Option<JoinHandle<()>>> {
        let mut away = self.directory.clone().into_os_string();
        // What was put away before may still be on its way out.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        away.push(format!(".away-{number}"));
        let (directory, away) = (self.directory.clone(), PathBuf::from(away));
        let moved = {
            let away = away.clone();
            blocking(move || {
                std::fs::rename(&directory, away)?;
                std::fs::create_dir(directory)
            })
        };
        if moved.await.is_err() {
            // A volume of its own, for one, is emptied where it is.
            return empty(&self.directory).await.map(|()| None);
        }
        Ok(Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&away) {
                tracing::warn!(%error, directory = ?away, "it cannot be removed");
            }
        })))
    }

    /// An empty directory, since the parts could not be had.
    async fn without(&self, error: &Trouble, plan: &Plan) -> Fetched {
        let mut trouble = told(error);
        if let Err(error) = self.put_away().await {
            trouble = format!("{trouble}; {:?}: {error}", self.directory);
        }
        // What was damaged is replaced by what this compile makes. With other faults Peitho has all of it as it was.
        let spoilt = match error {
            Trouble::Damaged { digest, .. } => plan.give.map(|extent| (digest, extent)),
            // All of them together would be too much again.
            Trouble::TooMuch { digest, .. } => plan.give.map(|_| (digest, Extent::Whole)),
            _ => None,
        };
        Fetched {
            trouble: Some(trouble),
            telling: spoilt.map(|(digest, _)| self.tell_spoilt(digest)),
            ..Fetched::cold(spoilt.map(|(_, extent)| (extent, plan.given())))
        }
    }

    /// Tells Peitho that a part is to blame, beside the command.
    fn tell_spoilt(&self, digest: &Digest) -> JoinHandle<Result<(), client::Error>> {
        let (client, path) = (self.client.clone(), format!("{}/{digest}", self.path));
        tokio::spawn(async move {
            let told = timeout(QUESTION, client.delete(&path)).await;
            told.unwrap_or_else(|_| Err(silent(&client, &path)))
        })
    }
}

/// Nothing came of a question.
fn silent(client: &Client, path: &str) -> client::Error {
    client.broken(path, format!("no answer for {} s", QUESTION.as_secs()))
}

/// What a volume has free.
struct Room {
    bytes: u64,
    /// Inodes; `None` where they are not counted.
    entries: Option<u64>,
}

impl Room {
    fn of(directory: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(directory)?;
        Ok(Self {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            entries: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }
}

/// Whether what a command left is of use to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    Keeping,
    /// It was broken off, so anything may be half done.
    Nothing,
}

/// Whether the archive is to blame. What this machine does not take is no fault of its: the next one may.
fn is_malformed(error: &archive::Error) -> bool {
    use archive::Error::{Member, Read, TooLarge, Unreadable, Write};
    match error {
        Unreadable(_) | Member { .. } | TooLarge { .. } => true,
        Write { .. } | Read { .. } => false,
    }
}

const LATE: &str = "the parts do not come in the time that they are worth";

fn told(error: &dyn std::error::Error) -> String {
    format!("compiles without the compiler's cache: {error}")
}

/// The bytes of an answer, which neither may fall silent nor come too late. Why it broke off is told to `broken` too: whoever
/// reads them sees a damaged archive.
fn arriving(
    body: Incoming,
    deadline: Instant,
    broken: Arc<OnceLock<String>>,
) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
    let bytes = body.into_data_stream();
    let next = move |mut bytes: http_body_util::BodyDataStream<Incoming>| {
        let broken = Arc::clone(&broken);
        async move {
            let silent_at = Instant::now() + SILENCE;
            // What is there already is given whatever the time is: bytes that always are would never be late.
            let next = match Instant::now() < deadline {
                true => timeout_at(deadline.min(silent_at), bytes.next()).await,
                false => {
                    let _ = broken.set(LATE.to_owned());
                    return Some((Err(io::Error::other(LATE)), bytes));
                }
            };
            let reason = match next {
                Ok(None) => return None,
                Ok(Some(Ok(piece))) => return Some((Ok(piece), bytes)),
                Ok(Some(Err(error))) => error.to_string(),
                Err(_) if silent_at < deadline => format!("nothing came for {SILENCE:?}"),
                Err(_) => LATE.to_owned(),
            };
            let _ = broken.set(reason.clone());
            Some((Err(io::Error::other(reason)), bytes))
        }
    };
    stream::unfold(bytes, next).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_does_not_take_is_no_fault_of_the_part() {
        let path = PathBuf::from("file");
        for errno in [5, 24, 12, 36, 28] {
            let source = io::Error::from_raw_os_error(errno);
            let path = path.clone();
            assert!(!is_malformed(&archive::Error::Write { path, source }));
        }
        let reason = "a link";
        assert!(is_malformed(&archive::Error::Member { path, reason }));
        let source = io::Error::other("no archive");
        assert!(is_malformed(&archive::Error::Unreadable(source)));
    }
}
