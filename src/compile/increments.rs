//! What compilers keep from one compile to the next, in the store: for each tenant, builder and architecture a row of increments (design D7). The
//! first holds a whole cache, later ones what compiles added; now and then one holds all of it again and takes the place of
//! the others. Each is a blob with a record of its own that is written once, so that compiles at the same time, and replicas on one
//! bucket, have nothing to agree upon. `warmth` uses it, and `collection` asks which there are: any of them may go.
//! What is in a blob nobody reads here.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::{Stream, TryStreamExt as _, future};
use serde::{Deserialize, Serialize};

use super::cache::USE_IS_NOTED;
use crate::archive::Extent;
use crate::names::{Architecture, Digest, Tenant};
use crate::store::{Blob, Error, Place, Read, RefKind, Store};

/// Whose cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Whose {
    pub(super) tenant: Tenant,
    /// `<builder's digest>/<architecture>`: the beginning of the records' names.
    row: String,
}

impl Whose {
    pub(super) fn new(tenant: Tenant, builder: &Digest, architecture: &Architecture) -> Self {
        let row = format!("{builder}/{architecture}");
        Self { tenant, row }
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of the tenant {}", self.row, self.tenant)
    }
}

/// The value of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    pub(super) blob: Blob,
    pub(super) extent: Extent,
    /// When it was made, in milliseconds since the Unix epoch: they are laid one over the other in this order.
    pub(super) made: i64,
    /// How long, in milliseconds, a compile took that had nothing of the row and succeeded: what the row can save. `None` while none
    /// did.
    #[serde(default)]
    pub(super) worth: Option<u64>,
}

/// An increment in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Increment {
    pub(super) name: String,
    pub(super) kept: Kept,
}

/// An increment, for who decides what stays.
#[derive(Clone, Debug)]
pub struct StoredIncrement {
    /// Whose it is, where it stands, and when it was last noted as used: [`USE_IS_NOTED`] less exact.
    pub place: Place,
    /// Which increments of the tenant belong together.
    pub row: String,
    /// Its content.
    pub blob: Blob,
    /// Whether it is the whole cache as it was when it was made: it takes the place of those before it.
    pub extent: Extent,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made: i64,
}

/// Every increment in the store, in no order. A record that cannot be read is worth nothing: it is told, and left out.
///
/// # Errors
/// When the store cannot be read.
pub fn stored_increments(store: &Store) -> impl Stream<Item = Result<StoredIncrement, Error>> {
    let read = store.every_ref::<Kept>(RefKind::Cache);
    read.try_filter_map(async |read| {
        let increment = |(place, name, kept): (Place, String, Kept)| StoredIncrement {
            place,
            row: name.rsplit_once('/').map_or("", |(row, _)| row).to_owned(),
            blob: kept.blob,
            extent: kept.extent,
            made: kept.made,
        };
        Ok(sound(read).ok().map(increment))
    })
}

/// A record that is of no use.
enum Useless {
    Damaged(Place),
    /// This program cannot tell: the disk may give it the next time, and another release may have written it, which has use for it. Two of them
    /// beside one bucket would else remove each other's.
    Unknown,
}

fn sound(read: Read<Kept>) -> Result<(Place, String, Kept), Useless> {
    match read {
        Read::Ref { place, name, value } => Ok((place, name, value)),
        Read::Damaged { place, reason } => {
            tracing::warn!(record = %place, reason, "compile: the record of a part of a compiler's cache is damaged and not used; the next compile of its tenant removes it");
            Err(Useless::Damaged(place))
        }
        Read::Unread { place, reason } | Read::Strange { place, reason } => {
            tracing::warn!(record = %place, reason, "compile: the record of a part of a compiler's cache cannot be read and is not used, and what it names may go");
            Err(Useless::Unknown)
        }
    }
}

/// The row, in the order in which it is to be unpacked. What lost its content is removed.
pub(super) async fn row(store: &Store, whose: &Whose) -> Result<Vec<Increment>, Error> {
    let beginning = format!("{}/", whose.row);
    let read = store.every_ref_of::<Kept>(RefKind::Cache, (&whose.tenant).into());
    let read: Vec<_> = read.try_collect().await?;
    let mut all = Vec::new();
    for read in read {
        match sound(read) {
            Ok((_, name, kept)) if name.starts_with(&beginning) => {
                all.push(Increment { name, kept });
            }
            Ok(_) | Err(Useless::Unknown) => {}
            Err(Useless::Damaged(place)) => drop(store.remove_place(&place).await?),
        }
    }
    let present = all.into_iter().map(|it| async move {
        match store.holds(&it.kept.blob).await? {
            true => Ok(Some(it)),
            false => remove(store, whose, &it.name).await.map(|()| None),
        }
    });
    let present: Vec<_> = future::try_join_all(present).await?;
    let mut row: Vec<_> = present.into_iter().flatten().collect();
    row.sort_by(|a, b| (a.kept.made, &a.name).cmp(&(b.kept.made, &b.name)));
    Ok(row)
}

/// Notes that all of `row` was used. A full volume refuses that, and what is there can be served all the same.
pub(super) async fn note_use(store: &Store, whose: &Whose, row: &[Increment]) {
    let notes = row.iter().map(|it| {
        let kind = RefKind::Cache;
        store.touch_ref(kind, &whose.tenant, &it.name, USE_IS_NOTED)
    });
    for noted in future::join_all(notes).await {
        if let Err(error) = noted {
            tracing::warn!(%whose, %error, "compile: the use of a compiler's cache is not noted; it may go from the store sooner");
        }
    }
}

/// Whether all of `row` is still there.
pub(super) async fn is_there(
    store: &Store,
    whose: &Whose,
    row: &[Increment],
) -> Result<bool, Error> {
    Ok(still_there(store, whose, row).await? == row.len())
}

/// Whether anything of `row` is.
pub(super) async fn is_any_there(
    store: &Store,
    whose: &Whose,
    row: &[Increment],
) -> Result<bool, Error> {
    Ok(still_there(store, whose, row).await? > 0)
}

/// How much of `row` is.
async fn still_there(store: &Store, whose: &Whose, row: &[Increment]) -> Result<usize, Error> {
    let found = row.iter().map(|it| async {
        let kept = store.get_ref::<Kept>(RefKind::Cache, &whose.tenant, &it.name);
        Ok::<_, Error>(kept.await?.is_some())
    });
    let found = future::try_join_all(found).await?;
    Ok(found.into_iter().filter(|is_there| *is_there).count())
}

/// Adds `blob` to the row; gives its name there. Durable when this returns.
pub(super) async fn add(
    store: &Store,
    whose: &Whose,
    blob: Blob,
    extent: Extent,
    worth: Option<u64>,
) -> Result<String, Error> {
    let name = format!("{}/{:016x}", whose.row, rand::random::<u64>());
    let kept = Kept {
        blob,
        extent,
        made: now(),
        worth,
    };
    let put = store.put_ref(RefKind::Cache, &whose.tenant, &name, &kept);
    put.await?;
    Ok(name)
}

/// Removes the record of that name; one that is gone is no fault.
pub(super) async fn remove(store: &Store, whose: &Whose, name: &str) -> Result<(), Error> {
    let removed = store.remove_ref(RefKind::Cache, &whose.tenant, name).await;
    removed.map(drop)
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
