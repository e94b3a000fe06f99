//! The Dockerfile of a peer: FROM, ADD, LABEL, ENV and nothing else (protocol §6.1, design D3). Pure text in,
//! typed instructions out; whatever would need a Dockerfile engine is refused by its line. `context` calls it.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::Error;
use crate::names::ImageName;

/// The only file that `ADD` may name: peers hard-code it (protocol §6.1).
pub(super) const BINPACKAGE: &str = "binpackage.tar";

const ACCEPTED: &str =
    "only FROM, ADD binpackage.tar, LABEL and ENV are, since peers send nothing else";
const ADD_FORM: &str = "the one accepted form is: ADD binpackage.tar <absolute directory>";
const FROM_FORM: &str = "the one accepted form is: FROM <image>";

/// What the Dockerfile orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dockerfile {
    pub(super) from: ImageName,
    /// Absolute, without `/` at its end, never the root.
    pub(super) destination: String,
    /// In order, each name once: the last value wins.
    pub(super) env: Vec<(String, String)>,
    pub(super) labels: BTreeMap<String, String>,
}

/// Reads a Dockerfile.
///
/// # Errors
/// [`Error::Dockerfile`] with the line of the first instruction that is malformed or not accepted.
pub(super) fn parse(text: &str) -> Result<Dockerfile, Error> {
    let mut from = None;
    let mut destination = None;
    let mut env = Vec::new();
    let mut labels = BTreeMap::new();
    let mut last = 1;
    for (line, instruction) in instructions(text)? {
        last = line;
        let fail = |reason: String| Error::Dockerfile { line, reason };
        let (word, rest) = match instruction.split_once(char::is_whitespace) {
            Some((word, rest)) => (word, rest.trim()),
            None => (instruction.as_str(), ""),
        };
        let word = word.to_ascii_uppercase();
        if from.is_none() && word != "FROM" {
            let reason = format!("{} stands before FROM: FROM comes first", shown(&word));
            return Err(fail(reason));
        }
        match word.as_str() {
            "FROM" if from.is_some() => {
                return Err(fail("a second FROM: builds have one stage".to_owned()));
            }
            "FROM" => from = Some(base(rest).map_err(fail)?),
            "ADD" if destination.is_some() => {
                return Err(fail(format!("a second ADD: {ADD_FORM}, once")));
            }
            "ADD" => destination = Some(added(rest).map_err(fail)?),
            "LABEL" => {
                let pairs = pairs(rest).map_err(|e| fail(format!("LABEL: {e}")))?;
                labels.extend(pairs);
            }
            "ENV" => {
                for pair in variables(rest).map_err(|e| fail(format!("ENV: {e}")))? {
                    set(&mut env, pair);
                }
            }
            _ => {
                return Err(fail(format!(
                    "{} is not accepted: {ACCEPTED}",
                    shown(&word)
                )));
            }
        }
    }
    let missing = |what| Error::Dockerfile {
        line: last,
        reason: format!("the Dockerfile ends without {what}"),
    };
    Ok(Dockerfile {
        from: from.ok_or_else(|| missing("FROM"))?,
        destination: destination.ok_or_else(|| missing("ADD binpackage.tar"))?,
        env,
        labels,
    })
}

/// Sets a variable: in its old place where there is one, else at the end.
pub(super) fn set(env: &mut Vec<(String, String)>, (name, value): (String, String)) {
    match env.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name, value)),
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

/// Logical lines with the number of their first line: continuations joined, comments and blank lines gone.
/// A comment or blank line inside a continuation does not end it, as in Docker.
fn instructions(text: &str) -> Result<Vec<(usize, String)>, Error> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        let content = line.trim_start();
        if let Some(comment) = content.strip_prefix('#') {
            if found.is_empty() && open.is_none() && changes_escape(comment) {
                return Err(Error::Dockerfile {
                    line: number,
                    reason: "an escape other than \\ is not accepted".to_owned(),
                });
            }
            continue;
        }
        if content.is_empty() {
            continue;
        }
        let (start, mut joined) = open.take().unwrap_or((number, String::new()));
        let kept = if joined.is_empty() { content } else { line };
        match continued(kept) {
            Some(part) => {
                joined.push_str(part);
                open = Some((start, joined));
            }
            None => {
                joined.push_str(kept);
                found.push((start, joined));
            }
        }
    }
    found.extend(open.filter(|(_, joined)| !joined.trim().is_empty()));
    Ok(found)
}

/// The line without its `\` at the end; `None` where it has none. `\\` is a character and continues nothing.
fn continued(line: &str) -> Option<&str> {
    let part = line.trim_end_matches([' ', '\t']).strip_suffix('\\')?;
    (!part.ends_with('\\')).then_some(part)
}

fn changes_escape(comment: &str) -> bool {
    comment.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("escape") && value.trim() != "\\"
    })
}

fn base(rest: &str) -> Result<ImageName, String> {
    let mut words = rest.split_whitespace();
    let name = words.next().ok_or(FROM_FORM)?;
    if name.starts_with("--") || words.next().is_some() {
        return Err(format!("FROM takes no option and no AS: {FROM_FORM}"));
    }
    if name.contains('$') {
        return Err(format!("FROM takes no variable: {FROM_FORM}"));
    }
    if name == "scratch" {
        return Err("FROM scratch is not accepted: chaincode runs in its base image".to_owned());
    }
    name.parse().map_err(|e| format!("FROM: {e}"))
}

fn added(rest: &str) -> Result<String, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let &[BINPACKAGE, destination] = words.as_slice() else {
        return Err(ADD_FORM.to_owned());
    };
    // `:` cannot stand in a mount path of Kubernetes; the others would mean something to Docker.
    if destination
        .chars()
        .any(|c| c.is_control() || matches!(c, '$' | '"' | '\'' | '\\' | ':' | '<'))
    {
        return Err(format!("ADD: {destination:?} is no plain path: {ADD_FORM}"));
    }
    if !destination.starts_with('/') {
        return Err(format!("ADD: {destination:?} is relative: {ADD_FORM}"));
    }
    let mut clean = String::new();
    for part in destination.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("ADD: {destination:?} holds ..: {ADD_FORM}")),
            part => {
                clean.push('/');
                clean.push_str(part);
            }
        }
    }
    if clean.is_empty() {
        return Err(format!("ADD: the root cannot be replaced: {ADD_FORM}"));
    }
    if clean.len() > 1024 {
        return Err(format!("ADD: more than 1024 characters: {ADD_FORM}"));
    }
    Ok(clean)
}

/// `NAME=VALUE …`, or the old `NAME the rest`.
fn variables(rest: &str) -> Result<Vec<(String, String)>, String> {
    let mut lexer = Lexer::new(rest);
    let name = lexer.word(|c| c == '=' || c.is_whitespace())?;
    if lexer.rest.peek().is_none_or(|c| *c == '=') {
        return pairs(rest);
    }
    lexer.skip_blanks();
    let value = lexer.word(|_| false)?;
    Ok(vec![named(name, value)?])
}

fn pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let mut lexer = Lexer::new(rest);
    let mut pairs = Vec::new();
    loop {
        lexer.skip_blanks();
        if lexer.rest.peek().is_none() {
            break;
        }
        let name = lexer.word(|c| c == '=' || c.is_whitespace())?;
        if lexer.rest.next() != Some('=') {
            return Err(format!("{} has no =value", shown(&name)));
        }
        let value = lexer.word(char::is_whitespace)?;
        pairs.push(named(name, value)?);
    }
    if pairs.is_empty() {
        return Err("name=value is missing".to_owned());
    }
    Ok(pairs)
}

fn named(name: String, value: String) -> Result<(String, String), String> {
    if name.is_empty() {
        return Err("a name is empty".to_owned());
    }
    if name.contains('\0') || value.contains('\0') {
        return Err(format!("{} holds a zero character", shown(&name)));
    }
    Ok((name, value))
}

/// Words with Docker's quotes and escapes.
struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars().peekable(),
        }
    }

    fn skip_blanks(&mut self) {
        while self.rest.next_if(|c| c.is_whitespace()).is_some() {}
    }

    /// Reads up to the first character outside of quotes at which `stop` holds, which stays.
    fn word(&mut self, stop: impl Fn(char) -> bool) -> Result<String, String> {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| !stop(*c)) {
            match c {
                '\'' => self.single_quoted(&mut word)?,
                '"' => self.double_quoted(&mut word)?,
                '\\' => word.push(self.rest.next().ok_or("a \\ at the end")?),
                '$' => return Err(VARIABLE.to_owned()),
                c => word.push(c),
            }
        }
        Ok(word)
    }

    fn single_quoted(&mut self, word: &mut String) -> Result<(), String> {
        loop {
            match self.rest.next().ok_or("a ' is not closed")? {
                '\'' => return Ok(()),
                c => word.push(c),
            }
        }
    }

    fn double_quoted(&mut self, word: &mut String) -> Result<(), String> {
        const OPEN: &str = "a \" is not closed";
        loop {
            match self.rest.next().ok_or(OPEN)? {
                '"' => return Ok(()),
                '$' => return Err(VARIABLE.to_owned()),
                '\\' => match self.rest.next().ok_or(OPEN)? {
                    c @ ('"' | '\\' | '$') => word.push(c),
                    c => word.extend(['\\', c]),
                },
                c => word.push(c),
            }
        }
    }
}

const VARIABLE: &str = "variables are not expanded here; write \\$ for a $";

#[cfg(test)]
mod tests;
