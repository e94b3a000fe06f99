//! All refs of a kind at once, of whoever they are: for who has to know everything that is named (collection, the check
//! at start, lists for operators). A ref that cannot be read is told as such and hides no other.

use futures::{Stream, TryStreamExt as _};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _};
use serde::de::DeserializeOwned;

use super::refs::{Named, REFS, Record};
use super::seen::{Seen, Since};
use super::{Error, RefKind, Scope, Store, quarantine, refs};
use crate::names::{Digest, Tenant};

/// So many refs are read at once: a bucket answers each after some milliseconds.
const AT_ONCE: usize = 32;

/// Where a ref stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) key: Key,
    pub(super) seen: Seen,
    /// Whose it is; `None`: nobody's.
    pub tenant: Option<Tenant>,
    /// When it was written, in seconds since the Unix epoch.
    pub written: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key.as_ref())
    }
}

/// A ref as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// A sound one.
    Ref {
        /// Where it stands.
        place: Place,
        /// Its name.
        name: String,
        /// Its value.
        value: T,
    },
    /// Damaged: no record at all, or the one of another name.
    Damaged {
        /// Where it stands.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// The disk does not give it.
    Unread {
        /// Where it stands.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A sound record whose value is not what this program knows: another release may have written it.
    Strange {
        /// Where it stands.
        place: Place,
        /// What is wrong.
        reason: String,
    },
}

impl Store {
    /// Every ref of a kind, in no order.
    ///
    /// # Errors
    /// [`Error::Io`], after which nothing more comes.
    pub fn every_ref<T: DeserializeOwned>(
        &self,
        kind: RefKind,
    ) -> impl Stream<Item = Result<Read<T>, Error>> {
        self.every(root(kind))
    }

    /// Those of `scope` alone.
    ///
    /// # Errors
    /// As [`Store::every_ref`].
    pub fn every_ref_of<T: DeserializeOwned>(
        &self,
        kind: RefKind,
        scope: Scope<'_>,
    ) -> impl Stream<Item = Result<Read<T>, Error>> {
        self.every(root(kind).join(scope.to_string()))
    }

    /// The same of those in quarantine.
    ///
    /// # Errors
    /// As [`Store::every_ref`].
    pub fn every_quarantined_ref<T: DeserializeOwned>(
        &self,
        kind: RefKind,
    ) -> impl Stream<Item = Result<Read<T>, Error>> {
        self.every(quarantine::key(&root(kind)))
    }

    /// Removes the ref that was read there; whether it is gone. One that was written again since stays.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn remove_place(&self, place: &Place) -> Result<bool, Error> {
        match self.since(&place.key, &place.seen).await? {
            Since::Same => {}
            Since::WrittenAgain => return Ok(false),
            Since::Gone => return Ok(true),
        }
        match self.0.objects.delete(&place.key).await {
            Ok(()) => Ok(true),
            Err(e) if self.is_missing(&e) => Ok(true),
            Err(e) => Err(self.failed("removing", &place.key, 0, e)),
        }
    }

    /// What stands among the refs and is none by its name: what a file system or an operator left there. Sorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn no_refs(&self) -> Result<Vec<String>, Error> {
        let root = Key::from_iter(REFS);
        let listed = self.0.objects.list(Some(&root));
        let others = listed.try_filter_map(async |object| {
            let key = object.location;
            Ok((!refs::is_one(&key)).then(|| key.to_string()))
        });
        let others: Result<Vec<String>, _> = others.try_collect().await;
        let mut others = others.map_err(|e| self.failed("listing", &root, 0, e))?;
        others.sort_unstable();
        Ok(others)
    }

    fn every<T: DeserializeOwned>(&self, root: Key) -> impl Stream<Item = Result<Read<T>, Error>> {
        let listed = self.0.objects.list(Some(&root));
        let listed = listed.map_err({
            let (this, root) = (self.clone(), root.clone());
            move |e| this.failed("listing", &root, 0, e)
        });
        let this = self.clone();
        listed
            .try_filter(|object| std::future::ready(refs::is_one(&object.location)))
            .map_ok(move |object| {
                let this = this.clone();
                async move { this.read(object).await }
            })
            .try_buffer_unordered(AT_ONCE)
            // One that was removed in the meantime is no fault.
            .try_filter_map(async |read| Ok(read))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        object: ObjectMeta,
    ) -> Result<Option<Read<T>>, Error> {
        let document = self.document(&object.location).await;
        let parts: Vec<_> = object.location.parts().collect();
        let [.., scope, file] = &parts[..] else {
            return Ok(None);
        };
        let place = Place {
            tenant: scope.as_ref().parse().ok(),
            written: object.last_modified.timestamp(),
            seen: Seen::of(&object),
            key: object.location.clone(),
        };
        let document = match document {
            Ok(Some(document)) => document,
            Ok(None) => return Ok(None),
            // A block of a disk hides no other one. A bucket that fails does so as a whole.
            Err(error @ Error::Io { .. }) => {
                let reason = error.to_string();
                return Ok(Some(Read::Unread { place, reason }));
            }
            Err(error) => return Err(error),
        };
        let is_of = |name: &str| {
            let own = format!("{}.json", Digest::of(name.as_bytes()).hex());
            file.as_ref() == own
        };
        let of_other = |name: &str| format!("it is the record of {name:?}");
        let read = match serde_json::from_slice::<Record<T>>(&document) {
            Ok(Record { name, value }) if is_of(&name) => Read::Ref { place, name, value },
            Ok(Record { name, .. }) => Read::Damaged {
                place,
                reason: of_other(&name),
            },
            Err(error) => match serde_json::from_slice::<Named>(&document) {
                Ok(Named { name }) if is_of(&name) => Read::Strange {
                    place,
                    reason: error.to_string(),
                },
                Ok(Named { name }) => Read::Damaged {
                    place,
                    reason: of_other(&name),
                },
                Err(error) => Read::Damaged {
                    place,
                    reason: error.to_string(),
                },
            },
        };
        Ok(Some(read))
    }
}

fn root(kind: RefKind) -> Key {
    Key::from_iter(REFS).join(kind.as_str())
}
