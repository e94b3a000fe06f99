//! Owns a Fabric network on this machine: one orderer, one organization with a few peers, one channel. Each peer has its own Docker
//! endpoint, so one can use dockerd while the others use Peitho. Tests act on it through the stock CLI, as operators do.

mod cli;
mod kind;
mod layout;
mod lifecycle;
mod lscc;
mod transaction;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::assets::Assets;
use crate::images::Images;
use crate::places::{HOST_ADDRESS, Places};
use crate::process::Process;
use crate::registry::Registry;
use crate::release::Release;
use crate::run::Run;
use crate::wait;
pub use cli::{CliError, CliOutput};
pub use kind::Network;
use layout::{CHANNEL, Layout, owned};
pub use lifecycle::{Definition, PackageId};
pub use lscc::{ChaincodeId, Lscc};

const START: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);

/// How a peer builds and runs chaincode.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// `CORE_VM_ENDPOINT`.
    pub vm_endpoint: String,
    /// What chaincode dials; the peer listens on this port on all addresses.
    pub chaincode_address: String,
    /// The builder image.
    pub builder: String,
    /// The image that Go chaincode runs in.
    pub runtime: String,
    /// Further variables, which win over the others.
    pub environment: Vec<(String, String)>,
}

/// A running network. Peers are named by their number, from 0.
#[derive(Debug)]
pub struct Fabric {
    places: Places,
    network: Network,
    layout: Layout,
    peers: Vec<Peer>,
    orderer: Process,
}

#[derive(Debug)]
struct Peer {
    index: usize,
    config: Mutex<PeerConfig>,
    process: Mutex<Option<Process>>,
}

impl PeerConfig {
    /// The usual configuration of peer number `index` of a release: stand-in images from the registry, chaincode dials the host's
    /// address on the bridge, which pods and containers in the host's network both reach.
    pub fn new(
        release: Release,
        index: usize,
        vm_endpoint: &str,
        assets: &Assets,
        registry: &Registry,
    ) -> Result<PeerConfig> {
        let images = assets.images()?;
        let names = images
            .fabric(release)
            .map(|image| registry.reference(image));
        let [builder, runtime] = names.each_ref().map(String::as_str);
        let mut config = Self::with_images(index, vm_endpoint, [builder, runtime]);
        if release == Release::V2_1 {
            let node = format!("{}/{}", registry.address(), Images::NODEENV);
            let variable = ("CORE_CHAINCODE_NODE_RUNTIME".to_owned(), node);
            config.environment.push(variable);
        }
        Ok(config)
    }

    /// The same with images by other names: that of the builder, and the one that Go chaincode runs in.
    pub fn with_images(
        index: usize,
        vm_endpoint: &str,
        [builder, runtime]: [&str; 2],
    ) -> PeerConfig {
        PeerConfig {
            vm_endpoint: vm_endpoint.to_owned(),
            chaincode_address: format!("{HOST_ADDRESS}:{}", 7052 + 100 * index),
            builder: builder.to_owned(),
            runtime: runtime.to_owned(),
            environment: Vec::new(),
        }
    }
}

impl Fabric {
    /// Makes everything anew and returns when all peers have joined the channel. There are keys for six.
    pub fn start(
        assets: &Assets,
        run: &Run,
        network: Network,
        peers: impl IntoIterator<Item = PeerConfig>,
    ) -> Result<Fabric> {
        let layout = Layout::generate(run, network, assets.fabric(network.release())?)?;
        let mut command = Command::new(layout.programs.bin.join("orderer"));
        command
            .current_dir(&layout.dir)
            .envs(layout.orderer_environment());
        let orderer = Process::spawn(run, "orderer", command)?;
        let peers: Vec<_> = (peers.into_iter().enumerate())
            .map(|(index, config)| Peer {
                index,
                config: Mutex::new(config),
                process: Mutex::new(None),
            })
            .collect();
        for peer in &peers {
            peer.start(run.places(), &layout)?;
        }
        orderer.wait_for_line("Beginning to serve requests", START)?;
        let fabric = Fabric {
            places: run.places().clone(),
            network,
            layout,
            peers,
            orderer,
        };
        for peer in &fabric.peers {
            peer.wait_until_started()?;
        }
        fabric.create_channel()?;
        Ok(fabric)
    }

    /// An orderer refuses the first attempts as long as Raft has no leader, hence the repetition.
    fn create_channel(&self) -> Result<()> {
        let mut create = owned([
            "channel",
            "create",
            "--channelID",
            CHANNEL,
            "--file",
            "channel.tx",
            "--outputBlock",
            "channel.block",
        ]);
        create.extend(self.layout.to_orderer());
        let mut last = None;
        let created = wait::until(
            "creating the channel",
            START,
            Some(self.orderer.log_path()),
            || {
                last = self.layout.cli(0, &create).err();
                Ok(last.is_none().then_some(()))
            },
        );
        if let (Err(error), Some(last)) = (&created, last) {
            anyhow::bail!("{error:#}\n{last}");
        }
        for peer in &self.peers {
            self.layout.cli(
                peer.index,
                &["channel", "join", "--blockpath", "channel.block"],
            )?;
        }
        Ok(())
    }

    /// Its kind.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Ends a peer in peace.
    pub fn stop_peer(&self, peer: usize) -> Result<()> {
        if let Some(process) = self.peers[peer].process().take() {
            process.terminate(GRACE)?;
        }
        Ok(())
    }

    /// Ends a peer as a crash would.
    pub fn kill_peer(&self, peer: usize) -> Result<()> {
        if let Some(process) = self.peers[peer].process().take() {
            process.kill_hard()?;
        }
        Ok(())
    }

    /// Starts a peer that was ended, on its old ledger.
    pub fn start_peer(&self, peer: usize) -> Result<()> {
        self.peers[peer].start(&self.places, &self.layout)?;
        self.peers[peer].wait_until_started()
    }

    /// Points a peer at another Docker endpoint, which takes a restart.
    pub fn set_vm_endpoint(&self, peer: usize, endpoint: &str) -> Result<()> {
        self.configure_peer(peer, |config| endpoint.clone_into(&mut config.vm_endpoint))
    }

    /// Changes a peer's configuration, which takes a restart.
    pub fn configure_peer(&self, peer: usize, change: impl FnOnce(&mut PeerConfig)) -> Result<()> {
        self.stop_peer(peer)?;
        change(&mut self.peers[peer].config());
        self.start_peer(peer)
    }

    /// Lines for a shell: after them, `peer` in that shell acts as the administrator towards this peer.
    pub fn admin_env(&self, peer: usize) -> String {
        let mut lines = format!("export PATH={}:$PATH\n", self.layout.programs.bin.display());
        for (name, value) in self.layout.admin_environment(peer) {
            lines.push_str(&format!("export {name}={value}\n"));
        }
        let orderer = self.layout.to_orderer().join(" ");
        lines.push_str(&format!("export ORDERER=\"{orderer}\"\n"));
        lines
    }

    /// Where the network's files are.
    pub fn dir(&self) -> PathBuf {
        self.layout.dir.clone()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl Drop for Fabric {
    /// Ledgers are thrown away with the run.
    fn drop(&mut self) {
        for peer in &self.peers {
            if let Some(process) = peer.process().take() {
                process.kill_hard().ok();
            }
        }
        self.orderer.kill_hard().ok();
    }
}

impl Peer {
    fn start(&self, places: &Places, layout: &Layout) -> Result<()> {
        let environment = layout.peer_environment(self.index, &self.config());
        let mut command = Command::new(layout.programs.bin.join("peer"));
        command
            .args(["node", "start"])
            .current_dir(&layout.dir)
            .envs(environment);
        let process = Process::spawn_in(places, &format!("peer{}", self.index), command)?;
        *self.process() = Some(process);
        Ok(())
    }

    /// By its log: its health check fails as long as the Docker endpoint does not answer.
    fn wait_until_started(&self) -> Result<()> {
        let process = self.process();
        let process = process.as_ref().context("the peer is stopped")?;
        process.wait_for_line("Started peer with ID", START)
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().expect("no holder of this lock panics")
    }

    fn config(&self) -> MutexGuard<'_, PeerConfig> {
        self.config.lock().expect("no holder of this lock panics")
    }
}
