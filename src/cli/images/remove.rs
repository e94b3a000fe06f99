//! `peitho images rm`: a base image that the store holds is held no longer. What stands on it is told, since that needs a registry
//! from then on where its base is wanted whole.

use anyhow::bail;
use clap::Args;

use super::super::{Sources, print};
use super::existing_store;
use crate::config::Config;
use crate::image::catalogue;
use crate::names::ImageName;
use crate::registry;

/// What to remove.
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The base image, as `peitho images` lists it
    #[arg(value_name = "NAME")]
    name: ImageName,
    /// Where the store is.
    #[command(flatten)]
    pub(super) sources: Sources,
}

impl Remove {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let store = existing_store(config).await?;
        let name = &self.name;
        // Before anything is gone: what cannot be told is not done.
        let built = catalogue(&store).await?;
        if !registry::remove_held(&store, name).await? {
            bail!(
                "the store holds no base image {name}; `peitho images` lists those that it holds"
            );
        }
        let mut told = format!(
            "{name} is held no longer; what only it needed goes by the next two collections of a server, or by `peitho prune` without one\n"
        );
        for (tenant, image, _) in &built.images {
            if image.base.name.full() == name.full() {
                told += &format!(
                    "note: {} of the tenant {tenant} stands on it: a container of this machine needs the registry of {name} from now on\n",
                    image.name
                );
            }
        }
        print(&told);
        Ok(())
    }
}
