//! Authorities and certificates of one run: a server's, and a directory for each driver and each case of one, with what a peer has in
//! `CORE_VM_DOCKER_TLS_*`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use testbed::pki::{Authority, Subject, Term};
use testbed::{DRIVERS, Speech};

/// What a driver shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    /// A certificate of its organisation.
    Own,
    /// None.
    Nothing,
    /// One of its organisation that expired.
    Expired,
    /// One of an authority that nobody knows.
    Foreign,
    /// One with its organisation's subject, signed by the authority of another organisation of the same server.
    OfAnother,
    /// Its own, and it trusts another authority than the server's.
    OwnToStranger,
}

/// All of them lie in one directory.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let authority = |name: &str| Authority::new(&directory.join(name), name);
        let servers = authority("servers")?;
        let server = Subject {
            user: "engine",
            group: None,
            addresses: &["127.0.0.1"],
            term: Term::Current,
        };
        servers.issue("engine", &server)?;
        let (org1, org2, nobody) = (authority("org1")?, authority("org2")?, authority("nobody")?);
        let this = Self(directory.to_owned());
        for driver in DRIVERS {
            for (shows, signer, term) in [
                (Shows::Own, Some(&org1), Term::Current),
                (Shows::Nothing, None, Term::Current),
                (Shows::Expired, Some(&org1), Term::Over),
                (Shows::Foreign, Some(&nobody), Term::Current),
                (Shows::OfAnother, Some(&org2), Term::Current),
                (Shows::OwnToStranger, Some(&org1), Term::Current),
            ] {
                let of_driver = this.of(driver.name, shows);
                fs::create_dir_all(&of_driver)?;
                let trusted = match shows {
                    Shows::OwnToStranger => &nobody,
                    _ => &servers,
                };
                fs::copy(trusted.file("ca", "crt"), of_driver.join("ca.pem"))?;
                let Some(signer) = signer else { continue };
                let subject = Subject {
                    user: &subject(driver.name),
                    group: None,
                    addresses: &[],
                    term,
                };
                signer.issue("peer", &subject)?;
                for (kind, name) in [("crt", "cert.pem"), ("key", "key.pem")] {
                    fs::rename(signer.file("peer", kind), of_driver.join(name))?;
                }
            }
        }
        Ok(this)
    }

    /// The directory of a driver.
    pub(crate) fn of(&self, driver: &str, shows: Shows) -> PathBuf {
        self.0.join(format!("{driver}-{shows:?}"))
    }

    /// How dockerd speaks with them: to the peers of the first organisation.
    pub(crate) fn speech(&self) -> Speech {
        Speech::Tls {
            clients: self.authority("org1"),
            certificate: self.0.join("servers/engine.crt"),
            key: self.0.join("servers/engine.key"),
        }
    }

    /// The same as Peitho is configured, which serves a second organisation beside.
    pub(crate) fn configure(&self, config: &mut serde_json::Value) {
        config["listen"]["tls"] = serde_json::json!({
            "certificateFile": self.0.join("servers/engine.crt"),
            "keyFile": self.0.join("servers/engine.key"),
        });
        let known = ["org1", "org2"].map(|name| {
            serde_json::json!({
                "name": name, "clientCaFile": self.authority(name), "subjects": [format!("*.{name}.example.com")],
            })
        });
        config["tenants"] = serde_json::json!({ "known": known });
    }

    fn authority(&self, name: &str) -> PathBuf {
        self.0.join(name).join("ca.crt")
    }
}

/// The common name of a driver's certificates.
pub(crate) fn subject(driver: &str) -> String {
    format!("{driver}.org1.example.com")
}
