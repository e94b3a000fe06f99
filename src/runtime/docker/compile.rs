//! The orders for compiles: a container named by the key, so that a restarted Peitho joins the run (design D7). Called
//! through the trait in `docker`.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::time::sleep;
use tracing::Instrument as _;

use super::archive;
use super::make::Named;
use super::request::{Bound, Failure};
use super::wait::Sight;
use super::watch::Follow;
use super::{Engine, order, program, record};
use crate::names::CompileKey;
use crate::names::docker as names;
use crate::runtime::compile_agent::{self, OUT_OF_MEMORY, write_notice};
use crate::runtime::surroundings::BUNDLE;
use crate::runtime::{CompileSpec, Error, Exit, Milestone, State};
use crate::store::spool::Spool;

/// After how long without a start the log says what is waited for.
const NOTICE_AFTER: Duration = Duration::from_secs(3);
/// How often a run is begun anew when what was there under its name goes away.
const ATTEMPTS: usize = 3;
/// The agent's own failure, which it could not report any other way than by this code and a line (`agent::FAILED`).
const AGENT_FAILED: i64 = 125;

impl Engine {
    pub(super) async fn run_compile(&self, spec: &CompileSpec) -> Result<Exit, Error> {
        program::check(&self.settings.program).map_err(Error::Refused)?;
        let id = {
            let _turn = self.compiles.turn(&spec.key).await;
            let beginning = self.compile_begun(spec);
            beginning.instrument(tracing::debug_span!("order")).await?
        };
        let mut follow = self.watch.follow(&id);
        tokio::select! {
            exit = self.compile_end(&mut follow, &spec.log) => exit,
            never = self.hold(&id) => match never {},
        }
    }

    pub(super) async fn discard_compile(&self, key: &CompileKey) -> Result<(), Error> {
        self.delete(&names::compile(&self.settings.instance, key))
            .await
    }

    /// The engine's id of the container of the run, new or joined.
    async fn compile_begun(&self, spec: &CompileSpec) -> Result<String, Error> {
        let name = names::compile(&self.settings.instance, &spec.key);
        for _ in 0..ATTEMPTS {
            let Some(shown) = self.look(&name).await? else {
                self.compile_made(spec, &name).await?;
                continue;
            };
            let id = record::own_id(&shown, &name, &self.settings.instance)?;
            match record::state(shown.state.as_ref()) {
                State::Running | State::Starting => return Ok(id),
                State::Created => return self.compile_started(spec, id).await,
                // Left by a Peitho that ended before it could clean up.
                State::Exited(_) | State::NeverStarted(_) => self.delete(&id).await?,
            }
        }
        Err(Error::Refused(format!(
            "the container of compile {} was made and removed {ATTEMPTS} times by others; see whether two Peithos have \
             the instance name {}",
            spec.key, self.settings.instance
        )))
    }

    /// Makes the container of the run, whole but not started, unless somebody else is faster.
    async fn compile_made(&self, spec: &CompileSpec, name: &str) -> Result<Named, Error> {
        let draft = names::draft(name);
        let body = order::compile(spec, &self.settings, self.cpus);
        let made = async {
            let make = self.make(&draft, &spec.image, &body);
            tokio::pin!(make);
            tokio::select! {
                made = &mut make => made?,
                () = sleep(NOTICE_AFTER) => {
                    let text = format!("waiting: the Docker Engine pulls image {}", spec.image);
                    write_notice(&spec.log, &text).await;
                    make.await?;
                }
            }
            self.put_agent(&draft, spec).await?;
            self.name(&draft, name).await
        };
        self.or_removed(&draft, made.await).await
    }

    /// Puts this program and what it needs into the container.
    async fn put_agent(&self, draft: &str, spec: &CompileSpec) -> Result<(), Error> {
        let token = compile_agent::token(&self.grants, &spec.key);
        let open = || {
            let (token, settings) = (token.clone(), self.settings.clone());
            let body = archive::written(move |archive| {
                for directory in [
                    "/run/peitho",
                    compile_agent::PROGRAM_DIRECTORY,
                    compile_agent::CREDENTIALS,
                    compile_agent::TRUST,
                ] {
                    archive::directory(archive, directory, 0o755)?;
                }
                // The image says as whom all runs, mostly by a name that only the engine can look up.
                for (_, directory) in compile_agent::WRITABLE {
                    archive::directory(archive, directory, 0o777)?;
                }
                let credential = |name: &str| format!("{}/{name}", compile_agent::CREDENTIALS);
                let (token_file, ca) = (
                    credential(compile_agent::TOKEN),
                    credential(compile_agent::CA),
                );
                archive::file(
                    archive,
                    &token_file,
                    0o444,
                    token.expose_secret().as_bytes(),
                )?;
                archive::file(archive, &ca, 0o444, settings.delivery_ca_pem.as_bytes())?;
                if let Some(bundle) = settings.surroundings.bundle() {
                    let path = format!("{}/{BUNDLE}", compile_agent::TRUST);
                    archive::file(archive, &path, 0o444, bundle.as_bytes())?;
                }
                archive::program(archive, compile_agent::PROGRAM, &settings.program)
            });
            std::future::ready(Ok(body))
        };
        let what = format!(
            "putting the agent into the container of compile {}",
            spec.key
        );
        self.put(draft, "/", open, &what).await
    }

    async fn compile_started(&self, spec: &CompileSpec, id: String) -> Result<String, Error> {
        let started = self
            .requests
            .call(Bound::Long, || self.docker.start_container(&id, None))
            .await;
        match started {
            Ok(()) => {
                spec.milestones.reach(Milestone::Made);
                Ok(id)
            }
            Err(Failure::Status { message, .. }) => {
                self.watch.look_again();
                Err(Error::NeverStarted(format!(
                    "compile container of image {}: {message}",
                    spec.image
                )))
            }
            Err(failure) => {
                let what = format!("starting the container of compile {}", spec.key);
                Err(self.requests.error(failure, &what))
            }
        }
    }

    /// Waits for the end of the run.
    async fn compile_end(&self, follow: &mut Follow, log: &Spool) -> Result<Exit, Error> {
        loop {
            match self.sight(follow).await? {
                Sight::There(State::Exited(exit)) => {
                    return self.explained(follow.id(), exit, log).await;
                }
                Sight::There(State::NeverStarted(reason)) => {
                    return Err(Error::NeverStarted(reason));
                }
                Sight::There(State::Created | State::Starting | State::Running) => {}
                Sight::Gone(code) => {
                    return Ok(Exit {
                        code: code.unwrap_or(137),
                    });
                }
            }
            follow.change().await;
        }
    }

    /// What the code alone does not tell: a peer sees 137 and the log, and here the log says why; a failure of the agent's
    /// own it could not report.
    async fn explained(&self, id: &str, exit: Exit, log: &Spool) -> Result<Exit, Error> {
        match exit.code {
            137 => {
                let shown = self.look(id).await?.and_then(|shown| shown.state);
                if shown.is_some_and(|state| state.oom_killed == Some(true)) {
                    write_notice(log, OUT_OF_MEMORY).await;
                }
            }
            AGENT_FAILED => {
                // The output of the command goes another way: whatever is here the agent has said.
                if let Some(words) = self.last_line(id).await.filter(|line| !line.is_empty()) {
                    return Err(Error::NeverStarted(words));
                }
            }
            _ => {}
        }
        Ok(exit)
    }
}
