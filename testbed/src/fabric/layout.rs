//! Owns where the network's files are: keys, certificates, blocks, and the environments that name them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::PeerConfig;
use super::kind::{Network, Tls};
use crate::go::FabricPrograms;
use crate::program;
use crate::run::Run;

/// The channel that every peer has joined.
pub(super) const CHANNEL: &str = "ch1";

/// Where the orderer listens.
const ORDERER: &str = "127.0.0.1:7050";

/// Environment variables of a program.
pub(super) type Environment = Vec<(String, String)>;

#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    /// What is large, or is executed.
    pub(super) data: PathBuf,
    network: Network,
    pub(super) programs: FabricPrograms,
}

impl Layout {
    /// Makes keys, certificates, the first block and the channel's creation.
    pub(super) fn generate(
        run: &Run,
        network: Network,
        programs: FabricPrograms,
    ) -> Result<Layout> {
        let layout = Layout {
            dir: run.dir().join("fabric"),
            data: run.data().join("fabric"),
            network,
            programs,
        };
        let config = layout.dir.join("config");
        // A network of the same run may have been here: its ledger is not this one's.
        for dir in [&layout.dir, &layout.data] {
            if dir.exists() {
                fs::remove_dir_all(dir)?;
            }
            fs::create_dir_all(dir)?;
        }
        fs::create_dir_all(&config)?;
        for name in ["core.yaml", "orderer.yaml"] {
            fs::copy(layout.programs.sampleconfig.join(name), config.join(name))?;
        }
        fs::write(
            layout.dir.join("configtx.yaml"),
            include_str!("../../assets/configtx.yaml"),
        )?;
        fs::write(
            layout.dir.join("crypto.yaml"),
            include_str!("../../assets/crypto.yaml"),
        )?;

        let mut cryptogen = Command::new(&layout.programs.cryptogen);
        let order = ["generate", "--config", "crypto.yaml", "--output", "crypto"];
        program::output(cryptogen.args(order).current_dir(&layout.dir))?;
        let [system, channel] = network.profiles();
        for arguments in [
            [
                "-profile",
                system,
                "-channelID",
                "system",
                "-outputBlock",
                "genesis.block",
            ],
            [
                "-profile",
                channel,
                "-channelID",
                CHANNEL,
                "-outputCreateChannelTx",
                "channel.tx",
            ],
        ] {
            let mut configtxgen = Command::new(layout.programs.bin.join("configtxgen"));
            configtxgen
                .current_dir(&layout.dir)
                .env("FABRIC_CFG_PATH", &layout.dir);
            program::output(configtxgen.args(arguments))?;
        }
        Ok(layout)
    }

    pub(super) fn peer_host(index: usize) -> String {
        format!("peer{index}.org1.example.com")
    }

    pub(super) fn peer_address(index: usize) -> String {
        format!("127.0.0.1:{}", 7051 + 100 * index)
    }

    fn organization(&self) -> PathBuf {
        self.dir.join("crypto/peerOrganizations/org1.example.com")
    }

    fn peer(&self, index: usize) -> PathBuf {
        self.organization()
            .join("peers")
            .join(Self::peer_host(index))
    }

    fn orderer(&self) -> PathBuf {
        self.dir
            .join("crypto/ordererOrganizations/example.com/orderers/orderer.example.com")
    }

    /// Flags of the CLI that lead to the orderer.
    pub(super) fn to_orderer(&self) -> Vec<String> {
        let mut flags = owned(["--orderer", ORDERER]);
        if self.network.tls() == Tls::On {
            let authority = shown(&self.orderer().join("tls/ca.crt"));
            flags.extend(owned(["--tls", "--cafile", &authority]));
        }
        flags
    }

    /// Flags of the CLI that lead to a peer which endorses.
    pub(super) fn to_endorser(&self, index: usize) -> Vec<String> {
        let mut flags = owned(["--peerAddresses", &Self::peer_address(index)]);
        if self.network.tls() == Tls::On {
            let authority = shown(&self.peer(index).join("tls/ca.crt"));
            flags.extend(owned(["--tlsRootCertFiles", &authority]));
        }
        flags
    }

    pub(super) fn orderer_environment(&self) -> Environment {
        let data = |name: &str| shown(&self.data.join("orderer").join(name));
        let [method, file] = self.network.release().first_block_variables();
        let mut environment = entries([
            ("FABRIC_CFG_PATH", shown(&self.dir.join("config"))),
            ("FABRIC_LOGGING_SPEC", "info".into()),
            ("ORDERER_GENERAL_LISTENADDRESS", "127.0.0.1".into()),
            ("ORDERER_GENERAL_LISTENPORT", "7050".into()),
            ("ORDERER_GENERAL_LOCALMSPID", "OrdererMSP".into()),
            (
                "ORDERER_GENERAL_LOCALMSPDIR",
                shown(&self.orderer().join("msp")),
            ),
            (method, "file".into()),
            (file, shown(&self.dir.join("genesis.block"))),
            ("ORDERER_FILELEDGER_LOCATION", data("ledger")),
            ("ORDERER_CONSENSUS_WALDIR", data("wal")),
            ("ORDERER_CONSENSUS_SNAPDIR", data("snapshots")),
            ("ORDERER_OPERATIONS_LISTENADDRESS", "127.0.0.1:8443".into()),
        ]);
        let tls = |file: &str| shown(&self.orderer().join("tls").join(file));
        match self.network.tls() {
            Tls::Off => {
                environment.extend(entries([("ORDERER_GENERAL_TLS_ENABLED", "false".into())]))
            }
            Tls::On => environment.extend(entries([
                ("ORDERER_GENERAL_TLS_ENABLED", "true".into()),
                ("ORDERER_GENERAL_TLS_PRIVATEKEY", tls("server.key")),
                ("ORDERER_GENERAL_TLS_CERTIFICATE", tls("server.crt")),
                (
                    "ORDERER_GENERAL_TLS_ROOTCAS",
                    format!("[{}]", tls("ca.crt")),
                ),
                (
                    "ORDERER_GENERAL_CLUSTER_CLIENTCERTIFICATE",
                    tls("server.crt"),
                ),
                (
                    "ORDERER_GENERAL_CLUSTER_CLIENTPRIVATEKEY",
                    tls("server.key"),
                ),
                (
                    "ORDERER_GENERAL_CLUSTER_ROOTCAS",
                    format!("[{}]", tls("ca.crt")),
                ),
            ])),
        }
        environment
    }

    pub(super) fn peer_environment(&self, index: usize, config: &PeerConfig) -> Environment {
        let address = Self::peer_address(index);
        let port = config
            .chaincode_address
            .rsplit(':')
            .next()
            .unwrap_or_default();
        let mut environment = self.client_environment(index, &self.peer(index).join("msp"));
        environment.extend(entries([
            ("FABRIC_LOGGING_SPEC", "info".into()),
            ("CORE_PEER_ID", Self::peer_host(index)),
            ("CORE_PEER_NETWORKID", "net".into()),
            ("CORE_PEER_LISTENADDRESS", address.clone()),
            (
                "CORE_PEER_CHAINCODELISTENADDRESS",
                format!("0.0.0.0:{port}"),
            ),
            (
                "CORE_PEER_CHAINCODEADDRESS",
                config.chaincode_address.clone(),
            ),
            ("CORE_PEER_GOSSIP_BOOTSTRAP", Self::peer_address(0)),
            ("CORE_PEER_GOSSIP_EXTERNALENDPOINT", address),
            // Each peer fetches blocks itself: none waits for an election.
            ("CORE_PEER_GOSSIP_USELEADERELECTION", "false".into()),
            ("CORE_PEER_GOSSIP_ORGLEADER", "true".into()),
            (
                "CORE_PEER_FILESYSTEMPATH",
                shown(&self.data.join(Self::peer_host(index))),
            ),
            (
                "CORE_OPERATIONS_LISTENADDRESS",
                format!("127.0.0.1:{}", 9443 + 100 * index),
            ),
            ("CORE_VM_ENDPOINT", config.vm_endpoint.clone()),
            ("CORE_VM_DOCKER_ATTACHSTDOUT", "true".into()),
            ("CORE_CHAINCODE_BUILDER", config.builder.clone()),
            ("CORE_CHAINCODE_GOLANG_RUNTIME", config.runtime.clone()),
            // The builder image has no C compiler, which a static link by the peer's recipe asks for.
            ("CORE_CHAINCODE_GOLANG_DYNAMICLINK", "true".into()),
        ]));
        environment.extend(config.environment.iter().cloned());
        environment
    }

    /// What the CLI needs to act as the organization's administrator towards this peer.
    pub(super) fn admin_environment(&self, index: usize) -> Environment {
        let msp = self.organization().join("users/Admin@org1.example.com/msp");
        self.client_environment(index, &msp)
    }

    fn client_environment(&self, index: usize, msp: &Path) -> Environment {
        let mut environment = entries([
            ("FABRIC_CFG_PATH", shown(&self.dir.join("config"))),
            ("CORE_PEER_LOCALMSPID", "Org1MSP".into()),
            ("CORE_PEER_MSPCONFIGPATH", shown(msp)),
            ("CORE_PEER_ADDRESS", Self::peer_address(index)),
        ]);
        let tls = |file: &str| shown(&self.peer(index).join("tls").join(file));
        match self.network.tls() {
            Tls::Off => environment.extend(entries([("CORE_PEER_TLS_ENABLED", "false".into())])),
            Tls::On => environment.extend(entries([
                ("CORE_PEER_TLS_ENABLED", "true".into()),
                ("CORE_PEER_TLS_CERT_FILE", tls("server.crt")),
                ("CORE_PEER_TLS_KEY_FILE", tls("server.key")),
                ("CORE_PEER_TLS_ROOTCERT_FILE", tls("ca.crt")),
            ])),
        }
        environment
    }
}

fn entries<const N: usize>(list: [(&str, String); N]) -> Environment {
    list.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Arguments as they are collected.
pub(super) fn owned<const N: usize>(list: [&str; N]) -> Vec<String> {
    list.map(str::to_owned).into()
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
