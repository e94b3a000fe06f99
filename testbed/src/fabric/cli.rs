//! Owns calls of the stock `peer` command as the organization's administrator, and what its users see of a failure.

use std::error::Error;
use std::fmt;
use std::process::{Command, Stdio};

use super::layout::{Environment, Layout};

/// What a call printed.
#[derive(Debug, Clone)]
pub struct CliOutput {
    /// Standard output: the answer of a query.
    pub stdout: String,
    /// Standard error: the CLI's log, and the answer of an invoke.
    pub stderr: String,
}

/// A call that failed, with all that its user got to see.
#[derive(Debug, Clone)]
pub struct CliError {
    /// The arguments after `peer`.
    pub command: String,
    /// Standard output and standard error, whole.
    pub output: CliOutput,
}

impl CliError {
    /// Whether the user was told this.
    pub fn says(&self, text: &str) -> bool {
        self.output.stderr.contains(text) || self.output.stdout.contains(text)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CliOutput { stdout, stderr } = &self.output;
        write!(formatter, "peer {} failed:\n{stdout}{stderr}", self.command)
    }
}

impl Error for CliError {}

impl Layout {
    /// Runs `peer` with these arguments towards the peer of this number.
    pub(super) fn cli(
        &self,
        peer: usize,
        arguments: &[impl AsRef<str>],
    ) -> Result<CliOutput, CliError> {
        self.cli_in(peer, Environment::new(), arguments)
    }

    /// The same with further variables.
    pub(super) fn cli_in(
        &self,
        peer: usize,
        further: Environment,
        arguments: &[impl AsRef<str>],
    ) -> Result<CliOutput, CliError> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let mut command = Command::new(self.programs.bin.join("peer"));
        command
            .args(&arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command.envs(self.admin_environment(peer)).envs(further);
        let failed = |output| CliError {
            command: arguments.join(" "),
            output,
        };
        let result = command.output().map_err(|error| {
            failed(CliOutput {
                stdout: String::new(),
                stderr: error.to_string(),
            })
        })?;
        let output = CliOutput {
            stdout: String::from_utf8_lossy(&result.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&result.stderr).into_owned(),
        };
        if result.status.success() {
            Ok(output)
        } else {
            Err(failed(output))
        }
    }
}
