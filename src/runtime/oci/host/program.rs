//! The runtime program: which one there is, and its command line by the crate `runc`. The shim calls it; nobody else starts a
//! runtime.

use std::fs;
use std::io::PipeWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use runc::options::{CreateOpts, DeleteOpts, GlobalOpts};
use runc::{Runc, Spawner};
use serde::{Deserialize, Serialize};

use super::cgroups::Cgroups;
use super::order::Order;
use super::place::{Id, Place};

/// Where administrators' programs are, which the `PATH` of an ordinary user may lack.
const ALSO: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// What is looked for, in this order.
const NAMES: [&str; 3] = ["runc", "crun", "youki"];

/// A program with the command line of runc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeProgram {
    /// Where it is.
    path: PathBuf,
    kind: Kind,
}

/// Which program it is: their command lines differ in small things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Runc,
    Crun,
    Youki,
}

/// There is no runtime on this host, or it cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRuntime {
    /// Nothing was found.
    #[error(
        "no container runtime was found: none of runc, crun and youki is in {searched}; install one, on Debian and \
         Ubuntu by `apt-get install runc`"
    )]
    NotFound {
        /// Where was looked.
        searched: String,
    },
    /// What was named is none.
    #[error("{path} is no container runtime: {reason}")]
    Unusable {
        /// The program.
        path: String,
        /// Why not.
        reason: String,
    },
}

impl RuntimeProgram {
    /// The first of runc, crun and youki on `PATH`, and where administrators' programs are.
    ///
    /// # Errors
    /// [`NoRuntime::NotFound`]; [`NoRuntime::Unusable`] when it does not answer.
    pub fn find() -> Result<Self, NoRuntime> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        folders.extend(ALSO.map(PathBuf::from));
        folders.retain(|folder| folder.is_absolute());
        let candidates = NAMES
            .iter()
            .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        match candidates.into_iter().find(|path| path.is_file()) {
            Some(path) => Self::at(&path),
            None => Err(NoRuntime::NotFound {
                searched: std::env::join_paths(&folders)
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            }),
        }
    }

    /// The program at `path`, which tells by its version what it is.
    ///
    /// # Errors
    /// [`NoRuntime::Unusable`].
    pub fn at(path: &Path) -> Result<Self, NoRuntime> {
        let unusable = |reason: String| NoRuntime::Unusable {
            path: path.display().to_string(),
            reason,
        };
        let path_found = path
            .canonicalize()
            .map_err(|error| unusable(error.to_string()))?;
        let answer = Command::new(&path_found)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| unusable(error.to_string()))?;
        let answer = String::from_utf8_lossy(&answer.stdout);
        let first = answer.split_whitespace().next().unwrap_or_default();
        let kind = match first {
            "runc" => Kind::Runc,
            "crun" => Kind::Crun,
            "youki" => Kind::Youki,
            _ => {
                return Err(unusable(format!(
                    "its --version begins with {first:?}, not with runc, crun or youki"
                )));
            }
        };
        Ok(Self {
            path: path_found,
            kind,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it uses cgroups of version 1: crun does so half, and refuses to work where there are those of version 2 beside
    /// them.
    pub(super) fn knows_version_1(&self) -> bool {
        self.kind != Kind::Crun
    }
}

/// A container as the runtime sees it.
pub(super) struct Container<'a> {
    program: &'a RuntimeProgram,
    state: &'a Path,
    id: &'a Id,
    place: &'a Place,
    cgroups: &'a Cgroups,
}

impl<'a> Container<'a> {
    /// That of `order`, whose launch lies at `place`.
    pub(super) fn of(order: &'a Order, place: &'a Place, cgroups: &'a Cgroups) -> Self {
        Self {
            program: &order.runtime,
            state: &order.state,
            id: &order.id,
            place,
            cgroups,
        }
    }

    /// Makes it from the bundle and starts its process, which writes to `output`. Its first process is a child of this one,
    /// if this is a subreaper.
    ///
    /// # Errors
    /// The runtime's words.
    pub(super) fn run(&self, output: PipeWriter) -> Result<(), String> {
        let options = CreateOpts::new().pid_file(self.place.pid()).detach(true);
        let client = self.client(Some(output))?;
        client
            .run(&self.id.to_string(), self.place.bundle(), Some(&options))
            .map(|_| ())
            .map_err(|error| self.words(error))
    }

    /// Kills what runs in it and removes what the runtime and the kernel keep of it. That there is no such container is as
    /// good as done.
    ///
    /// # Errors
    /// The runtime's words.
    pub(super) fn delete(&self) -> Result<(), String> {
        let options = DeleteOpts::new().force(true);
        // What it says twice would be taken for the answer of the next.
        let _ = fs::remove_file(self.place.runtime_log());
        let deleted = self
            .client(None)?
            .delete(&self.id.to_string(), Some(&options));
        match deleted {
            Ok(()) => Ok(()),
            Err(_) if !self.state.join(self.id.to_string()).exists() => Ok(()),
            Err(error) => Err(self.words(error)),
        }
    }

    fn client(&self, output: Option<PipeWriter>) -> Result<Runc, String> {
        let mut options = GlobalOpts::new()
            .command(&self.program.path)
            .root(self.state)
            .log(self.place.runtime_log())
            .log_json();
        let without = matches!(self.cgroups, Cgroups::None { .. });
        // runc's word for "do not mind if cgroups cannot be used".
        if without && self.program.kind == Kind::Runc {
            options = options.rootless(true);
        }
        let first = (without && self.program.kind == Kind::Crun)
            .then(|| "--cgroup-manager=disabled".to_owned());
        options.custom_spawner(Arc::new(Launcher { first, output }));
        options.build().map_err(|error| error.to_string())
    }

    /// What the runtime said last to its log, or else what the crate has to say.
    fn words(&self, error: runc::error::Error) -> String {
        let log = fs::read_to_string(self.place.runtime_log()).unwrap_or_default();
        let said = log.lines().rev().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let error = line["level"].as_str()?.eq_ignore_ascii_case("error");
            let message = line["msg"]
                .as_str()
                .or(line["fields"]["message"].as_str())?;
            error.then(|| message.to_owned())
        });
        match (said, error) {
            (Some(said), _) => said,
            (
                None,
                runc::error::Error::CommandFailed {
                    status,
                    stdout,
                    stderr,
                },
            ) => {
                let words = format!("{stdout}\n{stderr}");
                match words.lines().map(str::trim).rfind(|line| !line.is_empty()) {
                    Some(line) => line.to_owned(),
                    None => format!("{}: {status}", self.program.path.display()),
                }
            }
            (None, error) => format!("{}: {error}", self.program.path.display()),
        }
    }
}

/// Starts the runtime as the crate would, with what the crate has no word for: an option before all others, and a pipe that
/// the container keeps as its stdout and stderr.
#[derive(Debug)]
struct Launcher {
    first: Option<String>,
    output: Option<PipeWriter>,
}

impl Spawner for Launcher {
    fn execute(&self, command: Command) -> runc::Result<(ExitStatus, u32, String, String)> {
        let failed = runc::error::Error::ProcessSpawnFailed;
        let mut own = Command::new(command.get_program());
        own.args(&self.first)
            .args(command.get_args())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null());
        if let Some(output) = &self.output {
            own.stdout(output.try_clone().map_err(failed)?)
                .stderr(output.try_clone().map_err(failed)?);
        } else {
            own.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let child = own.spawn().map_err(failed)?;
        let pid = child.id();
        // Or the pipe would have a writer for as long as the command line lives.
        drop(own);
        let done = child
            .wait_with_output()
            .map_err(runc::error::Error::InvalidCommand)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((done.status, pid, text(done.stdout), text(done.stderr)))
    }
}
