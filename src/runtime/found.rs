//! What a runtime tells of a chaincode container that it holds: what was ordered, what it is doing, and its life so far.
//! Each runtime fills it from where its containers are, and has the records of a list read here; `container` passes it on to
//! people. It knows no runtime.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::{ChaincodeSpec, Error, State};
use crate::names::{ContainerKey, Tenant};

/// So many records are read at once for a list.
const AT_ONCE: usize = 8;

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

/// What `read` has of each of `keys`, which are of `tenant`, in no order. One that cannot be read is left out and told in the
/// log: it is not to hide the others.
///
/// # Errors
/// [`Error::Unavailable`] when whoever has the records is away.
pub(super) async fn read_each<R, F>(
    tenant: &Tenant,
    keys: Vec<ContainerKey>,
    read: impl Fn(ContainerKey) -> F,
) -> Result<Vec<R>, Error>
where
    F: Future<Output = Result<Option<R>, Error>>,
{
    let records = stream::iter(keys)
        .map(read)
        .buffer_unordered(AT_ONCE)
        .filter_map(async |read| match read {
            Err(Error::Refused(reason)) => {
                tracing::warn!(%tenant, reason, "a container is left out of the list");
                None
            }
            read => Some(read),
        })
        .try_collect::<Vec<_>>();
    Ok(records.await?.into_iter().flatten().collect())
}
