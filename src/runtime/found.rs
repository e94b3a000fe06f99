//! What a runtime tells of a chaincode container that it holds: what was ordered, what it is doing, and its life so far.
//! Each runtime fills it from where its containers are; `container` passes it on to people. It knows no runtime.

use jiff::Timestamp;

use super::{ChaincodeSpec, State};

/// A chaincode container that a runtime holds.
#[derive(Clone, Debug)]
pub struct Found {
    /// As ordered.
    pub spec: ChaincodeSpec,
    /// What it is doing.
    pub state: State,
    /// Its life so far.
    pub life: Life,
}

/// When and where a container lived, by the clock of whoever runs it; what is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When its last launch started.
    pub started: Option<Timestamp>,
    /// When that ended.
    pub finished: Option<Timestamp>,
    /// Why that ended, where there is more to tell than an exit code: the words of whoever ran it.
    pub why: Option<String>,
    /// Whether it ended for want of memory.
    pub out_of_memory: bool,
    /// Where its launch is.
    pub place: Place,
}

/// Where a launch is to be found by the means of its runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere, or nobody knows.
    #[default]
    Unknown,
    /// In a pod.
    Pod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
    },
    /// In a process of this machine.
    Process {
        /// The process id as this machine counts it.
        pid: i32,
    },
    /// In a Docker Engine.
    Engine {
        /// The container's name there.
        name: String,
    },
}
