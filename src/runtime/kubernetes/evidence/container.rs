//! The two containers of a pod that a verdict looks at, out of what the kubelet tells of all of them: the main one, and the one that brings what that
//! needs. They are known by name, since others may add containers of their own, and the kubelet sorts what it tells. `evidence` calls it.

use k8s_openapi::api::core::v1::{self, ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use super::super::{compile_pod, pod};
use super::cut;

/// When a process began and ended, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Moments {
    /// When it began.
    pub(in super::super) started: Option<Timestamp>,
    /// When it ended.
    pub(in super::super) finished: Option<Timestamp>,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Container {
    /// Its name.
    pub(in super::super) name: String,
    /// Its image as ordered.
    pub(in super::super) image: String,
    /// What it does.
    pub(in super::super) state: ContainerState,
}

/// What a container does: Kubernetes' `state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum ContainerState {
    /// The kubelet said nothing yet.
    #[default]
    Unknown,
    /// `waiting`.
    Waiting {
        /// For example `ContainerCreating`.
        reason: String,
        /// The kubelet's words.
        message: String,
    },
    /// `running`.
    Running,
    /// `terminated`.
    Terminated {
        /// The exit code.
        code: i64,
        /// For example `OOMKilled`.
        reason: String,
        /// The container's last words.
        message: String,
    },
}

impl Container {
    pub(in super::super) fn has_ended(&self) -> bool {
        matches!(self.state, ContainerState::Terminated { .. })
    }

    /// Whether it was killed for want of memory.
    pub(in super::super) fn is_out_of_memory(&self) -> bool {
        matches!(&self.state, ContainerState::Terminated { reason, .. } if reason == "OOMKilled")
    }

    /// Whether it waits for anything but its turn.
    pub(super) fn is_troubled(&self) -> bool {
        match &self.state {
            ContainerState::Waiting { reason, .. } => !matches!(
                reason.as_str(),
                "" | "ContainerCreating" | "PodInitializing"
            ),
            _ => false,
        }
    }
}

/// A container as the API server shows it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    ordered: Option<&'a v1::Container>,
    told: Option<&'a ContainerStatus>,
}

impl<'a> Seen<'a> {
    /// The main container of `pod`, and the one that brings what it needs.
    pub(super) fn both(pod: &'a Pod) -> [Self; 2] {
        let roles = [
            [compile_pod::MAIN, compile_pod::AGENT],
            [pod::MAIN, pod::INIT],
        ];
        let of = |names: [&str; 2]| names.map(|name| Self::of(pod, name));
        let [compile, chaincode] = roles.map(of);
        match compile[0].ordered {
            Some(_) => compile,
            None => chaincode,
        }
    }

    fn of(pod: &'a Pod, name: &str) -> Self {
        let spec = pod.spec.iter();
        let mut ordered = spec.flat_map(|it| {
            it.containers
                .iter()
                .chain(it.init_containers.iter().flatten())
        });
        let ordered = ordered.find(|it| it.name == name);
        let status = pod.status.iter();
        let mut told = status.flat_map(|it| {
            let statuses = [&it.container_statuses, &it.init_container_statuses];
            statuses.into_iter().flatten().flatten()
        });
        Self {
            ordered,
            told: told.find(|it| it.name == name),
        }
    }

    pub(super) fn container(self) -> Container {
        let Some(ordered) = self.ordered else {
            return Container::default();
        };
        Container {
            name: ordered.name.clone(),
            image: ordered.image.clone().unwrap_or_default(),
            state: self.told.map(state).unwrap_or_default(),
        }
    }

    pub(super) fn ended(self) -> Option<&'a ContainerStateTerminated> {
        self.told?.state.as_ref()?.terminated.as_ref()
    }

    /// Whether nothing waits for it any more: it was made, or there is none.
    pub(super) fn has_come(self) -> bool {
        self.ordered.is_none() || self.has_run()
    }

    /// Whether it runs, or says that it did: one that ended says when it started, and one that never was has no such time.
    pub(super) fn has_run(self) -> bool {
        let Some(state) = self.told.and_then(|told| told.state.as_ref()) else {
            return false;
        };
        state.running.is_some()
            || state.terminated.as_ref().is_some_and(|ended| {
                ended.started_at.as_ref().is_some_and(|at| true_one(at.0))
                    && !matches!(
                        ended.reason.as_deref(),
                        Some("StartError" | "ContainerCannotRun")
                    )
            })
    }

    pub(super) fn moments(self) -> Moments {
        let Some(state) = self.told.and_then(|told| told.state.as_ref()) else {
            return Moments::default();
        };
        let running = state.running.as_ref();
        let started = match &state.terminated {
            Some(ended) => ended.started_at.as_ref(),
            None => running.and_then(|running| running.started_at.as_ref()),
        };
        let finished = state.terminated.as_ref();
        let finished = finished.and_then(|ended| ended.finished_at.as_ref());
        let known = |at: Timestamp| true_one(at).then_some(at);
        Moments {
            started: started.and_then(|at| known(at.0)),
            finished: finished.and_then(|at| known(at.0)),
        }
    }
}

/// A container that never was has the beginning of the epoch.
fn true_one(at: Timestamp) -> bool {
    at.as_second() > 0
}

fn state(told: &ContainerStatus) -> ContainerState {
    let Some(state) = &told.state else {
        return ContainerState::Unknown;
    };
    if let Some(terminated) = &state.terminated {
        let by_signal = terminated.signal.filter(|signal| *signal > 0);
        ContainerState::Terminated {
            code: match (terminated.exit_code, by_signal) {
                (0, Some(signal)) => i64::from(signal) + 128,
                (code, _) => i64::from(code),
            },
            reason: terminated.reason.clone().unwrap_or_default(),
            message: cut(terminated.message.as_deref()),
        }
    } else if state.running.is_some() {
        ContainerState::Running
    } else if let Some(waiting) = &state.waiting {
        ContainerState::Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: cut(waiting.message.as_deref()),
        }
    } else {
        ContainerState::Unknown
    }
}
