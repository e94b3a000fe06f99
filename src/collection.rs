//! What stays in the store, and what goes (design D4): who asks each module above the store what its records name, and has the
//! rest collected. `serve` runs it beside the server, `cli` once by order. How blobs go without harm to who is about to name
//! them is `store`'s business; which container uses what is told by `serve`.
//!
//! | what | goes |
//! |---|---|
//! | built images, and bases held whole | by order alone: a peer believes for its whole life that what it built exists |
//! | results of compiles | the longest unused first, beyond `store.compileResults`, or when the volume is nearly full |
//! | blobs that nothing names | after two passes, `store.collectEverySeconds` apart |
//! | what is damaged | never: it is moved to `quarantine/` and told |

mod check;
mod results;
mod service;

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};

pub use self::check::{Depth, Findings, check};
pub use self::service::Service;
use crate::image::Image;
use crate::names::{Digest, Tenant};
use crate::registry::HeldImage;
use crate::store::{self, Plan, Read, RefKind, Store, Sum};

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record of which nobody knows what it names: what it needs might go.
    #[error(
        "store: nothing is collected, since {record} cannot be read: {reason}; mend it, or delete that file if what it named may go"
    )]
    Unreadable {
        /// Where it stands in the store.
        record: String,
        /// What is wrong.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// How much is collected.
#[derive(Clone, Debug)]
pub struct Rules {
    /// For how long a blob that nothing names stays in its place, and then in the trash.
    pub grace: Duration,
    /// Bytes that the results of compiles may have altogether.
    pub results: u64,
    /// Results that were not used for so long go in any case.
    pub unused_for: Option<Unused>,
    /// What is needed beside the records: what containers were made of.
    pub in_use: HashSet<Digest>,
}

/// Results that go by order.
#[derive(Clone, Debug)]
pub struct Unused {
    /// Not used for so long.
    pub than: Duration,
    /// Of this tenant alone.
    pub tenant: Option<Tenant>,
}

/// What a pass did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Results of compiles that are no more.
    pub results: Sum,
    /// Blobs that nothing names, moved to the trash.
    pub aside: Sum,
    /// Blobs that something names after all, brought back from there.
    pub back: Sum,
    /// Blobs that were deleted.
    pub gone: Sum,
}

/// Whether a pass acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It does.
    Collect,
    /// It tells what it would do.
    Tell,
}

/// One pass over the store.
///
/// # Errors
/// [`Error`]; nothing was deleted then by an incomplete list of what is needed.
pub async fn pass(store: &Store, rules: &Rules, doing: Doing) -> Result<Collected, Error> {
    // First: what comes later than the survey is not touched by what is decided here.
    let survey = store.survey().await?;
    let mut named = named_by_images(store).await?;
    named.extend(&rules.in_use);
    let mut results = results::Results::read(store).await?;
    let mut leaving = results.beyond(rules.results);
    if let Some(unused) = &rules.unused_for {
        leaving.extend(results.unused(unused));
    }
    named.extend(results.named());
    let plan = survey.plan(&named, &HashSet::new(), rules.grace);
    let collected = collected(&leaving, &plan);
    if doing == Doing::Collect {
        for result in leaving {
            store.remove_place(&result.place).await?;
        }
        store.carry_out(plan).await?;
    }
    Ok(collected)
}

/// Makes room now: results of compiles go, the longest unused first, until `bytes` are free; those that may be in use at this
/// moment stay. Their blobs do not pass through the trash: a full volume cannot wait, and a compile that loses its result is
/// compiled again.
///
/// # Errors
/// As [`pass`].
pub async fn make_room(store: &Store, rules: &Rules, bytes: u64) -> Result<Collected, Error> {
    let survey = store.survey().await?;
    let mut named = named_by_images(store).await?;
    named.extend(&rules.in_use);
    let mut results = results::Results::read(store).await?;
    let leaving = results.for_room(bytes);
    named.extend(results.named());
    let given_up: HashSet<Digest> = (leaving.iter())
        .flat_map(|result| result.blobs.iter().map(|blob| blob.digest))
        .filter(|digest| !named.contains(digest))
        .collect();
    let plan = survey.plan(&named, &given_up, rules.grace);
    let collected = collected(&leaving, &plan);
    for result in leaving {
        store.remove_place(&result.place).await?;
    }
    store.carry_out(plan).await?;
    Ok(collected)
}

fn collected(leaving: &[crate::compile::StoredResult], plan: &Plan) -> Collected {
    Collected {
        results: Sum {
            blobs: leaving.len() as u64,
            bytes: leaving.iter().map(crate::compile::StoredResult::size).sum(),
        },
        aside: plan.aside(),
        back: plan.back(),
        gone: plan.gone(),
    }
}

/// What images of all tenants and held bases name, those in quarantine too: somebody may bring these back.
async fn named_by_images(store: &Store) -> Result<HashSet<Digest>, Error> {
    let mut named = HashSet::new();
    for mut built in [
        store.every_ref::<Image>(RefKind::Image).boxed(),
        store.every_quarantined_ref(RefKind::Image).boxed(),
    ] {
        while let Some(read) = built.try_next().await? {
            named.extend(sound(read)?.digests());
        }
    }
    for mut held in [
        store.every_ref::<HeldImage>(RefKind::Held).boxed(),
        store.every_quarantined_ref(RefKind::Held).boxed(),
    ] {
        while let Some(read) = held.try_next().await? {
            named.extend(sound(read)?.blobs().map(|blob| blob.digest));
        }
    }
    Ok(named)
}

fn sound<T>(read: Read<T>) -> Result<T, Error> {
    match read {
        Read::Ref { value, .. } => Ok(value),
        Read::Damaged { place, reason } | Read::Strange { place, reason } => {
            Err(Error::Unreadable {
                record: place.to_string(),
                reason,
            })
        }
    }
}

#[cfg(test)]
mod tests;
