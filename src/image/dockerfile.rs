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
        return Err("FROM scratch is not accepted: a pod needs an image to run".to_owned());
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_dockerfiles_of_2_x_and_3_x() {
        for (kind, runtime, destination) in [
            ("GOLANG", "hyperledger/fabric-baseos:2.5", "/usr/local/bin"),
            ("NODE", "hyperledger/fabric-nodeenv:2.5", "/usr/local/src"),
            (
                "JAVA",
                "hyperledger/fabric-javaenv:2.5",
                "/root/chaincode-java/chaincode",
            ),
        ] {
            let text = format!(
                "FROM {runtime}\nADD binpackage.tar {destination}\n\
                 LABEL org.hyperledger.fabric.chaincode.type=\"{kind}\" \\\n      \
                 org.hyperledger.fabric.version=\"2.5.16\"\n\
                 ENV CORE_CHAINCODE_BUILDLEVEL=2.5.16"
            );
            let parsed = parse(&text).unwrap();
            let expected = Dockerfile {
                from: runtime.parse().unwrap(),
                destination: destination.to_owned(),
                env: owned(&[("CORE_CHAINCODE_BUILDLEVEL", "2.5.16")]),
                labels: BTreeMap::from_iter(owned(&[
                    ("org.hyperledger.fabric.chaincode.type", kind),
                    ("org.hyperledger.fabric.version", "2.5.16"),
                ])),
            };
            assert_eq!(parsed, expected, "{kind}");
        }
    }

    #[test]
    fn the_dockerfiles_of_1_4() {
        for (kind, runtime, destination) in [
            (
                "GOLANG",
                "hyperledger/fabric-baseos:amd64-0.4.22",
                "/usr/local/bin",
            ),
            (
                "NODE",
                "hyperledger/fabric-baseimage:amd64-0.4.22",
                "/usr/local/src",
            ),
            (
                "JAVA",
                "hyperledger/fabric-javaenv:1.4",
                "/root/chaincode-java/chaincode",
            ),
        ] {
            let text = format!(
                "FROM {runtime}\nADD binpackage.tar {destination}\n\
                 LABEL org.hyperledger.fabric.chaincode.id.name=\"simple\" \\\n      \
                 org.hyperledger.fabric.chaincode.id.version=\"1.0+b2\" \\\n      \
                 org.hyperledger.fabric.chaincode.type=\"{kind}\" \\\n      \
                 org.hyperledger.fabric.version=\"1.4.12\" \\\n      \
                 org.hyperledger.fabric.base.version=\"0.4.22\"\n\
                 ENV CORE_CHAINCODE_BUILDLEVEL=1.4.12"
            );
            let parsed = parse(&text).unwrap();
            assert_eq!(parsed.from, runtime.parse().unwrap());
            assert_eq!(parsed.destination, destination);
            assert_eq!(
                parsed.env,
                owned(&[("CORE_CHAINCODE_BUILDLEVEL", "1.4.12")])
            );
            assert_eq!(parsed.labels.len(), 5);
            assert_eq!(
                parsed.labels["org.hyperledger.fabric.chaincode.id.version"],
                "1.0+b2"
            );
            assert_eq!(parsed.labels["org.hyperledger.fabric.chaincode.type"], kind);
        }
    }

    #[test]
    fn values_are_read_as_docker_reads_them() {
        for (instruction, expected) in [
            ("ENV A=1 B=2", owned(&[("A", "1"), ("B", "2")])),
            ("env A=1 A=2", owned(&[("A", "2")])),
            ("ENV A the whole  rest", owned(&[("A", "the whole  rest")])),
            ("ENV A b=c", owned(&[("A", "b=c")])),
            ("ENV A='x \"y\" $z'", owned(&[("A", "x \"y\" $z")])),
            (
                "ENV A=\"x \\\"y\\\" \\n \\$z\"",
                owned(&[("A", "x \"y\" \\n $z")]),
            ),
            ("ENV A=x\\ y B=", owned(&[("A", "x y"), ("B", "")])),
            ("ENV A=b=c", owned(&[("A", "b=c")])),
            (
                "ENV A=1 \\\n# why\n\n  B=2",
                owned(&[("A", "1"), ("B", "2")]),
            ),
            ("ENV A=x\\\\", owned(&[("A", "x\\")])),
            ("ENV A=1 \\", owned(&[("A", "1")])),
            ("\tENV\tA=1\r", owned(&[("A", "1")])),
        ] {
            let text = format!(
                "# syntax=docker/dockerfile:1\nfrom a\n{instruction}\nadd binpackage.tar /b"
            );
            match parse(&text) {
                // A continuation at the end takes the next line in.
                Err(_) if instruction.ends_with(" \\") => {}
                parsed => assert_eq!(parsed.unwrap().env, expected, "{instruction}"),
            }
        }
    }

    #[test]
    fn the_destination_is_absolute_and_clean() {
        for (written, clean) in [
            ("/usr/local/bin", "/usr/local/bin"),
            ("/usr//local/./bin/", "/usr/local/bin"),
            ("/a", "/a"),
        ] {
            let text = format!("FROM a\nADD binpackage.tar {written}");
            assert_eq!(parse(&text).unwrap().destination, clean);
        }
    }

    #[test]
    fn what_is_not_accepted_is_refused_by_its_line() {
        for (text, line, said) in [
            ("", 1, "without FROM"),
            ("FROM a", 1, "without ADD"),
            ("FROM a\nENV A=1", 2, "without ADD"),
            ("ENV A=1\nFROM a", 1, "FROM comes first"),
            ("ARG V=1\nFROM a", 1, "FROM comes first"),
            ("FROM a\nRUN rm -rf /", 2, "\"RUN\" is not accepted"),
            ("FROM a\n\n# x\ncopy . .", 4, "\"COPY\" is not accepted"),
            ("FROM a AS b", 1, "no AS"),
            ("FROM --platform=linux/arm64 a", 1, "no option"),
            ("FROM $BASE", 1, "no variable"),
            ("FROM", 1, "FROM <image>"),
            ("FROM scratch", 1, "scratch"),
            ("FROM A//b", 1, "image name"),
            ("FROM a\nFROM b", 2, "second FROM"),
            ("FROM a\nADD other.tar /x", 2, "ADD binpackage.tar <"),
            ("FROM a\nADD binpackage.tar", 2, "ADD binpackage.tar <"),
            ("FROM a\nADD [\"binpackage.tar\", \"/x\"]", 2, "accepted"),
            ("FROM a\nADD --chown=1 binpackage.tar /x", 2, "accepted"),
            ("FROM a\nADD binpackage.tar x/y", 2, "relative"),
            ("FROM a\nADD binpackage.tar /x/../y", 2, ".."),
            ("FROM a\nADD binpackage.tar /", 2, "root"),
            ("FROM a\nADD binpackage.tar /$X", 2, "no plain path"),
            (
                "FROM a\nADD binpackage.tar /x\nADD binpackage.tar /y",
                3,
                "second ADD",
            ),
            ("FROM a\nLABEL", 2, "missing"),
            ("FROM a\nLABEL a", 2, "no =value"),
            ("FROM a\nLABEL a=\"b", 2, "not closed"),
            ("FROM a\nLABEL a='b", 2, "not closed"),
            ("FROM a\nLABEL =b", 2, "empty"),
            ("FROM a\nENV", 2, "missing"),
            ("FROM a\nENV A", 2, "no =value"),
            ("FROM a\nENV A=$PATH", 2, "not expanded"),
            ("FROM a\nENV A \"$PATH\"", 2, "not expanded"),
            ("FROM a\nLABEL a=b \\\n c", 2, "no =value"),
            ("# escape=`\nFROM a", 1, "escape"),
            ("FROM a\nONBUILD RUN x", 2, "ONBUILD"),
            ("FROM a\n{\"a\":1}", 2, "not accepted"),
        ] {
            match parse(text) {
                Err(Error::Dockerfile { line: at, reason }) => {
                    assert!(reason.contains(said), "{text:?}: {reason}");
                    assert_eq!(at, line, "{text:?}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in "(FROM|ADD|LABEL|ENV|add|x)?([ \\\\\"'$=#\t\n\ra-z/.:]|\\PC){0,80}",
        ) {
            let _ = parse(&text);
            let _ = parse(&format!("FROM a\nADD binpackage.tar /b\n{text}"));
            let _ = parse(&format!("FROM a\nENV {text}"));
        }

        #[test]
        fn a_quoted_value_comes_back(value in "[^\\x00\n\r]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            let text = format!("FROM a\nADD binpackage.tar /b\nENV A=\"{quoted}\"");
            prop_assert_eq!(parse(&text).unwrap().env, vec![("A".to_owned(), value)]);
        }
    }
}
