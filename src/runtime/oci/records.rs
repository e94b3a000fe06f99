//! What was ordered: one document per container, in the container's directory, and all of them in memory. The document
//! makes the container: it appears with the directory in one step, and goes first.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::blocking;
use crate::names::{CompileKey, ContainerId, ContainerKey, HostName, InstanceName, Tenant};
use crate::runtime::{ChaincodeSpec, Error, UploadedFile};

/// The document, in the container's directory.
const DOCUMENT: &str = "record.json";
/// The directory of uploaded files, beside it.
const FILES: &str = "files";

/// What was ordered, as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Record {
    /// A chaincode container.
    Chaincode(Box<Chaincode>),
    /// A compile.
    Compile(CompileKey),
}

/// A chaincode container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chaincode {
    /// As ordered.
    pub(super) spec: ChaincodeSpec,
    /// What was uploaded into it.
    pub(super) files: Vec<StoredFile>,
    /// Whether a start was ordered.
    pub(super) started: bool,
    /// When it was created, in milliseconds since the Unix epoch; absent in records of the first release.
    #[serde(default)]
    pub(super) created_millis: Option<i64>,
}

/// An uploaded file; its content lies beside the document.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredFile {
    /// Absolute path in the container.
    pub(super) path: String,
    /// Its name in the directory of files.
    pub(super) file: String,
}

/// How far the launch of a chaincode container is, as far as this process gave orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was started.
    Created,
    /// The host knows the rest.
    Launched,
    /// The start failed, and why.
    Refused(String),
    /// The container was removed.
    Removed,
}

struct Entry {
    record: Record,
    phase: watch::Sender<Phase>,
}

/// All records below one directory.
pub(super) struct Records {
    directory: PathBuf,
    entries: Mutex<HashMap<HostName, Entry>>,
}

impl Records {
    /// Reads the records in `directory`, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Refused`] for a directory or a document that cannot be read: says which.
    pub(super) async fn open(directory: &Path, instance: &InstanceName) -> Result<Self, Error> {
        let (directory, instance) = (directory.to_owned(), instance.clone());
        blocking(move || {
            private_directory(&directory)?;
            let mut entries = HashMap::new();
            for entry in fs::read_dir(&directory).map_err(|e| failed(&directory, &e))? {
                let path = entry.map_err(|e| failed(&directory, &e))?.path();
                let document = path.join(DOCUMENT);
                let bytes = match fs::read(&document) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed(&document, &error)),
                };
                let record: Record = match serde_json::from_slice(&bytes) {
                    Ok(record) => record,
                    Err(error) => {
                        tracing::error!(document = %document.display(), %error, "a record is damaged; its container is removed, and launched anew by its peer");
                        continue;
                    }
                };
                let phase = match &record {
                    Record::Chaincode(it) if !it.started => Phase::Created,
                    _ => Phase::Launched,
                };
                let phase = watch::Sender::new(phase);
                let name = record.name(&instance);
                if path.file_name() != Some(OsStr::new(name.as_str())) {
                    return Err(Error::Refused(format!(
                        "{}: a container of another instance than {instance}; set kubernetes.instance as it was, or another oci.directory",
                        path.display()
                    )));
                }
                entries.insert(name, Entry { record, phase });
            }
            Ok(Self {
                directory,
                entries: Mutex::new(entries),
            })
        })
        .await
    }

    /// The directories without a document: what a removal or a creation that was cut short leaves.
    pub(super) async fn unrecorded(&self) -> Result<Vec<HostName>, Error> {
        let directory = self.directory.clone();
        let found = blocking(move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(&directory).map_err(|e| failed(&directory, &e))? {
                let path = entry.map_err(|e| failed(&directory, &e))?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                match name.map(str::parse::<HostName>) {
                    Some(Ok(name)) => found.push(name),
                    // Never had a name.
                    _ => fs::remove_dir_all(&path).map_err(|e| failed(&path, &e))?,
                }
            }
            Ok(found)
        })
        .await?;
        Ok(found.into_iter().filter(|name| !self.knows(name)).collect())
    }

    /// Writes a record: of two for one name the first one stays, and the second is told `false`.
    pub(super) async fn create(&self, name: &HostName, record: Record) -> Result<bool, Error> {
        if self.entries().contains_key(name) {
            return Ok(false);
        }
        let path = self.directory.join(name.as_str());
        let document = record.clone();
        blocking(move || {
            // In one step: a directory without its document belongs to nobody.
            let above = path.parent().unwrap_or(Path::new("."));
            let made = tempfile::Builder::new()
                .prefix(".new-")
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir_in(above)
                .map_err(|e| failed(above, &e))?;
            write(&made.path().join(DOCUMENT), &document)?;
            fs::rename(made.path(), &path).map_err(|e| failed(&path, &e))?;
            // It has another name now.
            let _ = made.keep();
            let synced = fs::File::open(above).and_then(|directory| directory.sync_all());
            synced.map_err(|e| failed(above, &e))
        })
        .await?;
        let phase = watch::Sender::new(Phase::Created);
        self.entries().insert(name.clone(), Entry { record, phase });
        Ok(true)
    }

    /// The chaincode container called `name`.
    pub(super) fn chaincode(&self, name: &HostName) -> Option<Chaincode> {
        match &self.entries().get(name)?.record {
            Record::Chaincode(it) => Some((**it).clone()),
            Record::Compile(_) => None,
        }
    }

    /// The chaincode container of `tenant` with `id`.
    pub(super) fn find_id(&self, tenant: &Tenant, id: &ContainerId) -> Option<ContainerKey> {
        self.entries()
            .values()
            .find_map(|entry| match &entry.record {
                Record::Chaincode(it) if it.spec.id == *id && it.spec.key.tenant == *tenant => {
                    Some(it.spec.key.clone())
                }
                _ => None,
            })
    }

    /// The chaincode containers of `tenant`.
    pub(super) fn of_tenant(&self, tenant: &Tenant) -> Vec<ContainerKey> {
        let entries = self.entries();
        let keys = entries.values().filter_map(|entry| match &entry.record {
            Record::Chaincode(it) if it.spec.key.tenant == *tenant => Some(it.spec.key.clone()),
            _ => None,
        });
        keys.collect()
    }

    /// The compiles that there are.
    pub(super) fn compiles(&self) -> Vec<CompileKey> {
        let entries = self.entries();
        let keys = entries.values().filter_map(|entry| match &entry.record {
            Record::Compile(key) => Some(*key),
            Record::Chaincode(_) => None,
        });
        keys.collect()
    }

    /// Whether there is a record of `name`.
    pub(super) fn knows(&self, name: &HostName) -> bool {
        self.entries().contains_key(name)
    }

    /// Adds `files`; later ones of a path replace earlier ones.
    pub(super) async fn put_files(
        &self,
        name: &HostName,
        mut chaincode: Chaincode,
        files: Vec<UploadedFile>,
    ) -> Result<(), Error> {
        let path = self.directory.join(name.as_str());
        let chaincode = blocking(move || {
            let directory = path.join(FILES);
            private_directory(&directory)?;
            for uploaded in files {
                chaincode.files.retain(|it| it.path != uploaded.path);
                let file = rand::random::<u64>().to_string();
                let target = directory.join(&file);
                let mut options = fs::OpenOptions::new();
                options.write(true).create_new(true).mode(0o600);
                let written = options.open(&target).and_then(|mut opened| {
                    opened.write_all(uploaded.content.expose_secret())?;
                    // As the peer has it: the process may be another user than root.
                    opened.set_permissions(fs::Permissions::from_mode(uploaded.mode & 0o777))
                });
                written.map_err(|e| failed(&target, &e))?;
                chaincode.files.push(StoredFile {
                    path: uploaded.path,
                    file,
                });
            }
            write(
                &path.join(DOCUMENT),
                &Record::Chaincode(Box::new(chaincode.clone())),
            )?;
            Ok(chaincode)
        })
        .await?;
        self.replace(name, chaincode);
        Ok(())
    }

    /// Notes that `name` is started: what an interrupted start leaves is then known for what it is.
    pub(super) async fn set_started(
        &self,
        name: &HostName,
        mut chaincode: Chaincode,
    ) -> Result<(), Error> {
        chaincode.started = true;
        let document = self.directory.join(name.as_str()).join(DOCUMENT);
        let record = Record::Chaincode(Box::new(chaincode.clone()));
        blocking(move || write(&document, &record)).await?;
        self.replace(name, chaincode);
        Ok(())
    }

    /// Where the content of an uploaded file is.
    pub(super) fn file(&self, name: &HostName, file: &StoredFile) -> PathBuf {
        let directory = self.directory.join(name.as_str());
        directory.join(FILES).join(&file.file)
    }

    /// The directory of `name`.
    pub(super) fn directory(&self, name: &HostName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    /// How far `name` is, and what comes.
    pub(super) fn phase(&self, name: &HostName) -> Option<watch::Receiver<Phase>> {
        Some(self.entries().get(name)?.phase.subscribe())
    }

    pub(super) fn set_phase(&self, name: &HostName, phase: Phase) {
        if let Some(entry) = self.entries().get(name) {
            entry.phase.send_replace(phase);
        }
    }

    /// Removes the document of `name`; its directory is the host's to remove.
    pub(super) async fn remove(&self, name: &HostName) -> Result<(), Error> {
        let document = self.directory.join(name.as_str()).join(DOCUMENT);
        blocking(move || match fs::remove_file(&document) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&document, &error)),
            _ => Ok(()),
        })
        .await?;
        if let Some(entry) = self.entries().remove(name) {
            entry.phase.send_replace(Phase::Removed);
        }
        Ok(())
    }

    fn replace(&self, name: &HostName, chaincode: Chaincode) {
        if let Some(entry) = self.entries().get_mut(name) {
            entry.record = Record::Chaincode(Box::new(chaincode));
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<HostName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn name(&self, instance: &InstanceName) -> HostName {
        match self {
            Self::Chaincode(it) => HostName::chaincode(instance, &it.spec.key),
            Self::Compile(key) => HostName::compile(instance, key),
        }
    }
}

/// Replaces the document in one step.
fn write(document: &Path, record: &Record) -> Result<(), Error> {
    let directory = document.parent().unwrap_or(Path::new("."));
    let bytes = serde_json::to_vec(record).expect("strings, numbers and lists are JSON");
    let written = || {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&bytes)?;
        // A power cut must not leave an empty one.
        file.as_file().sync_all()?;
        file.persist(document).map_err(|error| error.error)
    };
    written().map(drop).map_err(|e| failed(document, &e))
}

/// A directory that only this user reads; there already is good too.
fn private_directory(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|e| failed(path, &e))
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::Refused(format!("{}: {error}", path.display()))
}
