//! The rules of the house, held by reading the code and the pages beside it: which module may use which, how
//! files are called and how long they get, that the pages name what exists, that the manifests fit the program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod files;
mod layers;
mod manifests;
mod pages;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All `.rs` files below `folder`, relative to the project.
fn sources(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root()).unwrap();
                found.insert(relative.to_str().unwrap().to_owned());
            }
        }
    }
    found
}
