//! Owns the kinds of networks: a release, with or without TLS. [`super::layout`] asks it for what the kind decides.

use crate::release::Release;

/// A kind of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    release: Release,
    tls: Tls,
}

/// Whether members of a network speak TLS, with each other and with chaincode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    On,
    Off,
}

impl Network {
    /// 1.4.12, with TLS.
    pub const V1_4: Network = Network {
        release: Release::V1_4,
        tls: Tls::On,
    };

    /// 1.4.12, where nobody speaks TLS: its peers upload nothing to a container. Its orderer is alone, since Raft insists on TLS.
    pub const V1_4_WITHOUT_TLS: Network = Network {
        release: Release::V1_4,
        tls: Tls::Off,
    };

    /// 2.1.1, with TLS.
    pub const V2_1: Network = Network {
        release: Release::V2_1,
        tls: Tls::On,
    };

    /// The programs it is made of.
    pub fn release(self) -> Release {
        self.release
    }

    pub(super) fn tls(self) -> Tls {
        self.tls
    }

    /// Names in `configtx.yaml`: of the system channel's profile and of the channel's.
    pub(super) fn profiles(self) -> [&'static str; 2] {
        match (self.release, self.tls) {
            (Release::V1_4, Tls::On) => ["System14", "Channel14"],
            (Release::V1_4, Tls::Off) => ["System14WithoutTls", "Channel14"],
            (Release::V2_1, _) => ["System21", "Channel21"],
        }
    }
}

impl From<Release> for Network {
    /// With TLS.
    fn from(release: Release) -> Network {
        match release {
            Release::V1_4 => Network::V1_4,
            Release::V2_1 => Network::V2_1,
        }
    }
}
