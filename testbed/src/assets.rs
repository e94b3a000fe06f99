//! Owns what a run is made of: the programs, images and sources that are built once and cached. A test opens it first;
//! every component takes its programs from it. Each part is made when it is first asked for.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache::Cache;
use crate::driver::DRIVERS;
use crate::go::{FabricPrograms, Go};
use crate::images::{Image, Images};
use crate::packages;
use crate::release::Release;

/// The built parts, on the machine or in the cache.
#[derive(Debug, Clone)]
pub struct Assets {
    cache: Cache,
    go: Go,
}

impl Assets {
    /// Opens the cache and installs the Debian packages that are missing.
    pub fn open() -> Result<Assets> {
        packages::obtain(&packages::NEEDED)?;
        Ok(Assets {
            cache: Cache::open()?,
            go: Go::find()?,
        })
    }

    /// Makes everything now: afterwards a run needs no registry of packages.
    pub fn prepare(&self) -> Result<()> {
        self.kube()?;
        for release in Release::ALL {
            self.fabric(release)?;
        }
        for driver in DRIVERS {
            driver.program(self)?;
        }
        self.images()?;
        self.nodeenv()?;
        Images::warm(self)?;
        self.docker_cli()?;
        self.crane()?;
        self.go.versitygw(&self.cache)?;
        Ok(())
    }

    /// The cache they lie in.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn go(&self) -> &Go {
        &self.go
    }

    /// Kubernetes: its first argument names the component.
    pub fn kube(&self) -> Result<PathBuf> {
        self.go.kube(&self.cache)
    }

    /// The programs of a Fabric network.
    pub fn fabric(&self, release: Release) -> Result<FabricPrograms> {
        self.go.fabric(&self.cache, release)
    }

    /// A current `docker` command.
    pub fn docker_cli(&self) -> Result<PathBuf> {
        self.go.docker_cli(&self.cache)
    }

    /// The registry client `crane`.
    pub fn crane(&self) -> Result<PathBuf> {
        self.go.crane(&self.cache)
    }

    /// The `docker` command of Debian's package `docker.io`, whichever else comes first in the PATH.
    pub fn debian_docker_cli(&self) -> PathBuf {
        PathBuf::from("/usr/bin/docker")
    }

    /// The images that stand in for the official ones.
    pub fn images(&self) -> Result<Images> {
        Images::obtain(&self.cache, &self.go)
    }

    /// The image in which Node chaincode is compiled and runs.
    pub fn nodeenv(&self) -> Result<Image> {
        Images::nodeenv(&self.cache)
    }

    /// The builder image of a release as it is when much was compiled in it before: a compile takes seconds, unless the package is
    /// [`crate::Chaincode::uncached`].
    pub fn warm_builder(&self, release: Release) -> Result<Image> {
        let [of_1_4, of_2_1] = Images::warm(self)?;
        Ok(match release {
            Release::V1_4 => of_1_4,
            Release::V2_1 => of_2_1,
        })
    }

    /// A command that runs a program which this machine may have only in the `sbin` directories.
    pub(crate) fn command(name: &str) -> Command {
        Command::new(packages::find(name).unwrap_or_else(|| name.into()))
    }
}
