//! A container as people see it: builder or chaincode in one form, with all that is known of it in labels. `engine_api` puts
//! it on the wire. What may be secret is not in it: no file that was uploaded.

use std::collections::BTreeMap;

use super::builder::Builder;
use crate::names::{ContainerId, ContainerName, ImageName, Tenant, labels};
use crate::runtime::{Found, HostSpec, Life, Place, State};

/// A container as it is told to people.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its id.
    pub id: ContainerId,
    /// Its name; a builder has none.
    pub name: Option<ContainerName>,
    /// Its image as the peer names it.
    pub image: ImageName,
    /// Entrypoint where the order has one, and arguments.
    pub command: Vec<String>,
    /// Its environment: the image's and the order's.
    pub env: Vec<(String, String)>,
    /// Where the order says so.
    pub working_dir: Option<String>,
    /// By number, where known.
    pub user: Option<i64>,
    /// What of Docker's HostConfig was ordered.
    pub host: HostSpec,
    /// What it is doing.
    pub state: State,
    /// When and where.
    pub life: Life,
    /// All else that is known, by [`labels`].
    pub labels: BTreeMap<String, String>,
}

impl Shown {
    /// Why its process ended or never ran, where there is more to say than a code.
    pub fn reason(&self) -> Option<&str> {
        self.labels.get(labels::REASON).map(String::as_str)
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub(super) fn of_builder(tenant: &Tenant, id: ContainerId, builder: &Builder) -> Self {
        let (request, state) = (builder.request(), builder.shown_state());
        let mut all = Labels::new("compile", tenant);
        if let State::NeverStarted(reason) = &state {
            all.add(labels::REASON, reason);
        }
        Self {
            id,
            name: None,
            image: request.image.clone(),
            command: request.command.clone(),
            env: request.env.clone(),
            working_dir: request.working_dir.clone(),
            user: request.user,
            host: HostSpec::default(),
            state,
            life: builder.life(),
            labels: all.0,
        }
    }
}

impl From<Found> for Shown {
    fn from(found: Found) -> Self {
        let Found { spec, state, life } = found;
        let mut all = Labels::new("chaincode", &spec.key.tenant);
        all.add_some(labels::PACKAGE_ID, spec.package_id.as_deref());
        all.add_some(labels::LANGUAGE, spec.language.map(|it| it.as_str()));
        all.add_some(labels::PEER, peer(&spec.args, &spec.env));
        all.add_some(labels::MSP, variable(&spec.env, "CORE_PEER_LOCALMSPID"));
        all.add(labels::BASE, &spec.base.to_string());
        let memory = life.out_of_memory.then_some("OOMKilled");
        all.add_some(
            labels::REASON,
            match &state {
                State::NeverStarted(reason) => Some(reason.as_str()),
                State::Exited(_) => life.why.as_deref().or(memory),
                _ => None,
            },
        );
        match &life.place {
            Place::Unknown => {}
            Place::Pod { namespace, name } => {
                all.add(labels::NAMESPACE, namespace);
                all.add(labels::POD, name);
            }
            Place::Process { pid } => all.add(labels::PROCESS, &pid.to_string()),
            Place::Engine { name } => all.add(labels::ENGINE_CONTAINER, name),
        }
        let mut command = spec.entrypoint.unwrap_or_default();
        command.extend(spec.args);
        Self {
            id: spec.id,
            name: Some(spec.key.name),
            image: spec.image,
            command,
            env: spec.env,
            working_dir: spec.working_dir,
            user: spec.user,
            host: spec.host,
            state,
            life,
            labels: all.0,
        }
    }
}

struct Labels(BTreeMap<String, String>);

impl Labels {
    fn new(role: &str, tenant: &Tenant) -> Self {
        let mut all = Self(BTreeMap::new());
        all.add(labels::ROLE, role);
        all.add(labels::TENANT, tenant.as_str());
        all
    }

    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value.to_owned());
        }
    }

    fn add_some(&mut self, name: &str, value: Option<&str>) {
        self.add(name, value.unwrap_or_default());
    }
}

/// The address of the peer as peers give it: Go has `-peer.address=…`, Java `--peerAddress …`, and Node a line for the shell
/// that has `--peer.address …` in it.
fn peer<'a>(args: &'a [String], env: &'a [(String, String)]) -> Option<&'a str> {
    let is_it = |name: &str| {
        let bare = name.trim_start_matches('-');
        bare != name && matches!(bare, "peer.address" | "peerAddress")
    };
    let mut words = args.iter().flat_map(|arg| arg.split_whitespace());
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some((name, value)) if is_it(name) => return Some(value),
            None if is_it(word) => return words.next(),
            _ => {}
        }
    }
    variable(env, "CORE_PEER_ADDRESS")
}

/// The value that wins: the last one.
fn variable<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = env.iter().rev().filter(|(it, _)| it == name);
    found.next().map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_told_by_an_argument() {
        let args = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>();
        for wire in [
            &["chaincode", "-peer.address=p:7052"][..],
            &["/root/chaincode-java/start", "--peerAddress", "p:7052"],
            &[
                "/bin/sh",
                "-c",
                "cd /usr/local/src; npm start -- --peer.address p:7052",
            ],
        ] {
            assert_eq!(peer(&args(wire), &[]), Some("p:7052"), "{wire:?}");
        }
        let env = [("CORE_PEER_ADDRESS".to_owned(), "q:1".to_owned())];
        assert_eq!(peer(&args(&["x", "--peer.address"]), &env), None);
        assert_eq!(peer(&args(&["x"]), &env), Some("q:1"));
    }
}
