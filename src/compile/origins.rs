//! Which builder made which output, for as long as it takes from a compile to its build: the body of a `/build` holds the output
//! verbatim and says nothing of where it comes from. `compile` notes it, `image` asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::image_spec::Builder;
use crate::names::Digest;

/// A peer builds seconds after its compile; so many compiles between the two are far more than run at once.
const MOST: usize = 1024;

/// What is remembered; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<Mutex<VecDeque<(Digest, Builder)>>>);

impl Origins {
    /// `builder` made `output`.
    pub fn note(&self, output: Digest, builder: Builder) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _)| *other != output);
        if known.len() >= MOST {
            known.pop_front();
        }
        known.push_back((output, builder));
    }

    /// What made the output with this digest; the last one, where several made the same.
    pub fn of(&self, output: &Digest) -> Option<Builder> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(other, _)| other == output);
        found.map(|(_, builder)| builder.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let origins = Origins::default();
        let builder = |text: &str| Builder {
            name: text.parse().unwrap(),
            digest: Digest::of(text.as_bytes()),
        };
        let output = |number: usize| Digest::of(&number.to_be_bytes());
        for number in 0..=MOST {
            origins.note(output(number), builder("ccenv:1"));
        }
        origins.note(output(7), builder("ccenv:2"));
        assert_eq!(origins.of(&output(0)), None);
        assert_eq!(origins.of(&output(1)), Some(builder("ccenv:1")));
        assert_eq!(origins.of(&output(7)), Some(builder("ccenv:2")));
    }
}
