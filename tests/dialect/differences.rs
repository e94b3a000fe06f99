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

/// A deliberate difference.
pub(crate) struct Difference {
    pub(crate) scenario: &'static str,
    /// The facts that differ, with what each engine does.
    facts: Vec<(&'static str, Seen, Seen)>,
    /// Which clients see it; all when `None`.
    pub(crate) library: Option<Library>,
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
            && self.library.is_none_or(|library| library == driver.library)
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

/// All of them.
pub(crate) fn all() -> Vec<Difference> {
    use Library::{Fsouza, Moby};
    use Seen::{Either, Expected, Is};
    let difference =
        |scenario, facts, library, [dockerd, peitho, reason]: [&'static str; 3]| Difference {
            scenario,
            facts,
            library,
            way: None,
            dockerd,
            peitho,
            reason,
        };
    let framed = |fact| vec![(fact, Is(json!(false)), Expected)];
    vec![
        difference("build", framed("plain output"), Some(Moby), FRAMES),
        difference("compile_error", framed("plain"), Some(Moby), FRAMES),
        difference("launch", framed("plain"), Some(Moby), FRAMES),
        difference(
            "build",
            vec![("says", Either, Expected)],
            Some(Fsouza),
            LOST_OUTPUT,
        ),
        difference(
            "compile_error",
            vec![("says", Either, Expected)],
            Some(Fsouza),
            LOST_OUTPUT,
        ),
        difference(
            "compile_output",
            vec![("lines", Either, Expected), ("end", Either, Expected)],
            Some(Fsouza),
            LOST_OUTPUT,
        ),
        difference(
            "compile_output",
            vec![
                ("result", Is(json!("hangs")), Expected),
                ("lines", Is(json!(0)), Expected),
                ("end", Is(json!(false)), Expected),
            ],
            Some(Moby),
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
            None,
            [
                "an image without a program is built",
                "`/build` fails and says that the compile left nothing",
                "the user learns it at the install, not by a launch that fails",
            ],
        ),
        difference(
            "pull",
            vec![("private registry", Expected, Is(json!(["ok", "ok"])))],
            None,
            [
                "a registry with a login refuses, for peers send no credentials",
                "it is pulled",
                "Peitho has a login for each registry in its own configuration",
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
