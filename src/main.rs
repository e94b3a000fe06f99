//! The program: arguments in, exit code out. All else is in the library.

use std::process::ExitCode;

use peitho::cli::{self, Failure};

fn main() -> ExitCode {
    cli::parse(std::env::args_os())
        .and_then(cli::Command::run)
        .unwrap_or_else(Failure::report)
}
