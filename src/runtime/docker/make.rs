//! How containers come to be, for both roles: one is made under a name of its own, gets what belongs into it, and only
//! then its true name. So whoever finds it finds it whole, and the engine's 409 decides between two.

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, RenameContainerOptions, UploadToContainerOptions,
};

use super::archive::Body;
use super::request::Bound;
use super::{Engine, watch};
use crate::names::ImageName;
use crate::names::docker as names;
use crate::runtime::Error;

/// A container that is not complete after so long was left by a process that is no more.
const DRAFT_SECONDS: i64 = 15 * 60;

/// How a container got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// It has it.
    Done,
    /// Another one has it, and this one is gone.
    Taken,
}

impl Engine {
    /// Makes the container `draft` of `image`, which is pulled when the engine does not have it.
    pub(super) async fn make(
        &self,
        draft: &str,
        image: &ImageName,
        body: &ContainerCreateBody,
    ) -> Result<(), Error> {
        let create = || async {
            let options = CreateContainerOptions {
                name: Some(draft.to_owned()),
                ..CreateContainerOptions::default()
            };
            let sent = self.docker.create_container(Some(options), body.clone());
            sent.await.map(|created| created.warnings)
        };
        let mut created = self.requests.call(Bound::Long, create).await;
        if matches!(&created, Err(failure) if failure.is_no_image()) {
            self.pull(&self.settings.places.of(image)).await?;
            created = self.requests.call(Bound::Long, create).await;
        }
        match created {
            Ok(warnings) => {
                for warning in warnings {
                    tracing::debug!(container = draft, warning, "the Docker Engine warns");
                }
                Ok(())
            }
            // The first reply was lost: nobody else has this name.
            Err(failure) if failure.is_conflict() => Ok(()),
            Err(failure) => Err(self
                .requests
                .error(failure, &format!("creating a container of image {image}"))),
        }
    }

    /// Puts the archive that `open` gives into the container `name`, at `path`.
    pub(super) async fn put<F, Fut>(
        &self,
        name: &str,
        path: &str,
        open: F,
        what: &str,
    ) -> Result<(), Error>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = std::io::Result<Body>>,
    {
        let sent = self.requests.call(Bound::Long, || async {
            let options = UploadToContainerOptions {
                path: path.to_owned(),
                ..UploadToContainerOptions::default()
            };
            // That it cannot be read is no fault of the engine's, and will not pass.
            let body = open()
                .await
                .map_err(|error| bollard::errors::Error::DockerStreamError {
                    error: error.to_string(),
                })?;
            let body = bollard::body_try_stream(body);
            self.docker
                .upload_to_container(name, Some(options), body)
                .await
        });
        sent.await
            .map_err(|failure| self.requests.error(failure, what))
    }

    /// Gives the complete container `draft` the name `name`.
    pub(super) async fn name(&self, draft: &str, name: &str) -> Result<Named, Error> {
        let renamed = self
            .requests
            .call(Bound::Short, || {
                let options = RenameContainerOptions {
                    name: name.to_owned(),
                };
                self.docker.rename_container(draft, options)
            })
            .await;
        match renamed {
            Ok(()) => Ok(Named::Done),
            // The first reply was lost: nobody else knows the draft.
            Err(failure) if failure.is_no_container() => Ok(Named::Done),
            Err(failure) if failure.is_conflict() => {
                self.delete(draft).await?;
                Ok(Named::Taken)
            }
            Err(failure) => Err(self
                .requests
                .error(failure, &format!("naming a container {name}"))),
        }
    }

    /// Leaves nothing of `draft` behind where `made` is an error.
    pub(super) async fn or_removed<T>(
        &self,
        draft: &str,
        made: Result<T, Error>,
    ) -> Result<T, Error> {
        if made.is_err()
            && let Err(error) = self.delete(draft).await
        {
            tracing::warn!(container = draft, %error, "a container that was not completed was not removed");
        }
        made
    }

    /// Removes what a process that is no more began and did not complete. Best effort: the next start tries again.
    pub(super) async fn remove_drafts(&self) {
        let removed = async {
            let failed = |failure| self.requests.error(failure, "listing containers");
            let now = watch::now(&self.docker, &self.requests)
                .await
                .map_err(failed)?;
            let old = now.map_or(0, |now| now.as_second()) - DRAFT_SECONDS;
            for it in self.list(&[]).await.map_err(failed)? {
                let is_draft = it.names.iter().flatten().any(|it| names::is_draft(it));
                let is_old = it.created.is_some_and(|created| created < old);
                if let Some(id) = it.id.filter(|_| is_draft && is_old) {
                    self.delete(&id).await?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(%error, "what an earlier process did not complete was not removed");
        }
    }
}
