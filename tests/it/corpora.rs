//! The parsers that strangers reach, fed with the corpora of the fuzz targets and with what proptest makes of them. The same
//! properties as in `fuzz/`, which takes the time that a test does not have.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::mutation::{corpus, inputs};

#[path = "../../fuzz/properties.rs"]
mod properties;

/// How many inputs are made for each parser.
const CASES: u32 = 2000;

#[test]
fn parsers_hold_on_their_corpora() {
    for (name, property) in properties::ALL {
        let corpus = corpus(name);
        assert!(corpus.len() > 5, "{name}: the corpus is lost");
        corpus.iter().for_each(|input| property(input));
    }
}

#[test]
fn parsers_hold_on_what_is_made_of_their_corpora() {
    for (name, property) in properties::ALL {
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        };
        let run = TestRunner::new(config).run(&inputs(corpus(name)), |data| {
            property(&data);
            Ok(())
        });
        if let Err(error) = run {
            panic!("{name}: {error}");
        }
    }
}

/// Names that are taken, rarely found by chance.
#[test]
fn names_that_are_taken_mean_the_same_again() {
    proptest!(Config::with_cases(CASES), |(name in "([a-z0-9.-]{1,9}(:[0-9]{1,5})?/)?[a-z0-9._/-]{1,20}(:[A-Za-z0-9._-]{1,9})?(@sha256:[0-9a-f]{64})?")| {
        properties::name(name.as_bytes());
    });
}
