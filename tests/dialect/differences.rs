//! Where Peitho and dockerd differ on purpose, each with its reason: what `expected` says is what both do else.

use serde_json::{Value, json};
use testbed::{Driver, Library};

use crate::ways::Way;
use crate::world::Target;

/// What one of the two does.
pub(crate) enum Seen {
    /// Always this.
    Is(Value),
    /// As it happens.
    Either,
    /// What is expected.
    Expected,
}

/// Which clients see a difference.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clients {
    All,
    Of(Library),
    /// Those of one family of releases, and what the page calls them.
    Family(&'static str, &'static str),
}

impl Clients {
    fn have(self, driver: &Driver) -> bool {
        match self {
            Self::All => true,
            Self::Of(library) => library == driver.library,
            Self::Family(family, _) => family == driver.family,
        }
    }

    /// For the page.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Of(Library::Fsouza) => "fsouza",
            Self::Of(Library::Moby) => "moby",
            Self::Family(_, name) => name,
        }
    }
}

/// A deliberate difference.
pub(crate) struct Difference {
    pub(crate) scenario: &'static str,
    /// The facts that differ, with what each engine does.
    facts: Vec<(&'static str, Seen, Seen)>,
    pub(crate) clients: Clients,
    /// By which way alone; by all when `None`.
    pub(crate) way: Option<Way>,
    pub(crate) dockerd: &'static str,
    pub(crate) peitho: &'static str,
    pub(crate) reason: &'static str,
}

impl Difference {
    /// Whether a driver sees it in a scenario by a way.
    pub(crate) fn concerns(&self, way: Way, scenario: &str, driver: &Driver) -> bool {
        self.scenario == scenario
            && self.way.is_none_or(|only| only == way)
            && self.clients.have(driver)
    }
}

const FRAMES: [&str; 3] = [
    "heads of frames stand between the lines",
    "plain lines",
    "moby peers take no frames apart: their log and their errors would show the heads, and a length above 127 makes the error's text \
     invalid UTF-8, which the peer cannot return",
];

const LOST_OUTPUT: [&str; 3] = [
    "now and then output is lost, and the error of a failed compile is empty",
    "all of it arrives",
    "fsouza peers read no further once `wait` is answered: Peitho sends the output first",
];

const UNREAD_OUTPUT: [&str; 3] = [
    "now and then output is lost",
    "the same on a busy machine",
    "peers make nothing of the output of a compile that succeeds; that of a failed one is waited for",
];

/// All of them.
pub(crate) fn all() -> Vec<Difference> {
    use Clients::{All, Family, Of};
    use Library::{Fsouza, Moby};
    use Seen::{Either, Expected, Is};
    let difference =
        |scenario, facts, clients, [dockerd, peitho, reason]: [&'static str; 3]| Difference {
            scenario,
            facts,
            clients,
            way: None,
            dockerd,
            peitho,
            reason,
        };
    let framed = |fact| vec![(fact, Is(json!(false)), Expected)];
    vec![
        difference("build", framed("plain output"), Of(Moby), FRAMES),
        difference("compile_error", framed("plain"), Of(Moby), FRAMES),
        difference("launch", framed("plain"), Of(Moby), FRAMES),
        difference(
            "build",
            vec![("says", Either, Either)],
            Of(Fsouza),
            UNREAD_OUTPUT,
        ),
        difference(
            "compile_error",
            vec![("says", Either, Expected)],
            Of(Fsouza),
            LOST_OUTPUT,
        ),
        difference(
            "compile_output",
            vec![("lines", Either, Either), ("end", Either, Either)],
            Of(Fsouza),
            UNREAD_OUTPUT,
        ),
        difference(
            "compile_output",
            vec![
                ("result", Is(json!("hangs")), Expected),
                ("lines", Is(json!(0)), Expected),
                ("end", Is(json!(false)), Expected),
            ],
            Of(Moby),
            [
                "the install hangs for ever",
                "it succeeds, with all of the output",
                "the peer reads after `wait`, dockerd's pipes are full before: Peitho keeps the output on disk",
            ],
        ),
        difference(
            "no_output",
            vec![
                ("result", Expected, Is(json!("told"))),
                ("after", Expected, Is(json!("not found"))),
            ],
            All,
            [
                "an image without a program is built",
                "`/build` fails and says that the compile left nothing",
                "the user learns it at the install, not by a launch that fails",
            ],
        ),
        difference(
            "pull",
            vec![("private registry", Expected, Is(json!(["ok", "ok"])))],
            All,
            [
                "a registry with a login refuses, for peers send no credentials",
                "it is pulled",
                "Peitho has a login for each registry in its own configuration",
            ],
        ),
        difference(
            "pull",
            vec![("tag", Either, Expected), ("digest", Either, Expected)],
            Family("F5", "moby-0.2.1-F5"),
            [
                "the image need not be there yet when they go on",
                "it is there",
                "these peers go on at the head of the answer, which dockerd sends before it pulls: Peitho answers when the pull is over",
            ],
        ),
    ]
}

/// Changes what is expected of a scenario to what one engine does. Facts that may be either way are taken out of both.
pub(crate) fn apply(
    wanted: &mut Value,
    seen: &mut Value,
    way: Way,
    target: Target,
    scenario: &str,
    driver: &Driver,
) {
    for difference in all() {
        if !difference.concerns(way, scenario, driver) {
            continue;
        }
        for (fact, dockerd, peitho) in difference.facts {
            let does = match target {
                Target::Dockerd => dockerd,
                Target::Peitho => peitho,
            };
            match does {
                Seen::Is(value) => wanted[fact] = value,
                Seen::Either => {
                    wanted[fact] = Value::Null;
                    seen[fact] = Value::Null;
                }
                Seen::Expected => {}
            }
        }
    }
}
