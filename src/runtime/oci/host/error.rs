//! What can go wrong with the containers of a host, as its owner tells it apart.

use std::io;
use std::path::Path;

use super::place::Id;
use crate::inotify_limit;

/// What goes wrong with this host's containers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("{0} is in use by another Peitho")]
    InUse(String),
    /// The kernel gives no watch.
    #[error("cannot watch containers: {0}{advice}", advice = inotify_limit::advice(.0))]
    Watch(io::Error),
    /// What belongs to a container cannot be removed.
    #[error("container {id} is not gone: {reason}")]
    Stuck {
        /// Which.
        id: Id,
        /// The last word of whoever tried.
        reason: String,
    },
}

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was started before.
    #[error("container {0} was started already")]
    Started(Id),
    /// The process never ran: the reason in the words of the runtime.
    #[error("{0}")]
    NeverStarted(String),
    /// This host's side failed.
    #[error(transparent)]
    Host(#[from] Error),
}

pub(super) fn file(path: &Path, source: io::Error) -> Error {
    Error::File {
        path: path.display().to_string(),
        source,
    }
}

pub(super) fn stuck(id: &Id, reason: &str) -> Error {
    Error::Stuck {
        id: id.clone(),
        reason: reason.to_owned(),
    }
}
