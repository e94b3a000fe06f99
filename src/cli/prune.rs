//! `peitho prune`: collection by order, now, and images that nobody needs any more.

use std::collections::HashSet;
use std::time::Duration;

use clap::{ArgGroup, Args};
use jiff::{Span, SpanRelativeTo};

use super::images::existing_store;
use super::{Sources, print, shown};
use crate::collection::{self, Collected, Doing, Old, Rules, pass, pass_telling};
use crate::config::Config;
use crate::names::Tenant;
use crate::store::{Alone, Store, Sum};

/// Said wherever images go.
const WARNING: &str = "a peer of Fabric 2 believes that what it built is there: before it launches such a chaincode again, restart it and install the package again";

pub(super) const EXAMPLES: &str = "\
Examples:
  peitho prune --dry-run                     what would go?
  peitho prune                               what nothing needs any more
  peitho prune --older-than 7d               and results of compiles that were not used for a week
  peitho prune --caches                      and all that compilers keep from one compile to the next
  peitho prune --images --older-than 90d --tenant org1 --dry-run

With a running server, and in a bucket always, records go at once, and what only they needed goes by the next two collections of
a server, which knows what its containers were made of. Images that containers run from are not spared by --images: the containers
go on, and cannot be launched again.";

/// What is to go.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("meant").args(["older_than", "caches"]).multiple(true)))]
pub struct Prune {
    /// Tell what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Results of compiles that were not used for so long go too, and with --images what was built so long ago: 36h, 30d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Only this tenant's results, images and caches go by age or order
    #[arg(long, value_name = "NAME", requires = "meant")]
    tenant: Option<Tenant>,
    /// Wipe the caches of compilers; with --older-than those that were not used for so long. The next compile takes longer
    #[arg(long)]
    caches: bool,
    /// Remove images, not only what nothing needs. Peers go on to believe that they are there
    #[arg(long, requires = "older_than")]
    images: bool,
    /// Where the store is.
    #[command(flatten)]
    sources: Sources,
}

/// A span of hours, days or weeks; a day has 24 hours.
fn duration(text: &str) -> Result<Duration, String> {
    let accepted = || format!("{text:?} is no duration such as 36h, 30d or 2w");
    let span: Span = text.parse().map_err(|_| accepted())?;
    let exact = span.to_duration(SpanRelativeTo::days_are_24_hours());
    Duration::try_from(exact.map_err(|_| accepted())?).map_err(|_| accepted())
}

impl Prune {
    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Collects, and tells what went.
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let store = existing_store(config).await?;
        let old = self.older_than.map(|than| Old {
            than,
            tenant: self.tenant.clone(),
        });
        let wiped = self.caches.then(|| Old {
            than: self.older_than.unwrap_or(Duration::ZERO),
            tenant: self.tenant.clone(),
        });
        let alone = store.keep_alone().await?;
        let rules = |grace| Rules {
            grace,
            results: config.store.compile_result_bytes(),
            caches: config.store.compile_cache_bytes(),
            wiped: wiped.clone(),
            built: old.clone().filter(|_| self.images),
            unused: old.clone(),
            in_use: HashSet::new(),
        };
        let all = rules(Duration::ZERO);
        let mut going = pass(&store, &all, Doing::Tell).await?;
        if !self.dry_run {
            let mut gone = Collected::default();
            let collected = match alone {
                Alone::Yes => collect_all(&store, &all, &mut gone).await,
                // Records alone: of the blobs a server knows what its containers use.
                Alone::No => {
                    let records = rules(Duration::MAX);
                    pass_telling(&store, &records, Doing::Collect, &mut gone).await
                }
            };
            if let Err(error) = collected {
                // Peers believe in what went, and nobody else tells.
                if !gone.images.is_empty() || gone.results.blobs + gone.caches.blobs > 0 {
                    print(&told_before_an_error(&gone));
                }
                return Err(error.into());
            }
            if alone == Alone::No {
                (going.images, going.results) = (gone.images, gone.results);
                going.caches = gone.caches;
            }
        }
        let doing = match self.dry_run {
            true => Doing::Tell,
            false => Doing::Collect,
        };
        let blobs = match (alone, config.store.bucket()) {
            (Alone::Yes, _) => Blobs::WithRecords,
            (Alone::No, None) => Blobs::BesideOthers,
            (Alone::No, Some(_)) => Blobs::InBucket,
        };
        print(&told(&going, doing, blobs));
        Ok(())
    }
}

/// All that `rules` let go. `gone` has it, also after an error.
async fn collect_all(
    store: &Store,
    rules: &Rules,
    gone: &mut Collected,
) -> Result<(), collection::Error> {
    pass_telling(store, rules, Doing::Collect, gone).await?;
    // Deletes what the first one moved to the trash.
    pass(store, rules, Doing::Collect).await.map(drop)
}

/// When blobs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blobs {
    /// At once: nobody else has the store open.
    WithRecords,
    /// Somebody has.
    BesideOthers,
    /// Nobody can tell.
    InBucket,
}

/// Those that go, a line for each.
fn images(going: &Collected) -> Vec<String> {
    let images = going.images.iter();
    images
        .map(|(tenant, image)| format!("image {image} of the tenant {tenant}"))
        .collect()
}

/// Results and caches that go.
fn records(going: &Collected) -> [String; 2] {
    [
        format!("results of compiles: {}", counted(going.results)),
        format!("parts of compilers' caches: {}", counted(going.caches)),
    ]
}

fn counted(sum: Sum) -> String {
    format!("{}, {}", sum.blobs, shown(sum.bytes))
}

fn told_before_an_error(gone: &Collected) -> String {
    let mut lines = images(gone);
    lines.extend(records(gone));
    lines.push("this much is gone; then an error ended it, and the same command does the rest once that is mended".to_owned());
    if !gone.images.is_empty() {
        lines.push(format!("note: {WARNING}"));
    }
    lines.join("\n") + "\n"
}

fn told(going: &Collected, doing: Doing, when: Blobs) -> String {
    let mut lines = images(going);
    lines.extend(records(going));
    let blobs = Sum {
        blobs: going.aside.blobs + going.gone.blobs,
        bytes: going.aside.bytes + going.gone.bytes,
    };
    let which = match when {
        Blobs::WithRecords => "that nothing needs",
        // What containers and installs need is among them.
        Blobs::BesideOthers | Blobs::InBucket => "that no record names",
    };
    lines.push(format!("blobs {which}: {}", counted(blobs)));
    let verb = match doing {
        Doing::Tell => "would go",
        Doing::Collect => "are gone",
    };
    lines.push(match (when, doing) {
        (Blobs::WithRecords, Doing::Tell) => "all of this would go".to_owned(),
        (Blobs::WithRecords, Doing::Collect) => "all of this is gone".to_owned(),
        (Blobs::BesideOthers, _) => format!("records {verb}; of the blobs, those that no container and no install needs go by the next two collections of a server, since another process has the store open"),
        (Blobs::InBucket, _) => format!("records {verb}; of the blobs, those that no container and no install needs go by the next two collections of a server that uses the bucket, and without one they stay"),
    });
    if !going.images.is_empty() {
        lines.push(format!("note: {WARNING}"));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_in_hours_days_and_weeks() {
        let hours = |hours: u64| Ok(Duration::from_secs(hours * 3600));
        for (text, expected) in [
            ("36h", hours(36)),
            ("30d", hours(720)),
            ("2w", hours(336)),
            ("0s", hours(0)),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
        for text in ["", "30", "-1d", "1 month", "soon"] {
            let refused = duration(text).unwrap_err();
            assert!(refused.contains("36h"), "{refused}");
        }
    }
}
