//! Peitho's own program inside pods: `install` puts it into a volume, `fetch` brings a layer, `compile` runs a
//! build and reports it, `spare` waits for one (design D5, D6). `cli` calls it. Its only counterpart is the delivery API of
//! [`crate::delivery`]: it knows nothing of Kubernetes beyond the file for a container's last words.

use std::io::{self, Write as _};
use std::path::Path;

use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

mod cache;
mod client;
pub mod compile;
mod download;
pub mod fetch;
pub mod install;
mod leftover;
mod log;
mod memory;
mod part;
pub mod place;
mod process;
mod report;
pub mod spare;

/// What the kubelet reads into the status of a container that ended: the reason that people and Peitho see.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The kubelet cuts the message of a container at this many bytes.
const TERMINATION_LOG_BYTES: usize = 4096;

/// The exit code for a failure of the agent itself, as `docker run` has it for the daemon's own.
pub const FAILED: u8 = 125;

/// The jobs of the program inside pods.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy this program into a directory
    Install(install::Args),
    /// Fetch a layer from Peitho and unpack it
    Fetch(fetch::Args),
    /// Run a compile and report it to Peitho
    Compile(compile::Args),
    /// Wait for a compile, and run it
    Spare(spare::Args),
}

/// Does `command` and gives the exit code for the process. A failure has been told when this returns: on
/// stderr and as the container's last words.
pub async fn run(command: Command) -> u8 {
    let done = match command {
        Command::Install(args) => told("install", install::run(args).await.map(|()| 0)),
        Command::Fetch(args) => told("fetch", fetch::run(args).await.map(|()| 0)),
        Command::Compile(args) => {
            let run = terminable(|terminated| compile::run(args, terminated));
            told("compile", run.await)
        }
        Command::Spare(args) => {
            let run = terminable(|terminated| spare::run(args, terminated));
            told("spare", run.await)
        }
    };
    done.unwrap_or(FAILED)
}

/// Runs what SIGTERM ends.
async fn terminable<E: From<compile::Error>>(
    run: impl AsyncFnOnce(CancellationToken) -> Result<u8, E>,
) -> Result<u8, E> {
    leftover::adopt();
    let terminated = CancellationToken::new();
    let mut signals = signal(SignalKind::terminate()).map_err(compile::Error::Signals)?;
    let watching = async {
        signals.recv().await;
        terminated.cancel();
        std::future::pending().await
    };
    tokio::select! {
        result = run(terminated.clone()) => result,
        never = watching => never,
    }
}

fn told<T, E: std::error::Error>(job: &str, result: Result<T, E>) -> Option<T> {
    result
        .inspect_err(|error| last_words(&format!("peitho agent {job}: {error}")))
        .ok()
}

/// Removes all that lies in `directory`.
async fn empty(directory: &Path) -> io::Result<()> {
    let path = directory.to_owned();
    blocking(move || {
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work on files does not panic")
}

/// One line on stderr and in the container's status. Nobody is left to hear that this fails.
fn last_words(message: &str) {
    let mut line = message.replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "{line}");
    line.truncate(line.floor_char_boundary(TERMINATION_LOG_BYTES));
    // Outside of a pod there is no such file, and none is made.
    if let Ok(mut file) = std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(TERMINATION_LOG)
    {
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Agent {
        #[command(subcommand)]
        command: Command,
    }

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        Agent::try_parse_from(line.split(' ')).map(|agent| agent.command)
    }

    /// The lines that `runtime` writes into pods.
    #[test]
    fn the_command_lines_of_pods_are_understood() {
        let hex = "ab".repeat(32);
        assert!(matches!(
            parsed("agent install /peitho"),
            Ok(Command::Install(_))
        ));
        let fetch = format!(
            "agent fetch --address https://peitho:8081 --digest sha256:{hex} --into /layer \
             --strip /usr/local/bin --expect chaincode --expect=-x --credentials /credentials"
        );
        let Command::Fetch(args) = parsed(&fetch).unwrap() else {
            panic!("{fetch}");
        };
        assert_eq!(args.expect, ["chaincode", "-x"]);
        let compile = format!(
            "agent compile --address https://peitho:8081 --key {hex} --credentials /credentials \
             --spool /spool --cache /home/.cache -- /bin/sh -c exit --key"
        );
        let Command::Compile(args) = parsed(&compile).unwrap() else {
            panic!("{compile}");
        };
        assert_eq!(args.command, ["/bin/sh", "-c", "exit", "--key"]);
        assert_eq!(args.place.input.to_str(), Some("/chaincode/input"));
        assert_eq!(args.place.output.to_str(), Some("/chaincode/output"));
        let spare = format!(
            "agent spare --address https://peitho:8081 --id {} --credentials /credentials \
             --spool /spool --cache /home/.cache",
            "ab".repeat(16)
        );
        let Command::Spare(args) = parsed(&spare).unwrap() else {
            panic!("{spare}");
        };
        assert_eq!(args.place.input.to_str(), Some("/chaincode/input"));
        assert!(parsed(&compile.replace(" -- /bin/sh -c exit --key", "")).is_err());
        assert!(parsed(&fetch.replace("sha256:", "sha512:")).is_err());
    }
}
