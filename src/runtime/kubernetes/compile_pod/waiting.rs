//! The line for the shell that waits for the agent's program, in a real shell. What happens while it waits is done by the `sleep` that it finds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::WHEN_THERE;

/// Arguments that a shell would like to change.
const ARGUMENTS: [&str; 5] = ["agent", "a  b", "$x$(id)", "*", "--"];

struct Container {
    directory: TempDir,
}

impl Container {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `name`, which is `script` to the shell.
    fn has(&self, name: &str, script: &str) {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self) -> Output {
        let shell = Command::new("/bin/sh")
            .args(["-c", WHEN_THERE])
            .arg(self.path("program"))
            .args(ARGUMENTS)
            .env("PATH", self.path("bin"))
            .output();
        shell.unwrap()
    }
}

fn lines(output: &Output) -> Vec<&str> {
    str::from_utf8(&output.stdout).unwrap().lines().collect()
}

const SHOW: &str = "for it; do echo \"$it\"; done; exit 3";

#[test]
fn a_program_that_is_there_is_become_with_its_arguments_as_they_are() {
    let container = Container::new();
    container.has("program", SHOW);
    let output = container.run();
    assert_eq!(lines(&output), ARGUMENTS);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_program_that_comes_later_is_waited_for_with_any_sleep() {
    for knows_fractions in ["", "case $1 in *.*) exit 1; esac"] {
        let container = Container::new();
        container.has("other", SHOW);
        let [from, to] = ["other", "program"].map(|it| container.path(it));
        let comes = format!("{knows_fractions}\n/bin/mv {} {}", show(&from), show(&to));
        container.has("bin/sleep", &comes);
        assert_eq!(lines(&container.run()), ARGUMENTS, "{knows_fractions}");
    }
}

#[test]
fn who_waits_can_be_told_to_end() {
    let container = Container::new();
    container.has("bin/sleep", "kill -TERM $PPID");
    assert_eq!(container.run().status.code(), Some(143));
}

#[test]
fn what_can_never_be_is_not_waited_for() {
    let container = Container::new();
    let output = container.run();
    assert_eq!(output.status.code(), Some(127));
    assert!(lines(&output)[0].ends_with("is not there yet, and this image has no sleep"));

    fs::write(container.path("program"), "no program").unwrap();
    let output = container.run();
    assert_eq!(output.status.code(), Some(126));
    assert!(lines(&output)[0].ends_with("is its volume mounted noexec?"));
}

fn show(path: &Path) -> &str {
    path.to_str().unwrap()
}
