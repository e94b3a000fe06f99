//! `peitho images`: the base images that the store holds.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::{Sources, print};
use crate::config::{Config, Surrounding};
use crate::names::ImageName;
use crate::registry::{self, HeldImage};
use crate::store::{self, Patience, Store};

const IMPORT_EXAMPLES: &str = "\
Examples:
  docker save hyperledger/fabric-ccenv:2.5 | peitho images import -
  peitho images import fabric-images.tar.gz
  skopeo copy docker://hyperledger/fabric-baseos:2.5 oci-archive:baseos.tar
  peitho images import baseos.tar --name hyperledger/fabric-baseos:2.5";

const LIST_EXAMPLES: &str = "\
Examples:
  peitho images list
  peitho images list --set store.directory=/srv/peitho";

/// What can be asked about base images.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Take base images out of an archive, for machines that reach no registry
    ///
    /// The archive is what `docker save` or `podman save` writes, or an OCI image layout as tar; with gzip around it or
    /// not. A running server uses the images at once. An image of the same name is replaced.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(Import),
    /// List the base images that the store holds
    #[command(after_help = LIST_EXAMPLES)]
    List(Sources),
}

/// What to import.
#[derive(Debug, Args)]
pub struct Import {
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
    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Imports and tells what.
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
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

/// Prints the held images as a table.
pub(super) async fn list(config: &Config) -> anyhow::Result<()> {
    let surrounding = Surrounding::found();
    let directory = config.store.place(surrounding);
    // Opening would make it.
    if config.store.bucket().is_none() && !directory.is_dir() {
        bail!("there is no store in {}", directory.display());
    }
    let store = opened(config, surrounding).await?;
    print(&table(&registry::list_held(&store).await?));
    Ok(())
}

fn table(images: &[(ImageName, HeldImage)]) -> String {
    let mut rows = vec![["NAME", "ID", "SIZE"].map(str::to_owned)];
    rows.extend(
        images
            .iter()
            .map(|(name, image)| [name.to_string(), image.id.to_string(), shown(image.size())]),
    );
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (names, ids) = (width(0), width(1));
    rows.iter()
        .map(|[name, id, size]| format!("{name:names$}   {id:ids$}   {size}\n"))
        .collect()
}

/// Decimal, as Docker writes sizes.
fn shown(bytes: u64) -> String {
    match bytes < 1_000_000 {
        true => format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100),
        false => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_spec::ImageConfig;
    use crate::names::Digest;
    use crate::store::Blob;

    #[test]
    fn the_table_lines_up() {
        let image = |size| {
            let blob = Blob {
                digest: Digest::of(b"x"),
                size,
            };
            HeldImage {
                id: Digest::of(b"id"),
                manifest: blob,
                config: Blob { size: 0, ..blob },
                start: ImageConfig::default(),
                layers: Vec::new(),
            }
        };
        let name = |text: &str| text.parse().unwrap();
        let images = [
            (name("hyperledger/fabric-ccenv:2.5"), image(177_290_000)),
            (name("r.example.com/a"), image(99_999)),
        ];
        let id = Digest::of(b"id");
        let (header, spaces) = ("NAME                           ID", " ".repeat(69));
        let expected = format!(
            "{header}{spaces}   SIZE\n\
             hyperledger/fabric-ccenv:2.5   {id}   177.2 MB\n\
             r.example.com/a:latest         {id}   99.9 kB\n"
        );
        assert_eq!(table(&images), expected);
        assert_eq!(table(&[]), "NAME   ID   SIZE\n");
    }
}
