//! Events of containers, made of what people see of them: as `docker inspect` shows a container, so its events have it.
//! `container` tells them.

use std::collections::BTreeMap;

use super::{Containers, Shown};
use crate::events::{Action, Event, Events, Kind};
use crate::names::{Tenant, labels};
use crate::runtime::State;

/// Docker's names of attributes.
const IMAGE: &str = "image";
const NAME: &str = "name";
const EXIT_CODE: &str = "exitCode";
const SIGNAL: &str = "signal";

/// SIGTERM: with it every process is told to end here, whatever order it came by.
const TERM: i32 = 15;

/// That `action` happened to the container that is `shown`.
pub(super) fn event(shown: &Shown, action: Action) -> Event {
    let mut attributes: BTreeMap<String, String> = shown.labels.clone();
    let mut add = |name: &str, value: String| {
        attributes.insert(name.to_owned(), value);
    };
    add(IMAGE, shown.image.to_string());
    if let Some(name) = &shown.name {
        add(NAME, name.to_string());
    }
    match (action, &shown.state) {
        (Action::Die, State::Exited(exit)) => add(EXIT_CODE, exit.code.to_string()),
        (Action::Die, State::NeverStarted(_)) => {
            add(EXIT_CODE, super::START_FAILED.to_string());
        }
        (Action::Kill, _) => add(SIGNAL, TERM.to_string()),
        // Known from when it ran: it is no more, and another one may have the number.
        (Action::Stop | Action::Destroy, _) => drop(attributes.remove(labels::PROCESS)),
        _ => {}
    }
    Event {
        kind: Kind::Container,
        action,
        id: shown.id.to_string(),
        attributes,
    }
}

impl Containers {
    /// What happens to containers and images.
    pub fn events(&self) -> &Events {
        self.0.images.events()
    }

    /// Tells those of `tenant` that `action` happened to the container that is `shown`.
    pub(super) fn tell(&self, tenant: &Tenant, shown: &Shown, action: Action) {
        self.events().tell(tenant, event(shown, action));
    }
}
