//! Owns the way of a chaincode until 1.4, as its operator walks it: package, install, instantiate, upgrade, each by one call of the stock
//! CLI. Named after the system chaincode behind it, the lifecycle system chaincode.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::Fabric;
use super::cli::CliError;
use super::layout::{CHANNEL, owned};
use crate::assets::Assets;
use crate::chaincode::{Chaincode, Gopath};
use crate::wait;

const COMMIT: Duration = Duration::from_secs(30);

/// A chaincode as peers and channel of 1.4 know it. Other code is another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaincodeId {
    /// The name that invokes use.
    pub name: String,
    /// Any text, once per name.
    pub version: String,
}

impl ChaincodeId {
    /// A version of a name.
    pub fn new(name: &str, version: &str) -> ChaincodeId {
        ChaincodeId {
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }
}

/// The commands of 1.4 towards one peer.
#[derive(Debug, Clone, Copy)]
pub struct Lscc<'a> {
    fabric: &'a Fabric,
    peer: usize,
}

impl Fabric {
    /// The commands of 1.4 towards a peer.
    pub fn lscc(&self, peer: usize) -> Lscc<'_> {
        Lscc { fabric: self, peer }
    }
}

impl Lscc<'_> {
    /// Packages a source: a file that can be installed.
    pub fn package(
        self,
        assets: &Assets,
        chaincode: &Chaincode,
        id: &ChaincodeId,
    ) -> Result<PathBuf> {
        let layout = self.fabric.layout();
        let place = format!("{}-{}", id.name, id.version);
        let gopath = chaincode.gopath(assets, &layout.data.join("gopath").join(&place))?;
        let file = layout.dir.join(format!("{place}.cds"));
        let mut order = order("package", id);
        order.extend(owned([
            "--lang",
            "golang",
            "--path",
            Gopath::PACKAGE,
            &file.to_string_lossy(),
        ]));
        layout.cli_in(self.peer, gopath.environment(), &order)?;
        Ok(file)
    }

    /// Installs a package on the peer, which stores it and does no more.
    pub fn install(self, package: &Path) -> Result<(), CliError> {
        let order = ["chaincode", "install", &package.to_string_lossy()];
        self.fabric.layout().cli(self.peer, &order).map(|_| ())
    }

    /// Makes an installed chaincode the channel's: the peer compiles and launches it to see that it works. The order's block comes
    /// later, see [`Lscc::wait_until_committed`].
    pub fn instantiate(self, id: &ChaincodeId) -> Result<(), CliError> {
        self.define("instantiate", id)
    }

    /// The same for another version of a chaincode that the channel has.
    pub fn upgrade(self, id: &ChaincodeId) -> Result<(), CliError> {
        self.define("upgrade", id)
    }

    fn define(self, verb: &str, id: &ChaincodeId) -> Result<(), CliError> {
        let mut order = order(verb, id);
        order.extend(owned(["--channelID", CHANNEL, "--ctor"]));
        order.push(r#"{"Args":["init"]}"#.to_owned());
        order.extend(self.fabric.layout().to_orderer());
        self.fabric.layout().cli(self.peer, &order).map(|_| ())
    }

    /// Waits until the peer has the block that holds an instantiate or upgrade: their commands cannot, as those of invokes can.
    pub fn wait_until_committed(self, id: &ChaincodeId) -> Result<()> {
        let wanted = format!("Name: {}, Version: {},", id.name, id.version);
        let list = [
            "chaincode",
            "list",
            "--instantiated",
            "--channelID",
            CHANNEL,
        ];
        wait::until(&format!("commit of {wanted}"), COMMIT, None, || {
            let listed = self.fabric.layout().cli(self.peer, &list)?;
            Ok(listed.stdout.contains(&wanted).then_some(()))
        })
    }
}

fn order(verb: &str, id: &ChaincodeId) -> Vec<String> {
    owned([
        "chaincode",
        verb,
        "--name",
        &id.name,
        "--version",
        &id.version,
    ])
}
