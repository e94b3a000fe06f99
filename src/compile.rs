//! Compiles: run once per key, however many peers ask (design D7). `container` asks for runs, `delivery`
//! brings what the agent in the pod reports, `runtime` makes the pod. A run belongs to no connection.

use std::sync::Arc;

use tokio::sync::watch;

use crate::names::CompileKey;
use crate::store::spool::Spool;
use crate::store::{self, Blob, Ingest};

/// What the agent's report can meet.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No such compile is going on here (any more, or yet: after a restart the peer has to ask again).
    #[error("no compile {0} is going on")]
    Unknown(CompileKey),
    /// The bytes do not continue the log; the agent goes on from `expected`.
    #[error("the log has {expected} bytes")]
    Offset {
        /// The log's length.
        expected: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The output is not an archive that a build may give.
    #[error("compile output: {0}")]
    Output(#[from] crate::archive::Error),
}

/// How a compile ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The command ran and exited.
    Exited {
        /// Its code.
        code: i64,
        /// What it left in `/chaincode/output`: a plain tar, where the code is 0.
        output: Option<Blob>,
    },
    /// It never ran, or its pod was lost: the reason for the peer.
    Failed(Arc<str>),
}

/// A compile as its askers see it.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its log from the first line.
    pub log: Spool,
    /// How it ended, once it did.
    pub end: watch::Receiver<Option<End>>,
}

/// The door to compiles; clones share it.
#[derive(Clone)]
pub struct Compiles {}

impl Compiles {
    /// The input of `key`, for the agent in its pod.
    ///
    /// # Errors
    /// [`ReportError::Unknown`].
    pub fn input(&self, key: &CompileKey) -> Result<Option<Blob>, ReportError> {
        let _ = key;
        todo!()
    }

    /// Adds to the log of `key` what the agent read at `offset`; gives the log's new length.
    ///
    /// # Errors
    /// [`ReportError::Offset`] when the bytes do not continue the log.
    pub async fn append_log(
        &self,
        key: &CompileKey,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, ReportError> {
        let _ = (key, offset, bytes);
        todo!()
    }

    /// Takes the output of `key`: hostile input, checked before it is kept.
    ///
    /// # Errors
    /// [`ReportError::Output`].
    pub async fn put_output(&self, key: &CompileKey, output: Ingest) -> Result<(), ReportError> {
        let _ = (key, output);
        todo!()
    }

    /// The command of `key` exited with `code`: the last report.
    ///
    /// # Errors
    /// [`ReportError::Unknown`].
    pub async fn exited(&self, key: &CompileKey, code: i64) -> Result<(), ReportError> {
        let _ = (key, code);
        todo!()
    }
}
