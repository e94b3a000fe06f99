//! `peitho images`: what the store has, for operators; base images come in by `import`, and `verify` reads all of it. What people
//! pull with is in `login`.

mod list;
mod remove;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};

use self::remove::Remove;
use super::login::{self, CA_EXAMPLES, TOKEN_EXAMPLES, Token};
use super::{Failure, Sources, one_thread, print, shown, warnings};
use crate::collection::{Depth, check};
use crate::config::{Config, Surrounding};
use crate::names::ImageName;
use crate::registry;
use crate::store::{self, Patience, Store};

const IMPORT_EXAMPLES: &str = "\
Examples:
  docker save hyperledger/fabric-ccenv:2.5 | peitho images import -
  peitho images import fabric-images.tar.gz
  skopeo copy docker://hyperledger/fabric-baseos:2.5 oci-archive:baseos.tar
  peitho images import baseos.tar --name hyperledger/fabric-baseos:2.5";

const LIST_EXAMPLES: &str = "\
Examples:
  peitho images
  peitho images -o wide                      with package, Fabric version, base and builder
  peitho images -o json | jq '.[] | select(.tenant == \"org1\") | .name'
  peitho images --set store.directory=/srv/peitho";

const REMOVE_EXAMPLES: &str = "\
Examples:
  peitho images rm hyperledger/fabric-ccenv:2.4";

const VERIFY_EXAMPLES: &str = "\
Examples:
  peitho images verify                       reads every byte; a running server is not disturbed";

/// `peitho images`, with or without an order of its own.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = LIST_EXAMPLES)]
pub struct Images {
    #[command(subcommand)]
    command: Option<ImagesCommand>,
    #[command(flatten)]
    list: List,
}

/// How the list is to look.
#[derive(Debug, Args)]
struct List {
    /// What is told of each image
    #[arg(short, long, value_name = "HOW", default_value = "table")]
    output: Output,
    /// Where the store is.
    #[command(flatten)]
    sources: Sources,
}

/// Ways to print a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Name, tenant, id, size, age
    Table,
    /// Also where it comes from
    Wide,
    /// All of it, as JSON
    Json,
}

impl Images {
    /// Does what was asked.
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let runtime = one_thread()?;
        match self.command.unwrap_or(ImagesCommand::List(self.list)) {
            ImagesCommand::Import(import) => {
                let (config, _) = import.sources.load()?;
                warnings(&config)?;
                runtime.block_on(import.run(&config))?;
            }
            ImagesCommand::List(list) => {
                let (config, _) = list.sources.load()?;
                warnings(&config)?;
                runtime.block_on(list::run(&config, list.output))?;
            }
            ImagesCommand::Rm(remove) => {
                let (config, _) = remove.sources.load()?;
                warnings(&config)?;
                runtime.block_on(remove.run(&config))?;
            }
            ImagesCommand::Verify(sources) => {
                let (config, _) = sources.load()?;
                warnings(&config)?;
                return Ok(runtime.block_on(verify(&config))?);
            }
            ImagesCommand::Token(token) => {
                let (config, _) = token.sources().load()?;
                runtime.block_on(token.run(&config))?;
            }
            ImagesCommand::Ca(sources) => {
                let (config, _) = sources.load()?;
                runtime.block_on(login::authority(&config))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What can be asked about images.
#[derive(Debug, Subcommand)]
enum ImagesCommand {
    /// Take base images out of an archive, for machines that reach no registry
    ///
    /// The archive is what `docker save` or `podman save` writes, or an OCI image layout as tar; with gzip around it or
    /// not. A running server uses the images at once. An image of the same name is replaced.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(Import),
    /// List what was built, and the base images that the store holds; as without any order
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Remove a base image that the store holds
    ///
    /// What was built on it stays, and is told: where containers run on this machine, it needs the registry of its base from then
    /// on. Images that were built are removed by `docker image rm`, or `peitho prune --images`.
    #[command(after_help = REMOVE_EXAMPLES)]
    Rm(Remove),
    /// Read all that images consist of, and put into quarantine what is damaged
    ///
    /// What is damaged is moved to `quarantine/` in the store, is never served, and is told with what to do. Ends with 1 then.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Sources),
    /// Print a token with which a tenant's images can be pulled from a server
    ///
    /// It is the password of the user that is called after the tenant, for reading alone, until its time is over.
    #[command(after_help = TOKEN_EXAMPLES)]
    Token(Token),
    /// Print the certificate authority that clients have to trust to pull images from a server
    #[command(after_help = CA_EXAMPLES)]
    Ca(Sources),
}

/// What to import.
#[derive(Debug, Args)]
struct Import {
    /// The archive, `-` for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// The name of the image, for an archive of one image that has none or another one
    #[arg(long, value_name = "NAME")]
    name: Option<ImageName>,
    /// Where the store is.
    #[command(flatten)]
    sources: Sources,
}

impl Import {
    /// Imports and tells what.
    async fn run(self, config: &Config) -> anyhow::Result<()> {
        let (archive, file) = open(&self.file)?;
        let store = opened(config, Surrounding::found()).await?;
        let images = registry::import(&store, archive, self.name).await;
        for (name, image) in images.context(file)? {
            print(&format!("{name} {} {}\n", image.id, shown(image.size())));
        }
        Ok(())
    }
}

async fn opened(config: &Config, surrounding: Surrounding) -> Result<Store, store::Error> {
    Store::configured(&config.store, surrounding, Patience::OfCommand).await
}

fn open(file: &Path) -> anyhow::Result<(Box<dyn Read + Send>, String)> {
    if file.as_os_str() == OsStr::new("-") {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            bail!("standard input is a terminal; send an archive into it");
        }
        return Ok((Box::new(stdin), "standard input".to_owned()));
    }
    let shown = file.display().to_string();
    let opened = File::open(file).with_context(|| shown.clone())?;
    Ok((Box::new(opened), shown))
}

/// The store of `config`, where there is one: opening it would make it.
pub(super) async fn existing_store(config: &Config) -> anyhow::Result<Store> {
    let surrounding = Surrounding::found();
    let directory = config.store.place(surrounding);
    if config.store.bucket().is_none() && !directory.is_dir() {
        bail!("there is no store in {}", directory.display());
    }
    Ok(opened(config, surrounding).await?)
}

async fn verify(config: &Config) -> anyhow::Result<ExitCode> {
    let store = existing_store(config).await?;
    let findings = check(&store, Depth::Contents).await;
    for trouble in &findings.troubles {
        print(&format!("{trouble}\n"));
    }
    if let Some(error) = findings.unfinished {
        bail!(
            "{error}; the check ended here, and what it has not come to is not known: run it again"
        );
    }
    let (images, troubles) = (findings.images, findings.troubles.len());
    print(&format!("images: {images}, troubles: {troubles}\n"));
    Ok(match troubles {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
