<<<<<<< HEAD
//! The program: arguments in, exit code out. All else is in the library.

use std::process::ExitCode;

use peitho::cli::{self, Failure};

fn main() -> ExitCode {
    cli::parse(std::env::args_os())
        .and_then(cli::Command::run)
        .unwrap_or_else(Failure::report)
=======
//! Peitho's program.
use clap::Parser;
#[derive(Parser)]
enum Cli {
    Serve {
        #[arg(long)]
        config: Option<std::path::PathBuf>,
    },
    #[command(subcommand)]
    Agent(peitho::agent::Command),
}
#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    match Cli::parse() {
        Cli::Serve { config } => {
            let config: peitho::config::Config =
                serde_json::from_str(&std::fs::read_to_string(config.unwrap())?)?;
            tracing_subscriber::fmt()
                .with_env_filter(&config.log.level)
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .init();
            peitho::serve::run(config).await?;
            Ok(std::process::ExitCode::SUCCESS)
        }
        Cli::Agent(command) => Ok(peitho::agent::run(command).await.into()),
    }
>>>>>>> main
}
