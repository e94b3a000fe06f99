//! Refs: small JSON documents under names of any text. The file is named by the name's digest, since
//! names may be long and hold anything; the name itself stands in the document.

use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, Store, volume};
use crate::names::{Digest, Tenant};

/// How many refs a list reads at once: in a bucket each is a request, and takes its time.
const READ_AT_ONCE: usize = 16;
/// Where refs are.
pub(super) const REFS: [&str; 2] = ["refs", "v1"];

/// The kind of a ref: the first part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefKind {
    /// Images by name.
    Image,
    /// Results of compiles by key.
    Compile,
    /// Base images with all their content, by name.
    Held,
    /// Layers that registries and archives showed, by digest. It keeps no blob in the store.
    Outside,
    /// Increments of compilers' caches, by builder and number.
    Cache,
}

/// Whose a ref is: the second part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// A tenant's own; no other one sees it.
    Of(&'a Tenant),
    /// Nobody's: the same for all tenants, as a registry's public images are.
    Nobody,
}

impl<'a> From<&'a Tenant> for Scope<'a> {
    fn from(tenant: &'a Tenant) -> Self {
        Self::Of(tenant)
    }
}

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Of(tenant) => tenant.as_str(),
            // No tenant can be called so.
            Self::Nobody => "_",
        })
    }
}

impl RefKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Compile => "compile",
            Self::Held => "held",
            Self::Outside => "outside",
            Self::Cache => "cache",
        }
    }
}

#[derive(Serialize)]
struct Written<'a, T> {
    name: &'a str,
    value: &'a T,
}

#[derive(Deserialize)]
pub(super) struct Record<T> {
    pub(super) name: String,
    pub(super) value: T,
}

/// Just the name: the value is skipped, whatever it is.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

impl Store {
    /// Writes the ref `name` of `scope`, replacing what was there. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Io`]; the ref is as before.
    pub async fn put_ref<T: Serialize>(
        &self,
        kind: RefKind,
        scope: impl Into<Scope<'_>>,
        name: &str,
        value: &T,
    ) -> Result<(), Error> {
        let key = key(kind, scope.into(), name);
        let document = serde_json::to_vec(&Written { name, value })
            .map_err(|e| self.io("writing", &key, 0, e.into()))?;
        let bytes = document.len() as u64;
        (self.0.objects.put(&key, document.into()).await)
            .map_err(|e| self.failed("writing", &key, bytes, e))?;
        Ok(())
    }

    /// Reads the ref `name` of `scope`, or `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub async fn get_ref<T: DeserializeOwned>(
        &self,
        kind: RefKind,
        scope: impl Into<Scope<'_>>,
        name: &str,
    ) -> Result<Option<T>, Error> {
        let scope = scope.into();
        let Some(document) = self.document(&key(kind, scope, name)).await? else {
            return Ok(None);
        };
        let corrupt = |reason| Error::Corrupt {
            name: format!("{}/{scope}/{name}", kind.as_str()),
            reason,
        };
        let record: Record<T> =
            serde_json::from_slice(&document).map_err(|e| corrupt(e.to_string()))?;
        if record.name != name {
            return Err(corrupt(format!("it is the record of {:?}", record.name)));
        }
        Ok(Some(record.value))
    }

    /// Notes that the ref `name` of `scope` is in use: writes it again where it was last written longer than `unless_within`
    /// ago. Gives whether there is such a ref.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Io`]; the ref is as before.
    pub async fn touch_ref(
        &self,
        kind: RefKind,
        scope: impl Into<Scope<'_>>,
        name: &str,
        unless_within: Duration,
    ) -> Result<bool, Error> {
        let key = key(kind, scope.into(), name);
        let written = match self.look(&key).await {
            Ok(Some(found)) => SystemTime::from(found.last_modified),
            Ok(None) => return Ok(false),
            Err(e) => return Err(self.failed("reading", &key, 0, e)),
        };
        if written.elapsed().is_ok_and(|age| age < unless_within) {
            return Ok(true);
        }
        let Some(document) = self.document(&key).await? else {
            return Ok(false);
        };
        let bytes = document.len() as u64;
        (self.0.objects.put(&key, document.into()).await)
            .map_err(|e| self.failed("writing", &key, bytes, e))?;
        Ok(true)
    }

    /// Removes the ref `name` of `scope`; returns whether there was one. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`]; the ref may be there or not.
    pub async fn remove_ref(
        &self,
        kind: RefKind,
        scope: impl Into<Scope<'_>>,
        name: &str,
    ) -> Result<bool, Error> {
        let scope = scope.into();
        let key = key(kind, scope, name);
        if self.0.bucket.is_some() {
            // S3 does not say whether there was one.
            let failed = |e| self.failed("removing", &key, 0, e);
            if self.look(&key).await.map_err(failed)?.is_none() {
                return Ok(false);
            }
            self.0.objects.delete(&key).await.map_err(failed)?;
            return Ok(true);
        }
        match self.0.objects.delete(&key).await {
            Ok(()) => {
                let directory = self.0.directory.join(prefix(kind, scope).as_ref());
                let synced = volume::blocking(move || volume::sync_directory(&directory));
                (synced.await).map_err(|e| self.io("removing", &key, 0, e))?;
                Ok(true)
            }
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.failed("removing", &key, 0, e)),
        }
    }

    /// The names of all refs of a kind that `scope` has, sorted.
    ///
    /// # Errors
    /// [`Error::Io`]; and [`Error::Corrupt`] for any one that is unreadable, since who removes what no ref
    /// names must not go by an incomplete list.
    pub async fn list_refs(
        &self,
        kind: RefKind,
        scope: impl Into<Scope<'_>>,
    ) -> Result<Vec<String>, Error> {
        let dated = self.dated_refs(kind, scope).await?;
        Ok(dated.into_iter().map(|(name, _)| name).collect())
    }

    /// The same, each with the second since the Unix epoch in which it was written.
    ///
    /// # Errors
    /// As [`Store::list_refs`].
    pub async fn dated_refs(
        &self,
        kind: RefKind,
        scope: impl Into<Scope<'_>>,
    ) -> Result<Vec<(String, i64)>, Error> {
        let read = self.read_all(kind, scope.into()).await?;
        let read = read.into_iter().filter_map(Result::transpose);
        let mut names = read.collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        Ok(names)
    }

    /// As [`Store::list_refs`], for who only shows them: one that is unreadable hides no other. It is told and left out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn readable_refs(
        &self,
        kind: RefKind,
        scope: impl Into<Scope<'_>>,
    ) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for read in self.read_all(kind, scope.into()).await? {
            match read {
                Ok(read) => names.extend(read.map(|(name, _)| name)),
                Err(error @ Error::Corrupt { .. }) => {
                    tracing::warn!(%error, "store: a record is left out of a list");
                }
                Err(error) => return Err(error),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn read_all(
        &self,
        kind: RefKind,
        scope: Scope<'_>,
    ) -> Result<Vec<Result<Option<(String, i64)>, Error>>, Error> {
        let prefix = prefix(kind, scope);
        let found: Vec<ObjectMeta> = (self.0.objects.list(Some(&prefix)).try_collect().await)
            .map_err(|e| self.failed("listing", &prefix, 0, e))?;
        let found = found.into_iter().filter(|it| is_one(&it.location));
        let read = stream::iter(found).map(|object| self.dated(object));
        Ok(read.buffer_unordered(READ_AT_ONCE).collect().await)
    }

    async fn dated(&self, object: ObjectMeta) -> Result<Option<(String, i64)>, Error> {
        let key = object.location;
        // One that was removed in the meantime is no fault.
        let Some(document) = self.document(&key).await? else {
            return Ok(None);
        };
        let named: Named = serde_json::from_slice(&document).map_err(|e| Error::Corrupt {
            name: key.to_string(),
            reason: e.to_string(),
        })?;
        Ok(Some((named.name, object.last_modified.timestamp())))
    }

    pub(super) async fn document(&self, key: &Key) -> Result<Option<bytes::Bytes>, Error> {
        let found = match self.0.objects.get(key).await {
            Ok(found) => found.bytes().await,
            Err(e) => Err(e),
        };
        match found {
            Ok(document) => Ok(Some(document)),
            Err(e) if self.is_missing(&e) => Ok(None),
            Err(e) => Err(self.failed("reading", key, 0, e)),
        }
    }
}

fn prefix(kind: RefKind, scope: Scope<'_>) -> Key {
    Key::from_iter(REFS)
        .join(kind.as_str())
        .join(scope.to_string())
}

/// Whether a ref can have that place: a digest and `.json`.
pub(super) fn is_one(key: &Key) -> bool {
    let stem = key.filename().and_then(|name| name.strip_suffix(".json"));
    stem.is_some_and(|stem| format!("sha256:{stem}").parse::<Digest>().is_ok())
}

pub(super) fn key(kind: RefKind, scope: Scope<'_>, name: &str) -> Key {
    let file = format!("{}.json", Digest::of(name.as_bytes()).hex());
    prefix(kind, scope).join(file)
}
