//! The parsers that strangers reach, fed with the corpora of the fuzz targets and with what proptest makes of them. The same
//! properties as in `fuzz/`, which takes the time that a test does not have.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

#[path = "../../fuzz/properties.rs"]
mod properties;

/// How many inputs are made for each parser.
const CASES: u32 = 2000;

/// Pieces that mean something to one parser or another.
const WORDS: [&[u8]; 24] = [
    b"/",
    b"..",
    b"/t/org1-peer0",
    b"/v1.44",
    b"?",
    b"&",
    b"=",
    b"%00",
    b"%2e",
    b"\0",
    b"\"",
    b"\\",
    b"\n",
    b"\r\n",
    b"#",
    b"$",
    b"ENV ",
    b"LABEL ",
    b"FROM ",
    b"null",
    b"{}",
    b"[]",
    b"@sha256:",
    b"\x1f\x8b",
];

/// One step from an input to another.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Insert(Index, usize),
    Cut(Index, Index),
    Repeat(Index, Index),
    Raw(Index, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 1..=u8::MAX).prop_map(|(index, bits)| Change::Flip(index, bits)),
        (at(), 0..WORDS.len()).prop_map(|(index, word)| Change::Insert(index, word)),
        (at(), at()).prop_map(|(from, to)| Change::Cut(from, to)),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (at(), proptest::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(index, bytes)| Change::Raw(index, bytes)),
    ]
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        let end = data.len() + 1;
        let range = |from: &Index, to: &Index| {
            let (from, to) = (from.index(end), to.index(end));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Flip(index, bits) if !data.is_empty() => {
                let at = index.index(data.len());
                data[at] ^= bits;
            }
            Self::Flip(..) => {}
            Self::Insert(index, word) => {
                let at = index.index(end);
                data.splice(at..at, WORDS[*word].iter().copied());
            }
            Self::Cut(from, to) => drop(data.drain(range(from, to))),
            Self::Repeat(from, to) => {
                let part = data[range(from, to)].to_vec();
                data.extend(part);
            }
            Self::Raw(index, bytes) => {
                let at = index.index(end);
                data.splice(at..at, bytes.iter().copied());
            }
        }
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

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
        let corpus = corpus(name);
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        };
        let changes = proptest::collection::vec(change(), 0..8);
        let inputs = (0..corpus.len(), changes).prop_map(|(index, changes)| {
            let mut data = corpus[index].clone();
            changes.iter().for_each(|change| change.apply(&mut data));
            data
        });
        let run = TestRunner::new(config).run(&inputs, |data| {
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
