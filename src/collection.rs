//! What stays in the store, and what goes (design D4): who asks each module above the store what its records name, and has the
//! rest collected. `serve` runs it beside the server, `cli` once by order. How blobs go without harm to who is about to name
//! them is `store`'s business; which container uses what is told by `serve`.
//!
//! | what | goes |
//! |---|---|
//! | built images, and bases held whole | by order alone: a peer believes for its whole life that what it built exists |
//! | results of compiles | the longest unused first, beyond `store.compileResults`, or when the volume is nearly full |
//! | compilers' caches | the longest unused first, beyond `store.compileCaches`, or when the volume is nearly full: before results |
//! | blobs that nothing names | after two passes, `store.collectEverySeconds` apart |
//! | what is damaged | never: it is moved to `quarantine/` and told |

mod caches;
mod check;
mod going;
mod results;
mod service;

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{StreamExt as _, TryStreamExt as _};

use self::caches::{Cache, Caches};
pub use self::check::{Depth, Findings, check};
use self::going::Going;
use self::results::Results;
pub use self::service::Service;
use crate::image::Image;
use crate::names::{Digest, ImageName, Tenant};
use crate::registry::HeldImage;
use crate::store::{self, Place, Plan, Read, RefKind, Store, Sum, Survey};

/// Why a collection did not come to its end.
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
    /// Bytes that compilers' caches may have altogether.
    pub caches: u64,
    /// Caches that were not used for so long go in any case.
    pub wiped: Option<Old>,
    /// Results that were not used for so long go in any case.
    pub unused: Option<Old>,
    /// Images that were built so long ago go, by explicit order alone: peers believe that they are there (protocol rule 5).
    pub built: Option<Old>,
    /// What is needed beside the records: what containers were made of.
    pub in_use: HashSet<Digest>,
}

/// What goes by order.
#[derive(Clone, Debug)]
pub struct Old {
    /// It is at least so old.
    pub than: Duration,
    /// Of this tenant alone.
    pub tenant: Option<Tenant>,
}

impl Old {
    /// Whether it is meant; by the time of the record, and not where another clock dated that into the future.
    fn fits(&self, place: &Place, now: i64) -> bool {
        let age = u64::try_from(now.saturating_sub(place.written)).unwrap_or_default();
        let tenant = self.tenant.as_ref();
        age >= self.than.as_secs()
            && tenant.is_none_or(|tenant| place.tenant.as_ref() == Some(tenant))
    }
}

/// What a pass did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Images that are no more: tenant and name.
    pub images: Vec<(Tenant, ImageName)>,
    /// Results of compiles that are no more.
    pub results: Sum,
    /// Parts of compilers' caches that are no more.
    pub caches: Sum,
    /// Blobs that nothing names, moved to the trash.
    pub aside: Sum,
    /// Blobs that something names after all, brought back from there.
    pub back: Sum,
    /// Blobs that were deleted.
    pub gone: Sum,
}

impl Collected {
    /// That this is done with blobs.
    fn plans(&mut self, plan: &Plan) {
        (self.aside, self.back, self.gone) = (plan.aside(), plan.back(), plan.gone());
    }
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
    let mut done = Collected::default();
    pass_telling(store, rules, doing, &mut done).await?;
    Ok(done)
}

/// The same, where `done` tells after an error too which records are gone; of their blobs, what was to be done.
///
/// # Errors
/// As [`pass`].
pub async fn pass_telling(
    store: &Store,
    rules: &Rules,
    doing: Doing,
    done: &mut Collected,
) -> Result<(), Error> {
    // First: what comes later than the survey is not touched by what is decided here.
    let survey = store.survey().await?;
    let Images {
        mut named,
        leaving: images,
    } = Images::read(store, rules.built.as_ref()).await?;
    named.extend(&rules.in_use);
    let mut results = Results::read(store).await?;
    let mut leaving = results.damaged();
    leaving.extend(results.beyond(rules.results));
    if let Some(unused) = &rules.unused {
        leaving.extend(results.unused(unused));
    }
    named.extend(results.named());
    let mut caches = Caches::read(store).await?;
    let mut cold = caches.beyond(rules.caches);
    if let Some(wiped) = &rules.wiped {
        cold.extend(caches.wiped(wiped));
    }
    named.extend(caches.named());
    let going = Going {
        images,
        results: leaving,
        increments: caches::increments(cold),
    };
    let (gone, ended) = match doing {
        Doing::Tell => (going, Ok(())),
        Doing::Collect => going.remove(store, &mut named).await,
    };
    *done = gone.told();
    ended?;
    let plan = survey.plan(&named, &HashSet::new(), rules.grace);
    done.plans(&plan);
    if doing == Doing::Collect {
        store.carry_out(plan).await?;
    }
    Ok(())
}

/// Makes room now: compilers' caches go, then results of compiles, the longest unused first, until `bytes` are free; results that may
/// be in use at this moment stay. Their blobs do not pass through the trash: a full volume cannot wait, and a compile that loses its
/// result is compiled again.
///
/// # Errors
/// As [`pass`].
pub async fn make_room(store: &Store, rules: &Rules, bytes: u64) -> Result<Collected, Error> {
    let survey = store.survey().await?;
    let mut named = Images::read(store, None).await?.named;
    named.extend(&rules.in_use);
    let mut caches = Caches::read(store).await?;
    let cold = caches.for_room(bytes);
    named.extend(caches.named());
    let mut results = Results::read(store).await?;
    let freed: u64 = cold.iter().map(Cache::size).sum();
    let leaving = results.for_room(bytes.saturating_sub(freed));
    named.extend(results.named());
    let going = Going {
        results: leaving,
        increments: caches::increments(cold),
        ..Going::default()
    };
    give_up(store, survey, named, going, rules).await
}

/// Whether compilers' caches are more than `limit` bytes.
///
/// # Errors
/// When the store cannot be read.
async fn caches_exceed(store: &Store, limit: u64) -> Result<bool, store::Error> {
    Ok(Caches::read(store).await?.excess(limit) > 0)
}

/// Holds compilers' caches to their limit now: the longest unused go, as by [`make_room`], and no results do.
///
/// # Errors
/// As [`pass`].
pub async fn hold_caches(store: &Store, rules: &Rules) -> Result<Collected, Error> {
    let survey = store.survey().await?;
    let mut caches = Caches::read(store).await?;
    let cold = caches.beyond(rules.caches);
    if cold.is_empty() {
        return Ok(Collected::default());
    }
    let mut named = Images::read(store, None).await?.named;
    named.extend(&rules.in_use);
    named.extend(caches.named());
    named.extend(Results::read(store).await?.named());
    let going = Going {
        increments: caches::increments(cold),
        ..Going::default()
    };
    give_up(store, survey, named, going, rules).await
}

/// Removes what is `going`, and at once what only that named.
async fn give_up(
    store: &Store,
    survey: Survey,
    mut named: HashSet<Digest>,
    going: Going,
    rules: &Rules,
) -> Result<Collected, Error> {
    let (gone, ended) = going.remove(store, &mut named).await;
    ended?;
    let given_up = gone.digests().filter(|digest| !named.contains(digest));
    let plan = survey.plan(&named, &given_up.collect(), rules.grace);
    let mut done = gone.told();
    done.plans(&plan);
    store.carry_out(plan).await?;
    Ok(done)
}

/// Images of all tenants and held bases.
#[derive(Default)]
struct Images {
    /// What they name, those in quarantine too: somebody may bring these back.
    named: HashSet<Digest>,
    /// Those that go.
    leaving: Vec<(Place, Image)>,
}

impl Images {
    async fn read(store: &Store, leaving: Option<&Old>) -> Result<Self, Error> {
        let now = now();
        let mut images = Self::default();
        let mut built = store.every_ref::<Image>(RefKind::Image).boxed();
        while let Some(read) = built.try_next().await? {
            let (place, image) = sound(read)?;
            match leaving {
                Some(old) if old.fits(&place, now) => images.leaving.push((place, image)),
                _ => images.named.extend(image.digests()),
            }
        }
        let mut built = store.every_quarantined_ref::<Image>(RefKind::Image).boxed();
        while let Some(read) = built.try_next().await? {
            images.named.extend(sound(read)?.1.digests());
        }
        for mut held in [
            store.every_ref::<HeldImage>(RefKind::Held).boxed(),
            store.every_quarantined_ref(RefKind::Held).boxed(),
        ] {
            while let Some(read) = held.try_next().await? {
                let (_, image) = sound(read)?;
                images.named.extend(image.blobs().map(|blob| blob.digest));
            }
        }
        Ok(images)
    }
}

fn sound<T>(read: Read<T>) -> Result<(Place, T), Error> {
    match read {
        Read::Ref { place, value, .. } => Ok((place, value)),
        Read::Damaged { place, reason }
        | Read::Unread { place, reason }
        | Read::Strange { place, reason } => Err(Error::Unreadable {
            record: place.to_string(),
            reason,
        }),
    }
}

/// Seconds since the Unix epoch.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
