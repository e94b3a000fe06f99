//! How files are called and how long they get.

use super::{read, sources};

/// Where the rules hold.
const FOLDERS: [&str; 3] = ["src", "testbed/src", "tests"];

/// Files of more than 500 lines, each with the reason why it is not split.
const LONG_FILES: &[(&str, &str)] = &[];

const LONG: usize = 500;

#[test]
fn files_are_called_after_what_they_hold() {
    for folder in FOLDERS {
        for file in sources(folder) {
            let name = file.rsplit('/').next().unwrap();
            let vague = [
                "mod.rs",
                "util.rs",
                "utils.rs",
                "helpers.rs",
                "common.rs",
                "misc.rs",
            ];
            assert!(!vague.contains(&name), "{file}: name the concept instead");
        }
    }
}

#[test]
fn no_file_is_long_without_a_reason() {
    for folder in FOLDERS {
        for file in sources(folder) {
            let lines = read(&file).lines().count();
            let excused = LONG_FILES.iter().any(|(long, _)| *long == file);
            assert!(
                excused || lines <= LONG,
                "{file} has {lines} lines: split it, or say why not"
            );
            assert!(
                !excused || lines > LONG,
                "{file} has {lines} lines, and needs no excuse any more"
            );
        }
    }
}

#[test]
fn the_program_starts_in_a_few_lines() {
    assert!(read("src/main.rs").lines().count() <= 60);
}
