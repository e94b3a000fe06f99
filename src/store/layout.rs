//! The marker of the layout: `layout.json`, `{"layout": 1}`. The store writes it when it is first opened, and refuses what a
//! later Peitho wrote: half-understood, that would be lost.

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::Path;

use object_store::path::Path as Key;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde::{Deserialize, Serialize};

use super::{Error, Store, volume};

/// The marker's name.
const NAME: &str = "layout.json";

/// What this Peitho writes, and the newest that it reads. A store without marker is of this one: it came first.
const LAYOUT: u32 = 1;

/// As much of a marker that is none is shown.
const LONGEST_SHOWN: usize = 80;

#[derive(Serialize, Deserialize)]
struct Marker {
    layout: u32,
}

/// Refuses a directory of a layout that is not known, before anything in it is made or swept: what is half-written to this
/// Peitho may be whole to the later one.
pub(super) async fn check_directory(directory: &Path) -> Result<(), Error> {
    let marker = directory.join(NAME);
    match volume::blocking(move || std::fs::read(marker)).await {
        Ok(found) => check(&found, || directory.display().to_string()),
        // What is no directory is told by who makes one.
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => Ok(()),
        Err(e) => Err(Error::of(directory, "reading", &directory.join(NAME), 0, e)),
    }
}

fn check(marker: &[u8], place: impl Fn() -> String) -> Result<(), Error> {
    match serde_json::from_slice::<Marker>(marker) {
        Ok(Marker { layout }) if layout <= LAYOUT => Ok(()),
        _ => {
            let text = String::from_utf8_lossy(marker);
            Err(Error::Layout {
                place: place(),
                found: text.trim().chars().take(LONGEST_SHOWN).collect(),
                known: LAYOUT,
            })
        }
    }
}

impl Store {
    /// Whether there is a mark: nobody has opened it before, where there is none.
    pub(super) async fn is_marked(&self) -> Result<bool, Error> {
        Ok(self.document(&Key::from(NAME)).await?.is_some())
    }

    /// Refuses a layout that is not known, and marks a store that has no mark.
    pub(super) async fn agree_on_layout(&self) -> Result<(), Error> {
        let key = Key::from(NAME);
        let Some(found) = self.document(&key).await? else {
            return self.mark(&key).await;
        };
        check(&found, || self.place())
    }

    /// Two who do this at once write the same.
    async fn mark(&self, key: &Key) -> Result<(), Error> {
        let marker = serde_json::to_vec(&Marker { layout: LAYOUT })
            .map_err(|e| self.io("writing", key, 0, e.into()))?;
        let bytes = marker.len() as u64;
        let put = self.0.objects.put(key, PutPayload::from(marker)).await;
        match put.map_err(|e| self.failed("writing", key, bytes, e)) {
            // A full volume is opened too, for reading.
            Err(Error::Full { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
