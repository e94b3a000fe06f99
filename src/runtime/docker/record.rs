//! The record of a chaincode container is the container: its labels hold the order, its state in the engine is its
//! state. Pure: `chaincode` and `wait` ask the engine and read the answers here.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, ContainerState};

use crate::names::docker as names;
use crate::names::{ContainerKey, InstanceName};
use crate::runtime::{ChaincodeSpec, Error, Exit, Found, Life, Place, State};

/// When a container was never started, the engine says so.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A chaincode container as the engine shows it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The engine's id: one life of the name.
    pub(super) engine_id: String,
    /// The order.
    pub(super) spec: ChaincodeSpec,
    /// What it is doing.
    pub(super) state: State,
    /// Its life so far, by the engine's clock.
    pub(super) life: Life,
}

impl From<Record> for Found {
    fn from(record: Record) -> Self {
        Self {
            spec: record.spec,
            state: record.state,
            life: record.life,
        }
    }
}

/// The labels of the container of `spec`.
pub(super) fn labels(spec: &ChaincodeSpec, instance: &InstanceName) -> HashMap<String, String> {
    let mut labels = names::chaincode_labels(instance, &spec.key, &spec.id);
    let order = serde_json::to_string(spec).expect("plain data with string keys always serializes");
    labels.insert(names::SPEC.to_owned(), order);
    labels
}

impl Record {
    /// Reads what the engine shows of the container called `name`, which is to be that of `key`. `None` when it is
    /// another's of ours: names hold hashes.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is not one of this instance, or not readable as one.
    pub(super) fn read(
        shown: &ContainerInspectResponse,
        name: &str,
        instance: &InstanceName,
        key: &ContainerKey,
    ) -> Result<Option<Self>, Error> {
        let engine_id = own_id(shown, name, instance)?;
        let text = label(shown, names::SPEC).unwrap_or_default();
        let spec: ChaincodeSpec = serde_json::from_str(text).map_err(|error| {
            Error::Refused(format!(
                "container {name} in the Docker Engine has no readable label {}: {error}; remove it and let \
                 the peer launch again",
                names::SPEC
            ))
        })?;
        Ok((spec.key == *key).then(|| Self {
            engine_id,
            state: state(shown.state.as_ref()),
            life: life(
                shown,
                &Place::Engine {
                    name: name.to_owned(),
                },
            ),
            spec,
        }))
    }
}

/// The engine's id of what is shown of the container called `name`.
///
/// # Errors
/// [`Error::Refused`] when it does not belong to `instance` (design D12).
pub(super) fn own_id(
    shown: &ContainerInspectResponse,
    name: &str,
    instance: &InstanceName,
) -> Result<String, Error> {
    if label(shown, names::INSTANCE) != Some(instance.as_str()) {
        return Err(Error::Refused(format!(
            "container {name} in the Docker Engine was not made by the Peitho called {instance}: see whose it is, \
             and remove it or give this Peitho another name"
        )));
    }
    Ok(shown.id.clone().unwrap_or_default())
}

fn label<'a>(shown: &'a ContainerInspectResponse, name: &str) -> Option<&'a str> {
    let labels = shown.config.as_ref()?.labels.as_ref()?;
    labels.get(name).map(String::as_str)
}

/// What a container with this state in the engine is doing.
pub(super) fn state(shown: Option<&ContainerState>) -> State {
    let Some(shown) = shown else {
        return State::Created;
    };
    if shown.running == Some(true) {
        return State::Running;
    }
    // Set by a start that failed, with the engine's words; a later start that succeeds clears it.
    if let Some(words) = shown.error.as_deref().filter(|words| !words.is_empty()) {
        return State::NeverStarted(words.replace('\n', " "));
    }
    match shown.started_at.as_deref() {
        None | Some("" | NO_TIME) => State::Created,
        Some(_) => State::Exited(Exit {
            code: shown.exit_code.unwrap_or_default(),
        }),
    }
}

/// What the container at `place` is doing, and its life.
pub(super) fn seen(shown: &ContainerInspectResponse, place: &Place) -> (State, Life) {
    (state(shown.state.as_ref()), life(shown, place))
}

fn life(shown: &ContainerInspectResponse, place: &Place) -> Life {
    let time = |text: Option<&str>| {
        let text = text.filter(|text| *text != NO_TIME)?;
        text.parse::<jiff::Timestamp>().ok()
    };
    let state = shown.state.as_ref();
    Life {
        created: time(shown.created.as_deref()),
        started: time(state.and_then(|it| it.started_at.as_deref())),
        finished: time(state.and_then(|it| it.finished_at.as_deref())),
        why: None,
        out_of_memory: state.and_then(|it| it.oom_killed).unwrap_or_default(),
        place: place.clone(),
    }
}

/// The second in which the process of the container was started, of the engine's clock; 0 where that is not known.
pub(super) fn started_at(shown: &ContainerInspectResponse) -> i64 {
    let started = shown.state.as_ref().and_then(|it| it.started_at.as_deref());
    let time = started.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    time.map_or(0, jiff::Timestamp::as_second).max(0)
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerConfig;

    use super::super::tests::spec;
    use super::*;

    fn shown(labels: HashMap<String, String>) -> ContainerInspectResponse {
        ContainerInspectResponse {
            id: Some("engine".to_owned()),
            config: Some(ContainerConfig {
                labels: Some(labels),
                ..ContainerConfig::default()
            }),
            ..ContainerInspectResponse::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (spec, instance) = (spec(), InstanceName::default());
        let shown = shown(labels(&spec, &instance));
        let read = Record::read(&shown, "n", &instance, &spec.key).unwrap();
        assert_eq!(read.unwrap().spec, spec);
        let other = ContainerKey {
            tenant: "org2".parse().unwrap(),
            ..spec.key.clone()
        };
        assert!(
            Record::read(&shown, "n", &instance, &other)
                .unwrap()
                .is_none()
        );
        let other = "other".parse().unwrap();
        let error = Record::read(&shown, "n", &other, &spec.key).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("not made by the Peitho called other")
        );
    }

    #[test]
    fn a_foreign_container_of_our_name_is_left_alone() {
        let error = own_id(&shown(HashMap::new()), "n", &InstanceName::default());
        assert!(matches!(error, Err(Error::Refused(_))));
    }

    #[test]
    fn states_are_the_engines() {
        let with = |running: bool, error: &str, started: &str, code: i64| {
            state(Some(&ContainerState {
                running: Some(running),
                error: Some(error.to_owned()),
                started_at: Some(started.to_owned()),
                exit_code: Some(code),
                ..ContainerState::default()
            }))
        };
        let started = "2026-01-01T10:00:00.5Z";
        assert_eq!(with(false, "", NO_TIME, 0), State::Created);
        assert_eq!(with(true, "", started, 0), State::Running);
        assert_eq!(with(false, "", started, 7), State::Exited(Exit { code: 7 }));
        assert_eq!(
            with(false, "exec: no such file", NO_TIME, 127),
            State::NeverStarted("exec: no such file".to_owned())
        );
    }
}
