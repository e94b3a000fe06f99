//! Owns calls of programs that run to their end: the caller gets standard output, or an error that holds the command and
//! all that it printed. Everything that uses `go`, `ip`, `skopeo`, `kubectl` and the like comes through here.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs the command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null());
    let result = command
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    checked(command, result)
}

/// The same, with `input` on its standard input.
pub(crate) fn output_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // Programs read all of their input before they print much, so one thread suffices. One that ends early is judged by
    // its exit status, not by the broken pipe.
    stdin.write_all(input).ok();
    drop(stdin);
    checked(command, child.wait_with_output()?)
}

fn checked(command: &Command, result: Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&result.stdout).into_owned();
    if !result.status.success() {
        let stderr = String::from_utf8_lossy(&result.stderr);
        bail!(
            "{} failed ({}):\n{stdout}{stderr}",
            shown(command),
            result.status
        );
    }
    Ok(stdout)
}

fn shown(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}
