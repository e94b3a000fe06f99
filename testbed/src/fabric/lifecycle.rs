//! Owns the way of a chaincode from 2.0 on, as its operator walks it: install, approve, commit, each by one call of the stock CLI.

use std::fmt;
use std::path::Path;

use super::Fabric;
use super::cli::CliError;
use super::layout::{CHANNEL, owned};

/// What a peer calls an installed package: `label:hash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageId(String);

impl PackageId {
    /// As the peer writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A chaincode as the channel knows it.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The name that invokes use.
    pub name: String,
    /// Any text; it need not match anything.
    pub version: String,
    /// One more at each commit.
    pub sequence: u32,
}

impl Definition {
    /// A name's definition number `sequence`.
    pub fn new(name: &str, version: &str, sequence: u32) -> Definition {
        Definition {
            name: name.to_owned(),
            version: version.to_owned(),
            sequence,
        }
    }
}

impl Fabric {
    /// Installs a package on one peer: the peer compiles it.
    pub fn install(&self, peer: usize, package: &Path) -> Result<PackageId, CliError> {
        let path = package.to_string_lossy();
        let arguments = ["lifecycle", "chaincode", "install", &path];
        let output = self.layout().cli(peer, &arguments)?;
        let marker = "Chaincode code package identifier: ";
        let id = output
            .stderr
            .lines()
            .find_map(|line| line.split(marker).nth(1));
        id.map(|id| PackageId(id.trim().to_owned()))
            .ok_or(CliError {
                command: arguments.join(" "),
                output,
            })
    }

    /// Approves a definition for the organization.
    pub fn approve(
        &self,
        peer: usize,
        definition: &Definition,
        id: &PackageId,
    ) -> Result<(), CliError> {
        let last = owned(["--package-id", id.as_str()]);
        self.define(peer, "approveformyorg", definition, last)
    }

    /// Makes an approved definition the channel's.
    pub fn commit(&self, peer: usize, definition: &Definition) -> Result<(), CliError> {
        let last = self.layout().to_endorser(peer);
        self.define(peer, "commit", definition, last)
    }

    /// Makes a chaincode of the channel one without a package here, so that a peer does not launch it when it starts.
    pub fn retire(&self, peer: usize, definition: &Definition) -> Result<(), CliError> {
        self.define(peer, "approveformyorg", definition, Vec::new())?;
        self.commit(peer, definition)
    }

    fn define(
        &self,
        peer: usize,
        verb: &str,
        definition: &Definition,
        last: Vec<String>,
    ) -> Result<(), CliError> {
        let mut arguments = owned([
            "lifecycle",
            "chaincode",
            verb,
            "--channelID",
            CHANNEL,
            "--name",
            &definition.name,
            "--version",
            &definition.version,
            "--sequence",
            &definition.sequence.to_string(),
        ]);
        arguments.extend(self.layout().to_orderer());
        arguments.extend(last);
        self.layout().cli(peer, &arguments).map(|_| ())
    }

    /// Install, approve and commit.
    pub fn deploy(
        &self,
        peer: usize,
        definition: &Definition,
        package: &Path,
    ) -> Result<PackageId, CliError> {
        let id = self.install(peer, package)?;
        self.approve(peer, definition, &id)?;
        self.commit(peer, definition)?;
        Ok(id)
    }

    /// The packages that a peer has.
    pub fn query_installed(&self, peer: usize) -> Result<Vec<PackageId>, CliError> {
        let output = self
            .layout()
            .cli(peer, &["lifecycle", "chaincode", "queryinstalled"])?;
        let ids = output
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("Package ID: "));
        let ids = ids.filter_map(|rest| rest.split(',').next());
        Ok(ids.map(|id| PackageId(id.to_owned())).collect())
    }
}
