//! Layers of any kind, compared with the words of the specification.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::layer::listing;
use super::*;

/// What a layer does to one path.
#[derive(Clone, Debug)]
enum Step {
    File,
    Directory,
    WhiteOut,
    Opaque,
}

/// The same by the words of the specification: lower layers first lose what is hidden, then gain what is brought.
fn model(tree: &mut BTreeMap<String, Option<String>>, layer: &[(String, Step)], number: usize) {
    let below = |path: &str, above: &str| path.starts_with(&format!("{above}/"));
    for (path, step) in layer {
        match step {
            Step::WhiteOut => tree.retain(|known, _| known != path && !below(known, path)),
            Step::Opaque => tree.retain(|known, _| !below(known, path)),
            _ => {}
        }
    }
    for (path, step) in layer {
        let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        match step {
            Step::File => {
                tree.retain(|known, _| !below(known, path));
                tree.extend(parents.map(|parent| (parent, None)));
                tree.insert(path.clone(), Some(number.to_string()));
            }
            Step::Directory => {
                tree.extend(parents.map(|parent| (parent, None)));
                tree.insert(path.clone(), None);
            }
            _ => {}
        }
    }
}

/// One layer: each path once; a file only where no other member of the layer lies below it.
fn layer() -> impl Strategy<Value = Vec<(String, Step)>> {
    let step = prop_oneof![
        3 => Just(Step::File),
        2 => Just(Step::Directory),
        1 => Just(Step::WhiteOut),
        1 => Just(Step::Opaque),
    ];
    prop::collection::btree_map("[a-b](/[a-b]){0,3}", step, 1..6)
        .prop_map(|steps| {
            let paths: Vec<_> = steps.keys().cloned().collect();
            let above = |path: &str| {
                let other = |p: &String| p.starts_with(&format!("{path}/"));
                paths.iter().any(other)
            };
            let steps = steps.into_iter();
            steps
                .map(|(path, step)| match step {
                    Step::File if above(&path) => (path, Step::Directory),
                    step => (path, step),
                })
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn layers_do_what_the_specification_says(layers in prop::collection::vec(layer(), 1..5)) {
        let into = tempfile::tempdir().unwrap();
        let mut tree = BTreeMap::new();
        for (number, steps) in layers.iter().enumerate() {
            let mut archive = ::tar::Builder::new(Vec::new());
            for (path, step) in steps {
                let content = number.to_string();
                let (name, kind, content) = match step {
                    Step::File => (path.clone(), EntryType::Regular, content.as_bytes()),
                    Step::Directory => (format!("{path}/"), EntryType::Directory, &b""[..]),
                    Step::Opaque => (format!("{path}/.wh..wh..opq"), EntryType::Regular, &b""[..]),
                    Step::WhiteOut => {
                        let (above, name) = path.rsplit_once('/').map_or(("", &**path), |(a, n)| (a, n));
                        (format!("{above}/.wh.{name}").trim_start_matches('/').to_owned(), EntryType::Regular, &b""[..])
                    }
                };
                let mut header = ::tar::Header::new_gnu();
                header.set_mode(0o755);
                header.set_entry_type(kind);
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, name, content).unwrap();
            }
            let bytes = archive.into_inner().unwrap();
            let applied = apply_layer(&bytes[..], Limits::default(), Owners::Dropped, into.path());
            // An implied directory does not take a lower file's place: told, and nothing more to compare.
            let implied_over_file = matches!(&applied, Err(Error::Member { reason, .. }) if reason.contains("a file stands"));
            prop_assume!(!implied_over_file);
            applied.unwrap();
            model(&mut tree, steps, number);
            let expected: Vec<_> = {
                let mut shown: Vec<_> = tree.iter().map(|(path, content)| match content {
                    Some(content) => format!("{path}={content}"),
                    None => format!("{path}/"),
                }).collect();
                shown.sort();
                shown
            };
            prop_assert_eq!(listing(into.path()), expected);
        }
    }
}
