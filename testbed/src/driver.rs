//! Owns the drivers: small Go programs, one for each version of the two Docker clients that peers use, which make a peer's calls in a
//! peer's order. Their source is in `assets/drivers`, the same for all versions of a client. Suites give them orders and judge what they
//! observed; a driver judges nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::assets::Assets;
use crate::go::{SourceFile, module};
use crate::program;

/// A library, as all its versions are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    /// `fsouza/go-dockerclient`: peers of 1.4, most of 2.x and 3.x.
    Fsouza,
    /// `moby/moby/client`: 2.5.15, 3.1.4 and later.
    Moby,
}

/// A version of a client, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// The library.
    pub library: Library,
    /// As in the name of its module, `fsouza-1.3.0`; with the family where two have the same.
    pub name: &'static str,
    /// The family of releases that it behaves as: `F1` to `F7`, as `peer.go` tells them apart.
    pub family: &'static str,
    /// The releases of Fabric with this client.
    pub peers: &'static str,
    module: &'static [SourceFile<'static>],
}

/// Files of `assets/drivers` that every driver has, and those of one version.
macro_rules! driver {
    ($library:ident, $source:literal, $name:literal, $family:literal, $peers:literal) => {
        driver!($library, $source, $name, $name, $family, $peers)
    };
    ($library:ident, $source:literal, $name:literal, $version:literal, $family:literal, $peers:literal) => {
        Driver {
            library: Library::$library,
            name: $version,
            family: $family,
            peers: $peers,
            module: &[
                (
                    "go.mod",
                    include_str!(concat!("../assets/drivers/versions/", $name, "/go.mod")),
                ),
                (
                    "go.sum",
                    include_str!(concat!("../assets/drivers/versions/", $name, "/go.sum")),
                ),
                (
                    $source,
                    include_str!(concat!("../assets/drivers/", $source)),
                ),
            ],
        }
    };
}

const SHARED: &[SourceFile<'_>] = module!(
    "drivers",
    "peer.go",
    "archives.go",
    "attachment.go",
    "registrar.go",
    "launch.go",
    "scenarios.go",
    "spoken.go"
);

/// All of them, oldest peers first.
pub const DRIVERS: [Driver; 8] = [
    driver!(Fsouza, "fsouza.go", "fsouza-1.3.0", "F2", "1.4"),
    driver!(
        Fsouza,
        "fsouza.go",
        "fsouza-1.4.1",
        "F3",
        "2.0 – 2.2.5, 2.3"
    ),
    driver!(
        Fsouza,
        "fsouza.go",
        "fsouza-1.7.3",
        "F4",
        "2.2.11 – 2.2.15, 2.5.0 – 2.5.5; 1.7.0 in 2.2.6 – 2.2.10, 2.4"
    ),
    driver!(
        Fsouza,
        "fsouza.go",
        "fsouza-1.10.0",
        "F4",
        "2.5.6 – 2.5.14, 3.0"
    ),
    driver!(Fsouza, "fsouza.go", "fsouza-1.12.0", "F4", "3.1.0 – 3.1.3"),
    driver!(
        Moby,
        "moby.go",
        "moby-0.2.1",
        "moby-0.2.1-F5",
        "F5",
        "2.5.15, 3.1.4"
    ),
    driver!(Moby, "moby.go", "moby-0.2.1", "F6", "2.5.16"),
    driver!(Moby, "moby.go", "moby-0.4.1", "F7", "3.1.5"),
];

impl Driver {
    /// The built program.
    pub fn program(&self, assets: &Assets) -> Result<PathBuf> {
        let files = [SHARED, self.module].concat();
        assets.go().driver(assets.cache(), self.name, &files)
    }

    /// Plays a scenario to its end and returns what was observed.
    pub fn play(&self, program: &Path, order: &Value) -> Result<Value> {
        let input = order.to_string();
        let seen = program::output_with_input(&mut Command::new(program), input.as_bytes())?;
        serde_json::from_str(&seen).with_context(|| format!("{} printed {seen:?}", self.name))
    }
}
