//! The orders for compiles: one container, named by the key, so that a restarted Peitho joins the run (design D7).
//! Called through the trait in `oci`.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::composition::{self, CompilePlaces};
use super::host::{Ending, State};
use super::records::Record;
use super::{Oci, blocking};
use crate::names::{CompileKey, HostName};
use crate::runtime::compile_agent::{self, CA, EXCHANGE, OUT_OF_MEMORY, TOKEN};
use crate::runtime::surroundings::BUNDLE;
use crate::runtime::{CompileSpec, Error, Exit, Milestone};

/// What the agent writes when it cannot report, in the container's directory.
const LAST_WORDS: &str = "last-words";
/// As much as a kubelet takes.
const WORDS_BYTES: u64 = 4096;

impl Oci {
    fn compile_name(&self, key: &CompileKey) -> HostName {
        HostName::compile(&self.settings.instance, key)
    }

    pub(super) async fn run_compile(&self, spec: &CompileSpec) -> Result<Exit, Error> {
        let name = self.compile_name(&spec.key);
        self.asked().insert(spec.key);
        {
            let _turn = self.compiles.turn(&spec.key).await;
            let beginning = self.begin_compile(&name, spec);
            beginning.instrument(tracing::debug_span!("order")).await?;
        }
        let (code, out_of_memory) = match self.host.ended(&name).await {
            Some(Ending::Exited {
                code,
                out_of_memory,
            }) => (code, out_of_memory),
            Some(Ending::NeverStarted { reason }) => return Err(Error::NeverStarted(reason)),
            None => {
                return Err(Error::NeverStarted(
                    "the compile's container was removed before it ended".to_owned(),
                ));
            }
        };
        if out_of_memory {
            compile_agent::write_notice(&spec.log, OUT_OF_MEMORY).await;
        }
        match self.last_words(&name).await {
            // The agent's own failure, which it could not report any other way.
            Some(words) => Err(Error::NeverStarted(words)),
            None => Ok(Exit { code }),
        }
    }

    async fn begin_compile(&self, name: &HostName, spec: &CompileSpec) -> Result<(), Error> {
        match self.host.state(name) {
            Some(State::Starting | State::Running) if self.records.knows(name) => {
                tracing::info!(compile = %spec.key, "compile: joins the container that runs");
                return Ok(());
            }
            None if !self.records.knows(name) => {}
            // Left by a Peitho that ended before it could clean up.
            _ => self.discard_compile(&spec.key).await?,
        }
        let base = self.rootfs.base(&spec.image).await?;
        self.records.create(name, Record::Compile(spec.key)).await?;
        let begun = async {
            let places = self.compile_places(name, &spec.key).await?;
            let plan = composition::compile(spec, &base, &self.settings, places);
            self.host.start(name, &plan).await?;
            spec.milestones.reach(Milestone::Made);
            Ok(())
        };
        let begun = begun.await;
        if begun.is_err() {
            self.discard_compile(&spec.key).await?;
        }
        begun
    }

    async fn compile_places(
        &self,
        name: &HostName,
        key: &CompileKey,
    ) -> Result<CompilePlaces, Error> {
        let directory = self.records.directory(name);
        let token = compile_agent::token(&self.grants, key);
        let authority = self.settings.delivery_ca_pem.clone();
        let bundle = self.settings.surroundings.bundle().map(str::to_owned);
        let places = CompilePlaces {
            program: self.settings.peitho.clone(),
            credentials: directory.join("credentials"),
            last_words: directory.join(LAST_WORDS),
            trust: bundle.is_some().then(|| directory.join("trust")),
            exchange: directory.join("volumes"),
        };
        blocking(move || {
            write_places(&places, &token, &authority, bundle.as_deref())
                .map(|()| places)
                .map_err(|error| Error::Refused(format!("{}: {error}", directory.display())))
        })
        .await
    }

    /// What the agent wrote where it cannot report. The command may write there too, and as much as it likes.
    async fn last_words(&self, name: &HostName) -> Option<String> {
        let path = self.records.directory(name).join(LAST_WORDS);
        let read = tokio::task::spawn_blocking(move || {
            let mut words = Vec::new();
            let file = fs::File::open(path).ok()?;
            file.take(WORDS_BYTES).read_to_end(&mut words).ok()?;
            Some(words)
        });
        let words = String::from_utf8_lossy(&read.await.ok()??)
            .trim()
            .to_owned();
        (!words.is_empty()).then_some(words)
    }

    /// Compiles that an earlier process began, and that nobody asked for within `grace`. There is no other process: the
    /// directory is for one.
    pub(super) async fn unheld_compiles(&self, grace: Duration) -> Result<Vec<CompileKey>, Error> {
        let found = self.records.compiles();
        if found.is_empty() {
            return Ok(found);
        }
        sleep_until(Instant::now() + grace).await;
        let asked = self.asked();
        Ok(found
            .into_iter()
            .filter(|key| !asked.contains(key))
            .collect())
    }

    pub(super) async fn discard_compile(&self, key: &CompileKey) -> Result<(), Error> {
        let name = self.compile_name(key);
        self.host.kill(&name).await?;
        self.records.remove(&name).await?;
        self.host.remove(&name).await?;
        self.asked().remove(key);
        Ok(())
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<CompileKey>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes all of `places`. The builder image may name another user than root: what lies here is open, and the container's
/// directory is closed to everybody else.
fn write_places(
    places: &CompilePlaces,
    token: &SecretString,
    authority: &str,
    bundle: Option<&str>,
) -> io::Result<()> {
    make_directory(&places.credentials, 0o755)?;
    let token = token.expose_secret().as_bytes();
    write_file(&places.credentials.join(TOKEN), 0o444, token)?;
    write_file(&places.credentials.join(CA), 0o444, authority.as_bytes())?;
    write_file(&places.last_words, 0o666, b"")?;
    if let (Some(trust), Some(bundle)) = (&places.trust, bundle) {
        make_directory(trust, 0o755)?;
        write_file(&trust.join(BUNDLE), 0o444, bundle.as_bytes())?;
    }
    make_directory(&places.exchange, 0o755)?;
    for (name, _) in EXCHANGE {
        make_directory(&places.exchange.join(name), 0o1777)?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    // Not by the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn write_file(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}
