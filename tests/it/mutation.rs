//! Inputs that are nearly sound, made of those in `fuzz/corpus`: what is far from sound never gets far.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

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

/// The inputs of a folder of `fuzz/corpus`, in order.
pub(crate) fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The inputs of a corpus with up to seven changes.
pub(crate) fn inputs(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec(change(), 0..8);
    (0..corpus.len(), changes).prop_map(move |(index, changes)| {
        let mut data = corpus[index].clone();
        changes.iter().for_each(|change| change.apply(&mut data));
        data
    })
}
