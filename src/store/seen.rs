//! What an object was when it was read. Who decides by what it read and acts later looks again, and leaves alone what was
//! written anew meanwhile: that is not what the decision was about. Between the last look and the act there is one request, and
//! no longer time, as there may be hours between a list and its end. A move in a bucket is two acts, a copy and a deletion, with a
//! look before each.

use object_store::ObjectMeta;
use object_store::path::Path as Key;

use super::{Error, Store};

/// One state of an object. In a bucket a tag tells contents apart, so the second in which it was written counts too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    tag: Option<String>,
    written: i64,
}

impl Seen {
    pub(super) fn of(object: &ObjectMeta) -> Self {
        Self {
            tag: object.e_tag.clone(),
            written: object.last_modified.timestamp(),
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Same,
    WrittenAgain,
    Gone,
}

impl Store {
    /// What became of the object that was `seen`.
    pub(super) async fn since(&self, key: &Key, seen: &Seen) -> Result<Since, Error> {
        let now = self.look(key).await;
        let now = now.map_err(|e| self.failed("reading", key, 0, e))?;
        Ok(match now {
            None => Since::Gone,
            Some(now) if Seen::of(&now) == *seen => Since::Same,
            Some(_) => Since::WrittenAgain,
        })
    }
}
