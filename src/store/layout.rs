//! The marker of the layout: `layout.json`, `{"layout": 1}`. The store writes it when it is first opened, and refuses what a
//! later Peitho wrote: half-understood, that would be lost.

use object_store::path::Path as Key;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde::{Deserialize, Serialize};

use super::{Error, Store};

/// What this Peitho writes, and the newest that it reads. A store without marker is of this one: it came first.
const LAYOUT: u32 = 1;

/// As much of a marker that is none is shown.
const LONGEST_SHOWN: usize = 80;

#[derive(Serialize, Deserialize)]
struct Marker {
    layout: u32,
}

impl Store {
    /// Refuses a layout that is not known, and marks a store that has no mark.
    pub(super) async fn agree_on_layout(&self) -> Result<(), Error> {
        let key = Key::from("layout.json");
        let Some(found) = self.document(&key).await? else {
            return self.mark(&key).await;
        };
        match serde_json::from_slice::<Marker>(&found) {
            Ok(Marker { layout }) if layout <= LAYOUT => Ok(()),
            _ => {
                let text = String::from_utf8_lossy(&found);
                Err(Error::Layout {
                    place: self.place(),
                    found: text.trim().chars().take(LONGEST_SHOWN).collect(),
                    known: LAYOUT,
                })
            }
        }
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
