//! The configuration file of the original, the Go program of the same name (design §7): its keys become ours before anything
//! else looks at the document, each where it stood, so that every later message has the right line. `draft` calls it;
//! it knows no section's type. [`OLD`] is the one list: the page of all keys shows it too.
//!
//! The original read its file without regard to case (viper), and so does this.

use serde_saphyr::{Location, Spanned};

use super::document::{Content, Node};
use super::keys;

mod convert;

/// What became of a key.
enum Fate {
    /// Another name for the same value.
    Renamed(&'static str),
    /// The name now, how the value is made, and that in words.
    Converted(&'static str, Convert, &'static str),
    /// Nothing asks for it any more: why, and what to do instead.
    Gone(&'static str),
}

/// Makes the new value from the old one.
type Convert = fn(&Node) -> Result<Converted, Unreadable>;

/// Where something cannot be read, and what the original accepted.
type Unreadable = (Location, &'static str);

/// What a [`Convert`] makes.
enum Converted {
    /// The key was written as it still is, or not at all: nothing to do or say.
    Unchanged,
    /// The new value, and the rest of the notice: what changed but for the name.
    To(Content, String),
    /// The same, and what another key becomes by it, unless that is set.
    With(Content, String, (&'static str, Content)),
}

const NO_EMAIL: &str = "no registry asks for it; remove it";
const NO_PULLER: &str = "Peitho's own image does the puller's work: set agent.image where the name of that image is not \
                         the default";
const NO_SWEEPER: &str = "there is no sweeper: a pod goes when its peer removes the chaincode, and what a peer never removes stays (README, Limits)";
const NO_ZAP: &str = "a line of the log has no such part; remove it";
const STDERR: &str = "the log goes to stderr; redirect that";

/// Every key of the original with what became of it, in the order of its documentation.
const OLD: &[(&str, Fate)] = &[
    ("sweeper.enable", Fate::Gone(NO_SWEEPER)),
    ("sweeper.interval", Fate::Gone(NO_SWEEPER)),
    (
        "peitho.imageMode",
        Fate::Converted("images.mode", convert::image_mode, "the same words"),
    ),
    (
        "peitho.pullerAccessAddress",
        Fate::Converted(
            "delivery.address",
            convert::address,
            "the host is kept; `https`, the port of the delivery listener, no path",
        ),
    ),
    ("peitho.pullerImage", Fate::Gone(NO_PULLER)),
    ("k8s.namespace", Fate::Renamed("kubernetes.namespace")),
    ("k8s.kubeconfig", Fate::Renamed("kubernetes.kubeconfig")),
    (
        "k8s.dns",
        Fate::Converted(
            "kubernetes.hostAliases",
            convert::host_aliases,
            "`ip:host` becomes `{ip, hostnames}`, one for each address",
        ),
    ),
    (
        "docker.endpoint",
        Fate::Converted(
            "docker.endpoint",
            convert::nothing,
            "the same, for the roles whose runtime is `docker`",
        ),
    ),
    (
        "docker.registry.server-address",
        Fate::Converted(
            "images.registry.address",
            convert::registry_address,
            "host and port, without scheme and path; `http://` sets `images.registry.scheme` too",
        ),
    ),
    (
        "docker.registry.project",
        Fate::Renamed("images.registry.project"),
    ),
    ("docker.registry.email", Fate::Gone(NO_EMAIL)),
    (
        "docker.registry.username",
        Fate::Converted(
            "images.registry.username",
            convert::unless_empty,
            "the same; an empty one is none",
        ),
    ),
    (
        "docker.registry.password",
        Fate::Converted(
            "images.registry.password",
            convert::unless_empty,
            "the same; an empty one is none",
        ),
    ),
    (
        "log.level",
        Fate::Converted(
            "log.level",
            convert::level,
            "`dpanic`, `panic` and `fatal` become `error`",
        ),
    ),
    (
        "log.format",
        Fate::Converted("log.format", convert::format, "`console` becomes `text`"),
    ),
    (
        "log.enable-color",
        Fate::Converted(
            "log.color",
            convert::color,
            "`true` becomes `always`, `false` becomes `never`",
        ),
    ),
    ("log.name", Fate::Gone(NO_ZAP)),
    ("log.development", Fate::Gone(NO_ZAP)),
    ("log.disable-caller", Fate::Gone(NO_ZAP)),
    ("log.disable-stacktrace", Fate::Gone(NO_ZAP)),
    ("log.output-paths", Fate::Gone(STDERR)),
    ("log.error-output-paths", Fate::Gone(STDERR)),
];

/// The sections that have keys of both kinds.
const SHARED: [&str; 2] = ["docker", "log"];

/// Something to tell about a place of the file.
#[derive(Debug)]
pub(super) struct Remark {
    pub(super) place: Location,
    pub(super) message: String,
}

/// A document with our keys only.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) document: Node,
    /// What was translated, by line.
    pub(super) notices: Vec<Remark>,
    pub(super) problems: Vec<Remark>,
}

/// The rows of the page of all keys: the old key, and what became of it as Markdown.
pub(super) fn table() -> impl Iterator<Item = (&'static str, String)> {
    OLD.iter().map(|(path, fate)| {
        let became = match fate {
            Fate::Renamed(to) => format!("`{to}`"),
            Fate::Converted(to, _, how) => format!("`{to}`: {how}"),
            Fate::Gone(why) => format!("no effect: {why}"),
        };
        (*path, became)
    })
}

/// The key of today for the variable of the original called `PEITHO_` and `rest`. They are not read: only their
/// names are told.
pub(super) fn name_of_variable(rest: &str) -> Option<&'static str> {
    let meant = |(old, _): &&(&str, Fate)| keys::fold(old) == keys::fold(rest);
    match OLD.iter().find(meant)? {
        (_, Fate::Renamed(new) | Fate::Converted(new, ..)) => Some(new),
        (_, Fate::Gone(_)) => None,
    }
}

/// Puts our keys in the place of the original's.
pub(super) fn translate(document: Node) -> Translation {
    let mut work = Work::default();
    let Node { place, content } = document;
    let content = match content {
        Content::Map(entries) => Content::Map(work.document(entries)),
        other => other,
    };
    let document = Node { place, content };
    work.notices.sort_by_key(|remark| remark.place.line());
    Translation {
        document,
        notices: work.notices,
        problems: work.problems,
    }
}

/// A key with where it stands, and its value.
type Entry = (Spanned<String>, Node);

#[derive(Default)]
struct Work {
    /// For `section.key`: what it is set to, in the place of the old key, which is named.
    moved: Vec<(&'static str, &'static str, Entry)>,
    /// Keys that a value of the original decides too: where they are not set.
    implied: Vec<(&'static str, Entry)>,
    /// Keys without effect that share a reason share a line.
    gone: Vec<(Location, Vec<&'static str>, &'static str)>,
    notices: Vec<Remark>,
    problems: Vec<Remark>,
}

impl Work {
    fn document(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut kept = Vec::new();
        for (key, node) in entries {
            let is_shared = is_shared(&key.value);
            match &node.content {
                Content::Map(_) | Content::Null if is_section(&key.value) => {
                    let rest = self.section(&key.value, node);
                    if is_shared {
                        kept.push((key, rest));
                    }
                }
                _ if is_section(&key.value) && !is_shared => {
                    self.problem(&key, format!("{} is not a mapping of keys", key.value));
                }
                _ => kept.push((key, node)),
            }
        }
        for (old, new, entry) in std::mem::take(&mut self.moved) {
            self.lay(&mut kept, old, new, entry);
        }
        for (new, entry) in std::mem::take(&mut self.implied) {
            imply(&mut kept, new, entry);
        }
        for (place, paths, why) in std::mem::take(&mut self.gone) {
            let verb = if paths.len() == 1 { "has" } else { "have" };
            let message = format!("{} {verb} no effect: {why}", paths.join(", "));
            self.notices.push(Remark { place, message });
        }
        kept
    }

    /// Takes the old keys out of the section at `section_path`, and gives the rest.
    fn section(&mut self, section_path: &str, section: Node) -> Node {
        let Content::Map(entries) = section.content else {
            return section;
        };
        let mut rest = Vec::new();
        for (key, node) in entries {
            let path = format!("{section_path}.{}", key.value);
            let known = OLD.iter().find(|(old, _)| old.eq_ignore_ascii_case(&path));
            match known {
                Some((old, fate)) => rest.extend(self.key(old, fate, (key, node))),
                None if is_section(&path)
                    && matches!(node.content, Content::Map(_) | Content::Null) =>
                {
                    self.section(&path, node);
                }
                None if is_shared(section_path) => rest.push((key, node)),
                None => self.problem(&key, unknown(&path)),
            }
        }
        Node {
            place: section.place,
            content: Content::Map(rest),
        }
    }

    /// Does what is to be done with one old key; gives it back when it is one of ours as it stands.
    fn key(&mut self, old: &'static str, fate: &Fate, entry: Entry) -> Option<Entry> {
        let (key, node) = entry;
        match fate {
            Fate::Gone(why) => {
                let place = key.referenced;
                match self.gone.iter_mut().find(|(_, _, other)| other == why) {
                    Some((_, paths, _)) => paths.push(old),
                    None => self.gone.push((place, vec![old], why)),
                }
                None
            }
            Fate::Renamed(new) => {
                self.notice(&key, format!("{old} is called {new} now"));
                self.moved.push((old, new, (key, node)));
                None
            }
            Fate::Converted(new, convert, _) => match convert(&node) {
                Ok(Converted::Unchanged) => (old == *new).then_some((key, node)),
                Ok(Converted::With(content, rest, (implied, value))) => {
                    self.notice(&key, format!("{old} is called {new} now{rest}"));
                    self.implied
                        .push((implied, (key.clone(), node.with(value))));
                    self.moved.push((old, new, (key, node.with(content))));
                    None
                }
                Ok(Converted::To(content, rest)) if old == *new => {
                    self.notice(&key, format!("{old}{rest}"));
                    Some((key, node.with(content)))
                }
                Ok(Converted::To(content, rest)) => {
                    self.notice(&key, format!("{old} is called {new} now{rest}"));
                    let node = node.with(content);
                    self.moved.push((old, new, (key, node)));
                    None
                }
                Err((place, accepted)) => {
                    let message = format!("{old} cannot be read; accepted: {accepted}");
                    self.problems.push(Remark { place, message });
                    None
                }
            },
        }
    }

    /// Sets the key `new` below `kept`, unless it is set there.
    fn lay(&mut self, kept: &mut Vec<Entry>, old: &str, new: &str, (place, node): Entry) {
        let Some((entries, key)) = section_of(kept, new, &place, &node) else {
            return;
        };
        match entries.iter().find(|(other, _)| other.value == key) {
            Some((other, _)) => {
                let line = other.referenced.line();
                let message =
                    format!("{old} sets what {new} in line {line} sets too: remove {old}");
                self.problem(&place, message);
            }
            None => entries.push((called(key, &place), node)),
        }
    }

    fn notice(&mut self, key: &Spanned<String>, message: String) {
        let place = key.referenced;
        self.notices.push(Remark { place, message });
    }

    fn problem(&mut self, key: &Spanned<String>, message: String) {
        let place = key.referenced;
        self.problems.push(Remark { place, message });
    }
}

/// Sets the key `new` below `kept`, unless it is set there: what is set stays.
fn imply(kept: &mut Vec<Entry>, new: &str, (place, node): Entry) {
    if let Some((entries, key)) = section_of(kept, new, &place, &node)
        && entries.iter().all(|(other, _)| other.value != key)
    {
        entries.push((called(key, &place), node));
    }
}

/// The entries of the section of the key `path` below `kept`, made where they are missing, and the key's own name. `None` where
/// something else stands in its place, which will be told.
fn section_of<'a, 'b>(
    kept: &'a mut Vec<Entry>,
    path: &'b str,
    place: &Spanned<String>,
    node: &Node,
) -> Option<(&'a mut Vec<Entry>, &'b str)> {
    let (sections, key) = path.rsplit_once('.').expect("OLD names section and key");
    let mut entries = kept;
    for section in sections.split('.') {
        let index = match entries.iter().position(|(other, _)| other.value == section) {
            Some(index) => index,
            None => {
                entries.push((called(section, place), node.with(Content::Null)));
                entries.len() - 1
            }
        };
        let section = &mut entries[index].1;
        if matches!(section.content, Content::Null) {
            section.content = Content::Map(Vec::new());
        }
        let Content::Map(below) = &mut section.content else {
            return None;
        };
        entries = below;
    }
    Some((entries, key))
}

/// The key `name`, as if it stood at `place`.
fn called(name: &str, place: &Spanned<String>) -> Spanned<String> {
    Spanned::new(name.to_owned(), place.referenced, place.defined)
}

fn is_shared(section: &str) -> bool {
    SHARED.iter().any(|it| it.eq_ignore_ascii_case(section))
}

/// Whether keys of the original begin with `path`.
fn is_section(path: &str) -> bool {
    OLD.iter().any(|(old, _)| is_below(old, path))
}

fn is_below(path: &str, section: &str) -> bool {
    let start = path.get(..section.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(section))
        && path[section.len()..].starts_with('.')
}

/// What to say of `path` below an old section: the nearest old key by its present name, where it has one.
fn unknown(path: &str) -> String {
    let nearest = keys::nearest(path, OLD.iter(), |(old, _)| (*old).to_owned());
    match nearest {
        Some((_, Fate::Renamed(new) | Fate::Converted(new, ..))) => {
            format!("{path} is not a key; did you mean {new}?")
        }
        Some((old, Fate::Gone(_))) => format!("{path} is not a key; did you mean {old}?"),
        None => format!("{path} is not a key"),
    }
}

#[cfg(test)]
mod tests;
