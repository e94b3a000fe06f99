//! Where an agent of a compile works: whom it reports to, and its directories. `compile` and `spare` take it from their command lines.

use std::path::PathBuf;

/// Arguments that both have.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The delivery address of Peitho, https://host:port
    #[arg(long)]
    pub address: String,
    /// The directory with `token` and `ca.crt`
    #[arg(long)]
    pub credentials: PathBuf,
    /// A directory for the log and the packed output
    #[arg(long)]
    pub spool: PathBuf,
    /// The directory that is kept from one compile to the next
    #[arg(long, default_value = "/run/peitho/home/.cache")]
    pub cache: PathBuf,
    /// Where the command finds its input
    #[arg(skip = PathBuf::from("/chaincode/input"))]
    pub input: PathBuf,
    /// Where the command leaves its output
    #[arg(skip = PathBuf::from("/chaincode/output"))]
    pub output: PathBuf,
}
