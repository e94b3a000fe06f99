//! The orders for chaincode containers: create, files, start, end and removal. Called through the trait in `docker`,
//! which has taken the container's turn where two orders must not overlap.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::{
    ListContainersOptions, RemoveContainerOptions, StopContainerOptions,
};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::archive;
use super::make::Named;
use super::record::{self, Record};
use super::request::{Bound, Failure};
use super::{Engine, order};
use crate::image_spec::Layer;
use crate::names::docker as names;
use crate::names::{ContainerId, ContainerKey, Tenant};
use crate::runtime::found::read_each;
use crate::runtime::{ChaincodeSpec, Error, Found, Outcome, Started, State, UploadedFile};

/// How long a process may take to end by itself when it is told to: as in a pod.
const GRACE_SECONDS: i32 = 1;
/// How often, and after how long at the latest, one looks whether a container that somebody else removes is gone.
const LOOKS: u32 = 30;
const AGAIN: Duration = Duration::from_secs(2);

impl Engine {
    pub(super) async fn create(self: &Arc<Self>, spec: &ChaincodeSpec) -> Result<(), Error> {
        let (engine, spec) = (Arc::clone(self), spec.clone());
        // What was begun is seen through, also when the peer has closed its connection: nothing half made is left.
        let created = tokio::spawn(async move {
            let _turn = engine.containers.turn(&spec.key).await;
            engine.create_whole(&spec).await
        });
        created
            .await
            .unwrap_or_else(|error| Err(Error::Refused(format!("creating a container: {error}"))))
    }

    async fn create_whole(&self, spec: &ChaincodeSpec) -> Result<(), Error> {
        let name = names::chaincode(&self.settings.instance, &spec.key);
        if spec.host.read_only_root && spec.layer.destination.is_empty() {
            return Err(Error::Refused(format!(
                "container {} is to have a read-only root, and its image adds files at / : nothing can be put there",
                spec.key
            )));
        }
        // The engine decides below; this spares the work.
        if self.look(&name).await?.is_some() {
            return Err(Error::Exists(spec.key.clone()));
        }
        let draft = names::draft(&name);
        let body = order::chaincode(spec, &self.settings, self.cpus);
        let made = async {
            self.make(&draft, &spec.base, &body).await?;
            self.put_layer(&draft, spec).await?;
            self.name(&draft, &name).await
        };
        match self.or_removed(&draft, made.await).await? {
            Named::Done => Ok(()),
            Named::Taken => Err(Error::Exists(spec.key.clone())),
        }
    }

    async fn put_layer(&self, draft: &str, spec: &ChaincodeSpec) -> Result<(), Error> {
        let Layer {
            blob, destination, ..
        } = &spec.layer;
        let what = format!("putting layer {} into container {}", blob.digest, spec.key);
        let opened = || async {
            let opened = self.store.open_blob(&blob.digest).await;
            let opened = opened.map_err(|error| std::io::Error::other(error.to_string()))?;
            let missing = || {
                std::io::Error::other(
                    "the store does not have it; run `peitho images verify`, and do what it says",
                )
            };
            opened.map(|(file, _)| file).ok_or_else(missing)
        };
        let open = || async {
            let file = opened().await?;
            Ok(if spec.host.read_only_root {
                let destination = destination.clone();
                archive::written(move |archive| archive::below(archive, file, &destination))
            } else {
                archive::of_file(file)
            })
        };
        let path = match spec.host.read_only_root {
            true => destination.as_str(),
            false => "/",
        };
        self.put(draft, path, open, &what).await
    }

    /// The record of `key`, asked from the engine.
    pub(super) async fn record(&self, key: &ContainerKey) -> Result<Option<Record>, Error> {
        let name = names::chaincode(&self.settings.instance, key);
        match self.look(&name).await? {
            Some(shown) => Record::read(&shown, &name, &self.settings.instance, key),
            None => Ok(None),
        }
    }

    pub(super) async fn existing(&self, key: &ContainerKey) -> Result<Record, Error> {
        let record = self.record(key).await?;
        record.ok_or_else(|| Error::NotFound(key.clone()))
    }

    pub(super) async fn find_id(
        &self,
        tenant: &Tenant,
        id: &ContainerId,
    ) -> Result<Option<ContainerKey>, Error> {
        let found = self
            .list(&names::of_id(tenant, id))
            .await
            .map_err(|failure| {
                self.requests
                    .error(failure, "listing containers by their id")
            })?;
        let key = found.into_iter().find_map(|it| {
            let name = it.labels?.remove(names::NAME)?.parse().ok()?;
            let tenant = tenant.clone();
            let is_draft = it.names?.iter().any(|name| names::is_draft(name));
            (!is_draft).then_some(ContainerKey { tenant, name })
        });
        Ok(key)
    }

    /// All chaincode containers of `tenant` that are complete.
    pub(super) async fn list_containers(&self, tenant: &Tenant) -> Result<Vec<Found>, Error> {
        let listed = self.list(&names::of_tenant(tenant)).await;
        let listed = listed.map_err(|failure| {
            self.requests
                .error(failure, &format!("listing the containers of {tenant}"))
        })?;
        let keys = listed.into_iter().filter_map(|it| {
            let name = it.labels?.remove(names::NAME)?.parse().ok()?;
            let tenant = tenant.clone();
            let is_draft = it.names?.iter().any(|name| names::is_draft(name));
            (!is_draft).then_some(ContainerKey { tenant, name })
        });
        // The list does not tell why and when one ended.
        let read = |key| async move { self.record(&key).await };
        let records = read_each(tenant, keys.collect(), read).await?;
        Ok(records.into_iter().map(Found::from).collect())
    }

    /// The containers of this instance with all of these labels, running or not.
    pub(super) async fn list(
        &self,
        labels: &[String],
    ) -> Result<Vec<bollard::models::ContainerSummary>, Failure> {
        let mut filter = vec![names::of_instance(&self.settings.instance)];
        filter.extend(labels.iter().cloned());
        self.requests
            .call(Bound::Short, || {
                let options = ListContainersOptions {
                    all: true,
                    filters: Some(HashMap::from([("label".to_owned(), filter.clone())])),
                    ..ListContainersOptions::default()
                };
                self.docker.list_containers(Some(options))
            })
            .await
    }

    pub(super) async fn put_files(
        &self,
        key: &ContainerKey,
        files: Vec<UploadedFile>,
    ) -> Result<(), Error> {
        let record = self.existing(key).await?;
        if record.state != State::Created {
            return Err(Error::Refused(format!(
                "container {key} was started: files can be put before the start only"
            )));
        }
        let files = Arc::new(files);
        let open = || {
            let files = Arc::clone(&files);
            let body = archive::written(move |archive| {
                files.iter().try_for_each(|file| {
                    let content = file.content.expose_secret();
                    archive::file(archive, &file.path, file.mode & 0o7777, content)
                })
            });
            std::future::ready(Ok(body))
        };
        let what = format!("putting files into container {key}");
        self.put(&record.engine_id, "/", open, &what).await
    }

    pub(super) async fn start(self: Arc<Self>, key: &ContainerKey) -> Result<Started, Error> {
        let record = self.existing(key).await?;
        let follow = self.watch.follow(&record.engine_id);
        if record.state == State::Running {
            let (outcome, launch) = (Outcome::Already, self.followed(record, follow));
            return Ok(Started { outcome, launch });
        }
        let id = &record.engine_id;
        let started = self
            .requests
            .call(Bound::Long, || self.docker.start_container(id, None))
            .await;
        match started {
            Ok(()) => {
                let launch = self.begun(record, follow).await;
                let outcome = Outcome::Done;
                Ok(Started { outcome, launch })
            }
            Err(failure) if failure.is_no_container() => Err(Error::NotFound(key.clone())),
            Err(Failure::Status { message, .. }) => {
                // Whoever waits for the start, or reads the output, has to hear of it (protocol rule 10), and the engine
                // keeps the words but tells no event.
                self.watch.look_again();
                Err(Error::NeverStarted(message))
            }
            Err(failure) => Err(self
                .requests
                .error(failure, &format!("starting container {key}"))),
        }
    }

    pub(super) async fn stop(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        let record = self.existing(key).await?;
        if record.state != State::Running {
            return Ok(Outcome::Already);
        }
        let stopped = self
            .requests
            .call(Bound::Long, || {
                let options = StopContainerOptions {
                    t: Some(GRACE_SECONDS),
                    ..StopContainerOptions::default()
                };
                self.docker.stop_container(&record.engine_id, Some(options))
            })
            .await;
        match stopped {
            Ok(()) => {
                // The stream of events may be still without anybody knowing.
                self.watch.look_at(&record.engine_id);
                Ok(Outcome::Done)
            }
            Err(failure) if failure.is_no_container() => Err(Error::NotFound(key.clone())),
            Err(failure) => Err(self
                .requests
                .error(failure, &format!("stopping container {key}"))),
        }
    }

    pub(super) async fn remove(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        let record = self.existing(key).await?;
        self.delete(&record.engine_id).await?;
        // As after a stop.
        self.watch.look_at(&record.engine_id);
        Ok(Some(record.into()))
    }

    /// Ends and deletes the container with this name or id, and waits until it is gone. One that is not there is gone.
    pub(super) async fn delete(&self, name: &str) -> Result<(), Error> {
        let Some(shown) = self.look(name).await? else {
            return Ok(());
        };
        let id = record::own_id(&shown, name, &self.settings.instance)?;
        let mut follow = self.watch.follow(&id);
        let deleted = self
            .requests
            .call(Bound::Long, || {
                let options = RemoveContainerOptions {
                    force: true,
                    v: true,
                    link: false,
                };
                self.docker.remove_container(&id, Some(options))
            })
            .await;
        match deleted {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_no_container() => Ok(()),
            // Somebody else removes it at this moment.
            Err(failure) if failure.is_conflict() => {
                for _ in 0..LOOKS {
                    if self.look(&id).await?.is_none() {
                        return Ok(());
                    }
                    let _ = timeout(AGAIN, follow.change()).await;
                }
                Err(Error::Refused(format!(
                    "container {name} is being removed by somebody else and does not go; see the log of the Docker Engine"
                )))
            }
            Err(failure) => Err(self
                .requests
                .error(failure, &format!("removing container {name}"))),
        }
    }
}
