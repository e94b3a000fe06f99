//! What registries answered a moment ago: bounded, in memory, by name.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Lookup;
use crate::names::ImageName;

/// A tag may move; the images of one Fabric release do not within minutes.
const FOUND: Duration = Duration::from_secs(5 * 60);
/// Spares every request of one install the wait for a registry that is out of reach.
const UNKNOWN: Duration = Duration::from_secs(30);
/// A network uses a handful of images; names come from clients.
const MOST: usize = 128;

#[derive(Default)]
pub(super) struct Known(HashMap<ImageName, (Instant, Lookup)>);

impl Known {
    pub(super) fn get(&self, name: &ImageName, now: Instant) -> Option<Lookup> {
        let (until, lookup) = self.0.get(name)?;
        (now < *until).then(|| lookup.clone())
    }

    /// Remembers an answer. A missing image is not remembered: it may be pushed the moment it is missed.
    pub(super) fn put(&mut self, name: &ImageName, lookup: &Lookup, now: Instant) {
        let life = match lookup {
            Lookup::Found(_) => FOUND,
            Lookup::Unknown(_) => UNKNOWN,
            Lookup::Missing(_) => {
                self.0.remove(name);
                return;
            }
        };
        self.0.retain(|_, (until, _)| now < *until);
        if self.0.len() >= MOST && !self.0.contains_key(name) {
            let first = self.0.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(name) = first.map(|(name, _)| name.clone()) {
                self.0.remove(&name);
            }
        }
        self.0.insert(name.clone(), (now + life, lookup.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ImageName {
        text.parse().unwrap()
    }

    #[test]
    fn answers_are_forgotten_after_their_time() {
        let now = Instant::now();
        let mut known = Known::default();
        known.put(&name("a"), &Lookup::Unknown("x".to_owned()), now);
        assert!(known.get(&name("a"), now + UNKNOWN / 2).is_some());
        assert!(known.get(&name("a"), now + UNKNOWN).is_none());
        known.put(&name("a"), &Lookup::Missing("x".to_owned()), now);
        assert!(known.get(&name("a"), now).is_none());
    }

    #[test]
    fn the_oldest_answer_makes_room() {
        let now = Instant::now();
        let mut known = Known::default();
        for i in 0..=MOST {
            let at = now + Duration::from_millis(i as u64);
            known.put(&name(&format!("i{i}")), &Lookup::Unknown(String::new()), at);
        }
        assert_eq!(known.0.len(), MOST);
        assert!(known.get(&name("i0"), now).is_none());
        assert!(known.get(&name("i1"), now).is_some());
    }
}
