//! Layers that were just made. Peers that install the same package send the same body, often at the same moment (design D7), and what becomes of
//! it depends on its bytes alone: so it is read and compressed once for all of them. `image` asks with a body's digest.
//!
//! It is remembered for a while only: an install that is done again later writes its layer anew, which mends one that has rotted
//! since.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::dockerfile::Dockerfile;
use crate::image_spec::Layer;
use crate::names::Digest;
use crate::store::{self, Store};

/// For how long: peers of one channel install within minutes.
const A_WHILE: Duration = Duration::from_secs(10 * 60);

/// Bodies that are remembered at the most.
const MOST: usize = 16;

/// Layers with more than so many things at their top are made each time: they would take memory, and nobody's chaincode has them.
const MOST_ENTRIES: usize = 1_000;

/// What became of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) dockerfile: Dockerfile,
    /// The digest of its `binpackage.tar`.
    pub(super) output: Digest,
    /// In the store.
    pub(super) layer: Layer,
}

/// What is remembered; clones share it.
#[derive(Clone)]
pub(super) struct Recent {
    slots: Arc<Mutex<VecDeque<(Digest, Slot)>>>,
    a_while: Duration,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            slots: Arc::default(),
            a_while: A_WHILE,
        }
    }
}

/// Locked by whoever makes it: others wait for him, and do it themselves where he fails.
type Slot = Arc<tokio::sync::Mutex<Option<(Made, Instant)>>>;

impl Recent {
    /// What became of the `body`, of which the store has all: what is remembered, or what `make` gives, beside something of its own.
    ///
    /// # Errors
    /// Those of `make`, and of the store.
    pub(super) async fn made<T, E: From<store::Error>>(
        &self,
        body: Digest,
        store: &Store,
        make: impl AsyncFnOnce() -> Result<(Made, T), E>,
    ) -> Result<(Made, Option<T>), E> {
        let slot = self.slot(body);
        let mut slot = slot.lock().await;
        if let Some((made, since)) = slot.as_ref()
            && since.elapsed() < self.a_while
            && store.holds(&made.layer.blob).await?
        {
            return Ok((made.clone(), None));
        }
        *slot = None;
        let (made, beside) = make().await?;
        if made.layer.entries.len() <= MOST_ENTRIES {
            *slot = Some((made.clone(), Instant::now()));
        }
        Ok((made, Some(beside)))
    }

    fn slot(&self, body: Digest) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = slots.iter().find(|(digest, _)| *digest == body) {
            return Arc::clone(slot);
        }
        // Who still works with one has it for himself then.
        slots.truncate(MOST - 1);
        let slot = Slot::default();
        slots.push_front((body, Arc::clone(&slot)));
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::image::fixtures::Scratch;
    use crate::store::Blob;

    struct World {
        scratch: Scratch,
        recent: Recent,
        /// How often a layer was made.
        count: AtomicUsize,
    }

    impl World {
        async fn new() -> Self {
            let (recent, count) = (Recent::default(), AtomicUsize::new(0));
            let scratch = Scratch::new().await;
            Self {
                scratch,
                recent,
                count,
            }
        }

        async fn layer(&self) -> Blob {
            let ingest = self.scratch.filled(b"layer").await;
            self.scratch.store.commit(ingest).await.unwrap()
        }

        async fn made(&self, body: &[u8]) -> Made {
            let make = async || {
                self.count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, store::Error>((made_of(self.layer().await), ()))
            };
            let (recent, store) = (&self.recent, &self.scratch.store);
            let made = recent.made(Digest::of(body), store, make).await;
            made.unwrap().0
        }

        fn count(&self) -> usize {
            self.count.load(Ordering::Relaxed)
        }
    }

    fn made_of(blob: Blob) -> Made {
        Made {
            dockerfile: super::super::dockerfile::parse(
                "FROM a\nADD binpackage.tar /usr/local/bin",
            )
            .unwrap(),
            output: Digest::of(b"output"),
            layer: Layer {
                blob,
                diff_id: Digest::of(b"diff"),
                destination: "/usr/local/bin".to_owned(),
                entries: Vec::new(),
            },
        }
    }

    #[tokio::test]
    async fn one_body_is_made_once_for_all_who_bring_it() {
        let world = World::new().await;
        let (one, other, third) =
            tokio::join!(world.made(b"a"), world.made(b"a"), world.made(b"b"));
        assert_eq!((&one, &one), (&other, &third));
        assert_eq!(world.count(), 2);
        world.made(b"a").await;
        assert_eq!(world.count(), 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let world = World::new().await;
        let full = store::Error::Full {
            path: "volume".into(),
            bytes: 1,
        };
        let fails = async || Err::<(Made, ()), _>(full);
        let (recent, store) = (&world.recent, &world.scratch.store);
        let failed = recent.made(Digest::of(b"a"), store, fails);
        assert!(failed.await.is_err());
        world.made(b"a").await;
        assert_eq!(world.count(), 1);
    }

    #[tokio::test]
    async fn it_is_made_anew_after_a_while() {
        let mut world = World::new().await;
        world.recent.a_while = Duration::ZERO;
        for count in 1..3 {
            world.made(b"a").await;
            assert_eq!(world.count(), count);
        }
    }

    #[tokio::test]
    async fn it_is_made_anew_when_the_store_found_it_damaged() {
        let world = World::new().await;
        let made = world.made(b"a").await;
        let (store, digest) = (&world.scratch.store, made.layer.blob.digest);
        let blobs = world.scratch.directory.path().join("blobs/sha256");
        std::fs::write(blobs.join(digest.hex()), b"rotten").unwrap();
        assert!(store.quarantine_blob(&digest).await.unwrap().is_some());
        world.made(b"a").await;
        assert_eq!(world.count(), 2);
        let held = store.holds(&made.layer.blob).await;
        assert!(held.unwrap());
    }

    #[tokio::test]
    async fn the_longest_forgotten_give_way() {
        let world = World::new().await;
        for body in 0..=MOST {
            world.made(&body.to_be_bytes()).await;
        }
        world.made(&MOST.to_be_bytes()).await;
        assert_eq!(world.count(), MOST + 1);
        world.made(&0_usize.to_be_bytes()).await;
        assert_eq!(world.count(), MOST + 2);
    }
}
