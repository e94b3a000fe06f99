//! How a client and an engine are brought together: by TCP, by TLS, by a Unix socket, and with pods for containers. What is expected is
//! the same for all of them.

use testbed::{DRIVERS, Driver};

/// A way to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Plain HTTP over TCP.
    Tcp,
    /// Over TLS 1.3, both sides with certificates.
    Tls,
    /// The same over TLS 1.2.
    OldTls,
    /// Over a Unix socket.
    Socket,
    /// Over TCP, and Peitho runs all of it on Kubernetes.
    Kubernetes,
}

impl Way {
    pub(crate) const ALL: [Way; 5] = [
        Self::Tcp,
        Self::Tls,
        Self::OldTls,
        Self::Socket,
        Self::Kubernetes,
    ];

    /// For names of containers and images, which are not to be those of another way.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::OldTls => "old",
            Self::Socket => "socket",
            Self::Kubernetes => "pods",
        }
    }

    /// As the page calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Tcp => "Over TCP",
            Self::Tls => "Over TLS 1.3 with client certificates",
            Self::OldTls => "Over TLS 1.2 with client certificates",
            Self::Socket => "Over a Unix socket",
            Self::Kubernetes => "With Kubernetes",
        }
    }

    /// What the page says of it.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Tcp => "All of it.",
            Self::Tls => {
                "dockerd with `--tlsverify`, Peitho with a tenant of its own authority; each driver has a certificate. These are the scenarios \
                 in which the transport can matter: bodies in both directions, the half-close, a bare FIN here, streams that stand for long, \
                 connections that are kept, and many handshakes at once. The version is what the drivers saw agreed on and what Peitho's log \
                 says of each connection."
            }
            Self::OldTls => {
                "A driver speaks what the Go speaks that it was built with, so that all above speak 1.3. Peers of 1.4 that were built with a Go \
                 before 1.13 speak 1.2."
            }
            Self::Socket => "fsouza sends an empty `Host` there.",
            Self::Kubernetes => {
                "A client of each library; compiles and chaincode are pods, and reach the driver at an address of the host."
            }
        }
    }

    /// Places in [`DRIVERS`] of those who go it.
    pub(crate) fn drivers(self) -> Vec<usize> {
        let goes = |driver: &Driver| match self {
            Self::Tcp | Self::Tls | Self::Socket => true,
            Self::OldTls => driver.name == "fsouza-1.3.0",
            Self::Kubernetes => ["fsouza-1.10.0", "moby-0.4.1"].contains(&driver.name),
        };
        let all = DRIVERS.iter().enumerate();
        all.filter(|(_, driver)| goes(driver))
            .map(|(index, _)| index)
            .collect()
    }

    /// The version of TLS, as Go and as Peitho's log call it.
    pub(crate) fn tls(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Tls => Some(("TLS 1.3", "TLSv1_3")),
            Self::OldTls => Some(("TLS 1.2", "TLSv1_2")),
            _ => None,
        }
    }
}
