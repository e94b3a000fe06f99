//! The waits for containers: for a start, for a process, for its end. Nothing is locked meanwhile: a wait lasts as long
//! as its process, also while the engine is away and comes back.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use tokio::time::timeout;

use super::Engine;
use super::record;
use super::request::Failure;
use super::watch::Follow;
use crate::names::ContainerKey;
use crate::runtime::{Error, Exit, State};

/// After how long an engine that gave no answer is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// What one who waits for a container may come to see.
#[derive(Debug)]
pub(super) enum Sight {
    /// It is there, and this is what it is doing.
    There(State),
    /// It is gone. The code of its process, where an event told it.
    Gone(Option<i64>),
}

impl Engine {
    pub(super) async fn until_running(&self, key: &ContainerKey) -> Result<State, Error> {
        let (_, sight) = self.until_started(key).await?;
        match sight {
            Sight::There(state) => Ok(state),
            Sight::Gone(Some(code)) => Ok(State::Exited(Exit { code })),
            Sight::Gone(None) => Err(gone_before(key)),
        }
    }

    /// A container that was not started is waited for. That it is removed meanwhile ends the wait with
    /// [`Error::NeverStarted`]: Docker answers 0 here, but an exit code is for a process that ran (design D11). A process
    /// whose container is removed is one that was killed: 137, as in Docker.
    pub(super) async fn until_exit(&self, key: &ContainerKey) -> Result<Exit, Error> {
        let (mut follow, mut sight) = self.until_started(key).await?;
        let mut ran = false;
        loop {
            match sight {
                Sight::There(State::Exited(exit)) => return Ok(exit),
                Sight::There(State::NeverStarted(reason)) => {
                    return Err(Error::NeverStarted(reason));
                }
                Sight::There(State::Running) => ran = true,
                Sight::There(State::Created | State::Starting) => {}
                Sight::Gone(Some(code)) => return Ok(Exit { code }),
                Sight::Gone(None) if ran => return Ok(Exit { code: 137 }),
                Sight::Gone(None) => return Err(gone_before(key)),
            }
            follow.change().await;
            sight = self.sight(&mut follow).await?;
        }
    }

    /// Waits until the container `key` is more than created.
    pub(super) async fn until_started(&self, key: &ContainerKey) -> Result<(Follow, Sight), Error> {
        let record = self.existing(key).await?;
        let mut follow = self.watch.follow(&record.engine_id);
        loop {
            match self.sight(&mut follow).await? {
                Sight::There(State::Created | State::Starting) => follow.change().await,
                sight => return Ok((follow, sight)),
            }
        }
    }

    /// What there is to see of the container that `follow` follows, once the engine can be asked.
    ///
    /// # Errors
    /// [`Error::Refused`] when it answers with neither.
    pub(super) async fn sight(&self, follow: &mut Follow) -> Result<Sight, Error> {
        Ok(match self.glimpse(follow).await? {
            Some(shown) => Sight::There(record::state(shown.state.as_ref())),
            None => Sight::Gone(follow.died()),
        })
    }

    /// The same as the engine shows it; `None` when it is gone.
    ///
    /// # Errors
    /// [`Error::Refused`] when it answers with neither.
    pub(super) async fn glimpse(
        &self,
        follow: &mut Follow,
    ) -> Result<Option<ContainerInspectResponse>, Error> {
        loop {
            match self.look_once(follow.id()).await {
                Ok(shown) => return Ok(shown),
                // When it is back, the stream of events mostly is too, and that is news.
                Err(Failure::Away(cause)) => {
                    tracing::debug!(cause, "a container cannot be looked at now");
                    let _ = timeout(AGAIN, follow.change()).await;
                }
                Err(failure) => {
                    let what = format!("reading container {}", follow.id());
                    return Err(self.requests.error(failure, &what));
                }
            }
        }
    }
}

fn gone_before(key: &ContainerKey) -> Error {
    Error::NeverStarted(format!("container {key} was removed before it was started"))
}
