//! What the agent of a run asks and tells beside its compiler's cache: the input, the log, the output, the exit. `delivery` calls it; a run
//! that is not known is an error that the agent outlasts.

use std::sync::Arc;

use super::{Compiles, ReportError};
use crate::names::CompileKey;
use crate::store::Ingest;

impl Compiles {
    /// The input of `key`, for its agent.
    ///
    /// # Errors
    /// [`ReportError::Unknown`].
    pub fn input(&self, key: &CompileKey) -> Result<Option<Arc<Ingest>>, ReportError> {
        let job = self.going_on(key)?;
        job.course.asked();
        Ok(job.input.clone())
    }

    /// Adds to the log of `key` what the agent read at `offset`; gives the log's new length.
    ///
    /// # Errors
    /// [`ReportError::Unknown`]; [`ReportError::Offset`] when the bytes do not continue the log.
    pub async fn append_log(
        &self,
        key: &CompileKey,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, ReportError> {
        self.going_on(key)?.append_log(offset, bytes).await
    }

    /// Takes the output of `key`: hostile input, checked before it is held, and kept when the command's success
    /// is reported. A later one replaces it: an agent whose report was not answered sends it again.
    ///
    /// # Errors
    /// [`ReportError::Unknown`], [`ReportError::Output`].
    pub async fn put_output(&self, key: &CompileKey, output: Ingest) -> Result<(), ReportError> {
        let job = self.going_on(key)?;
        let reader = output.reader()?;
        tokio::task::spawn_blocking(move || {
            crate::archive::read(reader, crate::archive::Limits::default(), |_, _| {
                Ok::<(), crate::archive::Error>(())
            })
        })
        .await
        .expect("reading an archive does not panic")?;
        job.set_output(output);
        Ok(())
    }

    /// The command of `key` exited with `code`: the last report. An agent that did not hear the answer repeats it
    /// while the run, over by now, is being discarded: that is no fault.
    ///
    /// # Errors
    /// [`ReportError::Unknown`].
    pub async fn exited(&self, key: &CompileKey, code: i64) -> Result<(), ReportError> {
        (self.job(key)?.report_exit(code, None, &self.0.store)).await
    }
}
