//! System calls as strace tells of them, in order.

use std::path::{Path, PathBuf};

/// One call. Lines are numbered, the first is 1; a call that another thread came between has two.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// What stands in the parentheses.
    pub(crate) arguments: String,
    pub(crate) result: String,
    /// The line on which it began.
    pub(crate) began: usize,
    /// The line on which it had ended.
    pub(crate) ended: usize,
}

impl Call {
    pub(crate) fn has_succeeded(&self) -> bool {
        !self.result.starts_with('-') && !self.result.starts_with('?')
    }

    /// The path behind the descriptor that is the first argument (`-y`).
    pub(crate) fn file(&self) -> Option<&Path> {
        let (descriptor, rest) = self.arguments.split_once('<')?;
        let is_number = !descriptor.is_empty() && descriptor.bytes().all(|b| b.is_ascii_digit());
        let (path, _) = rest.split_once('>')?;
        is_number.then(|| Path::new(path))
    }

    /// The arguments that are paths, in order.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let quoted = self.arguments.split('"').skip(1).step_by(2);
        quoted.map(PathBuf::from).collect()
    }
}

/// The calls of a trace that ended, in the order in which they ended.
pub(crate) fn read(trace: &str) -> Vec<Call> {
    let mut open: Vec<(&str, &str, usize)> = Vec::new();
    let mut calls = Vec::new();
    for (line, number) in trace.lines().zip(1..) {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(begin) = rest.strip_suffix(" <unfinished ...>") {
            open.push((thread, begin, number));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let at = open.iter().position(|(other, ..)| *other == thread);
            let (_, begin, began) = open.remove(at.expect("what is resumed had begun"));
            let (_, end) = resumed.split_once(" resumed>").unwrap();
            calls.extend(call(&format!("{begin}{end}"), began, number));
        } else {
            calls.extend(call(rest, number, number));
        }
    }
    calls
}

/// `None` for signals and exits.
fn call(text: &str, began: usize, ended: usize) -> Option<Call> {
    let (called, result) = text.rsplit_once(" = ")?;
    let (name, arguments) = called.split_once('(')?;
    Some(Call {
        name: name.to_owned(),
        arguments: arguments.trim_end().strip_suffix(')')?.to_owned(),
        result: result.to_owned(),
        began,
        ended,
    })
}
