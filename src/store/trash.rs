//! What no ref names leaves the store in two steps, through `trash/`: `collection` says what is named, this moves and deletes.
//! It needs no lock, also between processes: nothing is deleted that somebody could still be about to name.
//!
//! ```text
//! trash/<64 hex digits>.<seconds since the Unix epoch>.<8 hex digits>     a blob, and since when it is here
//! ```
//!
//! A pass takes a [`Survey`] of what there is, *then* reads the refs, and only then acts on the survey ([`Survey::plan`]):
//!
//! 1. A blob older than the grace that no ref names is moved to the trash, where readers find it by itself
//!    ([`Store::open_blob`] moves it back).
//! 2. What is in the trash and named goes back; what is in its place too was committed since, and stays instead.
//! 3. What has been in the trash for the grace, and is not named, is deleted.
//!
//! Who may meet it:
//!
//! - *Bytes on their way in* are no blobs; a fresh blob is younger than the grace.
//! - *A commit of bytes that are there already*, a moment before they are moved: its ref comes within the grace, and the
//!   second reading of the refs sees it. A commit after the move finds nothing in the place and writes the bytes anew.
//! - *A ref that comes later than the grace*, as after a push that took hours: who writes it asks [`Store::holds`] afterwards
//!   for all that it names. Either that finds the blob, then every later reading of the refs sees the ref; a pass whose
//!   reading was earlier moves the blob at the most, and the next one brings it back. Or it finds none, and says so.
//! - *Two passes at once*, of two processes: each entry has a name of its own, so a deletion that was decided on meets that
//!   entry alone, not a later one of the same blob. What is named is moved back also where a survey saw the blob in its
//!   place: another pass may have moved it since, and the entry be all there is.
//! - *A move in a bucket* is a copy and a deletion: what is seen of it in between, also after a process that ended there, is a blob
//!   that is there twice, and harms nobody. A process that is stopped there, for hours perhaps, finds something else in the place
//!   when it goes on. So it asks for the deletion only within [`MOVE`] of the copy's begin, each time it asks, by the clock on the
//!   wall: what is named in this time is still in the trash, and nothing is deleted there before the grace is over, which is twice
//!   as long at the least. What is left is the instant between that look at the clock and the request.
//! - *Readers* have the file open; a deletion does not reach them.
//! - *A process that ends in between* leaves every blob in one of the two places.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::Retryable as _;
use futures::{StreamExt as _, stream};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _};

use super::bucket::Bucket;
use super::seen::{Seen, Since};
use super::{Blob, Error, Store, blob_key, volume};
use crate::names::Digest;

/// So many are moved or deleted at once: each waits for the disk, or for the bucket.
const AT_ONCE: usize = 32;
/// How long a move in a bucket may take before its first half is all of it: half the least that `store.collectEverySeconds` may
/// be.
pub(super) const MOVE: Duration = Duration::from_secs(150);

/// What there was at a moment: some 50 bytes of memory for each blob.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    at: i64,
    blobs: Vec<Present>,
    trash: Vec<Trashed>,
}

#[derive(Clone, Copy, Debug)]
struct Present {
    blob: Blob,
    modified: i64,
}

#[derive(Clone, Debug)]
struct Trashed {
    key: Key,
    blob: Blob,
    since: i64,
}

/// What a pass is to do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// To the trash.
    aside: Vec<Blob>,
    /// Out of the trash.
    back: Vec<(Key, Blob)>,
    /// For good.
    gone: Vec<(Key, Blob)>,
}

enum Step {
    Back(Key, Blob),
    Aside(Digest),
    Delete(Key),
}

/// What became of an object of a bucket that was to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It is in its new place alone.
    Whole,
    /// It is in both, since that took too long.
    Copied,
    /// It is in the new place, and something else in the old one.
    WrittenAgain,
    /// There is none.
    Gone,
}

/// How many blobs, and how many bytes they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sum {
    fn of<'a>(blobs: impl Iterator<Item = &'a Blob>) -> Self {
        blobs.fold(Self::default(), |sum, blob| Self {
            blobs: sum.blobs + 1,
            bytes: sum.bytes + blob.size,
        })
    }
}

impl Survey {
    /// The length of each blob that is in its place.
    pub fn sizes(&self) -> HashMap<Digest, u64> {
        let blobs = self.blobs.iter();
        blobs.map(|it| (it.blob.digest, it.blob.size)).collect()
    }

    /// What is to be done where the refs, read after this survey, name `named`. Of the rest goes at once what is in
    /// `given_up`: only for blobs whose loss harms nobody, since it may be committed again at this moment.
    pub fn plan(
        &self,
        named: &HashSet<Digest>,
        given_up: &HashSet<Digest>,
        grace: Duration,
    ) -> Plan {
        let grace = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let is_due = |since: i64| self.at.saturating_sub(since) >= grace;
        let mut plan = Plan::default();
        let unnamed = self.blobs.iter();
        for it in unnamed.filter(|it| !named.contains(&it.blob.digest)) {
            if given_up.contains(&it.blob.digest) {
                plan.gone.push((blob_key(&it.blob.digest), it.blob));
            } else if is_due(it.modified) {
                plan.aside.push(it.blob);
            }
        }
        for it in &self.trash {
            let digest = &it.blob.digest;
            // Also where the survey saw it in its place: it may have been moved since, and this be all there is.
            if named.contains(digest) {
                plan.back.push((it.key.clone(), it.blob));
            } else if is_due(it.since) || given_up.contains(digest) {
                plan.gone.push((it.key.clone(), it.blob));
            }
        }
        plan
    }
}

impl Plan {
    /// What goes to the trash.
    pub fn aside(&self) -> Sum {
        Sum::of(self.aside.iter())
    }

    /// What is brought back.
    pub fn back(&self) -> Sum {
        Sum::of(self.back.iter().map(|(_, blob)| blob))
    }

    /// What goes for good.
    pub fn gone(&self) -> Sum {
        Sum::of(self.gone.iter().map(|(_, blob)| blob))
    }
}

impl Store {
    /// What there is now. To be taken before the refs are read by which one decides what goes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn survey(&self) -> Result<Survey, Error> {
        let mut survey = Survey {
            at: now(),
            ..Survey::default()
        };
        self.each(blobs(), |object| {
            let digest = object.location.filename().and_then(digest_of);
            survey.blobs.extend(digest.map(|digest| Present {
                blob: Blob {
                    digest,
                    size: object.size,
                },
                modified: object.last_modified.timestamp(),
            }));
        })
        .await?;
        self.each(trash(), |object| survey.trash.extend(Trashed::of(object)))
            .await?;
        Ok(survey)
    }

    /// Does what was planned. What another process has done meanwhile is no fault, and one step that fails, perhaps at each pass,
    /// keeps no other one from being done.
    ///
    /// # Errors
    /// The first one, and how many there are; the next pass tries again.
    pub async fn carry_out(&self, plan: Plan) -> Result<(), Error> {
        let mut failed = Vec::new();
        let back = (plan.back.into_iter()).map(|(from, blob)| Step::Back(from, blob));
        failed.extend(self.steps(back.collect()).await);
        let gone = plan.gone.into_iter().map(|(key, _)| Step::Delete(key));
        failed.extend(self.steps(gone.collect()).await);
        let aside = plan.aside.iter().map(|blob| Step::Aside(blob.digest));
        failed.extend(self.steps(aside.collect()).await);
        let others = failed.len().saturating_sub(1);
        match (failed.into_iter().next(), others) {
            (None, _) => Ok(()),
            (Some(error), 0) => Err(error),
            (Some(first), others) => Err(Error::Several {
                first: Box::new(first),
                others,
            }),
        }
    }

    /// Takes these steps, in any order; gives what failed.
    async fn steps(&self, steps: Vec<Step>) -> Vec<Error> {
        stream::iter(steps)
            .map(|step| self.clone().step(step))
            .buffer_unordered(AT_ONCE)
            .filter_map(async |taken| taken.err())
            .collect()
            .await
    }

    async fn step(self, step: Step) -> Result<(), Error> {
        match step {
            // The newer one was verified when it came. It may be on its way to the trash by another pass: then it has an
            // entry of its own there.
            Step::Back(from, blob)
                if self.size_in_place(&blob.digest).await? == Some(blob.size) =>
            {
                // Its name may be a moment old and not yet durable, and this is all there is otherwise.
                if self.0.bucket.is_none() {
                    let key = blob_key(&blob.digest);
                    let directory = self.0.directory.join(blobs().as_ref());
                    let synced = volume::blocking(move || volume::sync_directory(&directory));
                    (synced.await).map_err(|e| self.io("syncing", &key, 0, e))?;
                }
                self.delete(&from).await
            }
            Step::Back(from, blob) => {
                let moved = self.put_from(&from, &blob_key(&blob.digest)).await;
                moved.map(drop)
            }
            Step::Aside(digest) => {
                let (from, to) = (blob_key(&digest), entry(&digest));
                self.put_from(&from, &to).await.map(drop)
            }
            Step::Delete(key) => self.delete(&key).await,
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        match self.0.objects.delete(key).await {
            Ok(()) => Ok(()),
            Err(e) if self.is_missing(&e) => Ok(()),
            Err(e) => Err(self.failed("deleting", key, 0, e)),
        }
    }

    /// Whether the blob is there, whole; brought back from the trash, where it was that.
    ///
    /// Who names blobs asks this once his ref is written: what is held now stays as long as the ref does.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn holds(&self, blob: &Blob) -> Result<bool, Error> {
        if let Some(size) = self.size_in_place(&blob.digest).await? {
            return Ok(size == blob.size);
        }
        Ok(self.rescue(&blob.digest).await?
            && self.size_in_place(&blob.digest).await? == Some(blob.size))
    }

    async fn size_in_place(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let key = blob_key(digest);
        let found = self.look(&key).await;
        let found = found.map_err(|e| self.failed("reading", &key, 0, e))?;
        Ok(found.map(|found| found.size))
    }

    /// Brings a blob that is not in its place back from the trash; whether it may be there now.
    pub(super) async fn rescue(&self, digest: &Digest) -> Result<bool, Error> {
        let mut found = Vec::new();
        self.each(trash(), |object| {
            found.extend(Trashed::of(object).filter(|it| it.blob.digest == *digest));
        })
        .await?;
        let mut is_back = false;
        for it in found {
            is_back |= self.put_from(&it.key, &blob_key(digest)).await?;
        }
        // Who else looked for it may have been quicker.
        Ok(is_back || self.size_in_place(digest).await?.is_some())
    }

    /// Moves an object; `false` when it is not there any more. Not durable when this returns: after a crash it is in the one
    /// place or in the other, and either is as good. In a bucket it may be in both.
    async fn put_from(&self, from: &Key, to: &Key) -> Result<bool, Error> {
        if let Some(bucket) = &self.0.bucket {
            let moved = self.put_object(bucket, from, to, SystemTime::now(), None);
            return Ok(moved.await? != Moved::Gone);
        }
        match self.0.unsynced.rename(from, to).await {
            Ok(()) => Ok(true),
            Err(e) if self.is_missing(&e) => Ok(false),
            Err(e) => Err(self.failed("moving", from, 0, e)),
        }
    }

    /// Moves an object of `bucket`, by a process that was about to at `begun`; where it was `seen` before, only if it is still the
    /// same when it is deleted.
    pub(super) async fn put_object(
        &self,
        bucket: &Bucket,
        from: &Key,
        to: &Key,
        begun: SystemTime,
        seen: Option<&Seen>,
    ) -> Result<Moved, Error> {
        match self.0.objects.copy(from, to).await {
            Ok(()) => {}
            Err(e) if self.is_missing(&e) => return Ok(Moved::Gone),
            Err(e) => return Err(self.failed("moving", from, 0, e)),
        }
        if let Some(seen) = seen {
            match self.since(from, seen).await? {
                Since::Same => {}
                Since::WrittenAgain => return Ok(Moved::WrittenAgain),
                Since::Gone => return Ok(Moved::Whole),
            }
        }
        let delete = || async {
            if begun.elapsed().is_ok_and(|passed| passed < MOVE) {
                bucket.delete_at_once(from).await.map(|()| Moved::Whole)
            } else {
                Ok(Moved::Copied)
            }
        };
        // Not by the client, which looks at no clock in between.
        let repeated = delete.retry(bucket.repeated());
        repeated.when(Error::may_pass).await
    }

    async fn each(&self, below: Key, mut see: impl FnMut(ObjectMeta)) -> Result<(), Error> {
        let mut listed = self.0.objects.list(Some(&below));
        while let Some(object) = listed.next().await {
            see(object.map_err(|e| self.failed("listing", &below, 0, e))?);
        }
        Ok(())
    }
}

impl Trashed {
    fn of(object: ObjectMeta) -> Option<Self> {
        let mut parts = object.location.filename()?.split('.');
        let digest = digest_of(parts.next()?)?;
        let since = parts.next()?.parse().ok()?;
        Some(Self {
            blob: Blob {
                digest,
                size: object.size,
            },
            since,
            key: object.location,
        })
    }
}

fn blobs() -> Key {
    Key::from_iter(["blobs", "sha256"])
}

fn trash() -> Key {
    Key::from("trash")
}

/// A name of its own for a blob that comes into the trash now.
pub(super) fn entry(digest: &Digest) -> Key {
    let (hex, since) = (digest.hex(), now());
    let name = format!("{hex}.{since}.{:08x}", rand::random::<u32>());
    trash().join(name)
}

/// Seconds since the Unix epoch.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

fn digest_of(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}
