//! Owns which releases of Fabric there are and in what they differ: programs, images, names of variables, profiles of the channel
//! configuration. Whoever builds or starts a network asks here, so that one code serves all releases.

use clap::ValueEnum;

use crate::go::{SourceFile, module};

const V1_4: &[SourceFile<'_>] = module!("fabric-1.4", "go.mod", "go.sum", "tools.go");
const V2_1: &[SourceFile<'_>] = module!("fabric-2.1", "go.mod", "go.sum", "tools.go");

/// A release of Fabric that the testbed has, by its series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Release {
    /// Installs store the source, instantiate and upgrade compile it
    #[value(name = "1.4")]
    V1_4,
    /// Installs compile; approve and commit make it the channel's
    #[default]
    #[value(name = "2.1")]
    V2_1,
}

impl Release {
    /// All of them.
    pub const ALL: [Release; 2] = [Release::V1_4, Release::V2_1];

    /// The package of 1.4's program that makes certificates: networks of all releases have theirs from it.
    pub(crate) const CRYPTOGEN: &str = "github.com/hyperledger/fabric/common/tools/cryptogen";

    /// As its programs print it: the last of its series that can be had as a Go module.
    pub fn version(self) -> &'static str {
        match self {
            Release::V1_4 => "1.4.12",
            Release::V2_1 => "2.1.1",
        }
    }

    /// The series, which tags of images carry.
    pub fn series(self) -> &'static str {
        match self {
            Release::V1_4 => "1.4",
            Release::V2_1 => "2.1",
        }
    }

    /// The Go module that pins all of its dependencies.
    pub(crate) fn module(self) -> &'static [SourceFile<'static>] {
        match self {
            Release::V1_4 => V1_4,
            Release::V2_1 => V2_1,
        }
    }

    /// The packages of its programs.
    pub(crate) fn programs(self) -> Vec<String> {
        let below = |prefix: &str, names: &[&str]| {
            let packages = names
                .iter()
                .map(|name| format!("github.com/hyperledger/fabric/{prefix}{name}"));
            packages.collect::<Vec<_>>()
        };
        match self {
            Release::V1_4 => [
                below("", &["peer", "orderer"]),
                below("common/tools/", &["configtxgen"]),
            ]
            .concat(),
            Release::V2_1 => below("cmd/", &["peer", "orderer", "configtxgen"]),
        }
    }

    /// What the Go tool is told. A peer names images and labels by these values; a released one carries the same.
    pub(crate) fn build_flags(self) -> Vec<String> {
        let mut values = vec![
            ("Version", self.version()),
            ("BaseDockerLabel", "org.hyperledger.fabric"),
            ("DockerNamespace", "hyperledger"),
        ];
        let mut flags = Vec::new();
        if self == Release::V1_4 {
            values.extend([
                ("BaseVersion", "0.4.22"),
                ("BaseDockerNamespace", "hyperledger"),
            ]);
            // The library behind it is C.
            flags.push("-tags=nopkcs11".to_owned());
        }
        let metadata = "github.com/hyperledger/fabric/common/metadata";
        let values = values
            .iter()
            .map(|(name, value)| format!("-X {metadata}.{name}={value}"));
        flags.push(format!("-ldflags={}", values.collect::<Vec<_>>().join(" ")));
        flags
    }

    /// The name of its builder image: what `chaincode.builder` is in its `core.yaml`.
    pub(crate) fn builder_image(self) -> &'static str {
        match self {
            Release::V1_4 => "hyperledger/fabric-ccenv:1.4",
            Release::V2_1 => "hyperledger/fabric-ccenv:2.1",
        }
    }

    /// The name of the image that its Go chaincode runs in.
    pub(crate) fn runtime_image(self) -> &'static str {
        match self {
            Release::V1_4 => "hyperledger/fabric-baseos:amd64-0.4.22",
            Release::V2_1 => "hyperledger/fabric-baseos:2.1",
        }
    }

    /// The orderer's variables for how it gets the first block, and for the block's file.
    pub(crate) fn first_block_variables(self) -> [&'static str; 2] {
        match self {
            Release::V1_4 => [
                "ORDERER_GENERAL_GENESISMETHOD",
                "ORDERER_GENERAL_GENESISFILE",
            ],
            Release::V2_1 => [
                "ORDERER_GENERAL_BOOTSTRAPMETHOD",
                "ORDERER_GENERAL_BOOTSTRAPFILE",
            ],
        }
    }
}
