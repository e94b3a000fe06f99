//! Drivers that an engine must not let in, each of which says what a person would read in the peer's log, beside the line of Peitho's log
//! that says why. dockerd has to refuse the same ones; its words are its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{DRIVERS, Process, Steps};

use crate::certificates::{Shows, subject};
use crate::world::{Counterparts, Target};
use testbed::at_once;

const PATIENCE: Duration = Duration::from_secs(10);

/// One way to be refused.
pub(crate) struct Refusal {
    /// For the page.
    pub(crate) what: &'static str,
    /// What the driver shows; `None` where it speaks plain HTTP.
    shows: Option<Shows>,
    listener: Listener,
    /// What each driver's error says.
    pub(crate) said: &'static str,
    /// What the line of Peitho's log says, in this order; between them are names.
    why: &'static [&'static str],
}

/// Where the driver comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listener {
    Plain,
    Tls,
}

impl Refusal {
    /// The same for the page.
    pub(crate) fn reason(&self) -> String {
        self.why.join("…")
    }

    fn is_told_by(&self, line: &str) -> bool {
        let mut rest = Some(line);
        for part in self.why {
            rest = rest
                .and_then(|rest| rest.split_once(part))
                .map(|(_, after)| after);
        }
        // Who does not trust the server went by himself.
        let level = match self.shows {
            Some(Shows::OwnToStranger) => " INFO ",
            _ => " WARN ",
        };
        rest.is_some() && line.contains(level)
    }
}

/// All of them, in the order of the page.
pub(crate) const ALL: &[Refusal] = &[
    Refusal {
        what: "a peer without a certificate",
        shows: Some(Shows::Nothing),
        listener: Listener::Tls,
        said: "remote error: tls: certificate required",
        why: &["none was shown; a peer shows that of CORE_VM_DOCKER_TLS_CERT_FILE and _KEY_FILE"],
    },
    Refusal {
        what: "an expired certificate",
        shows: Some(Shows::Expired),
        listener: Listener::Tls,
        said: "remote error: tls: expired certificate",
        why: &["it expired at 2020-01-01T00:00:00Z"],
    },
    Refusal {
        what: "a certificate of an authority that nobody knows",
        shows: Some(Shows::Foreign),
        listener: Listener::Tls,
        said: "remote error: tls: unknown certificate authority",
        why: &["its issuer is none of those that are trusted: CN=nobody"],
    },
    Refusal {
        what: "the subject of `org1`, signed by the authority of `org2`",
        shows: Some(Shows::OfAnother),
        listener: Listener::Tls,
        said: "remote error: tls: access denied",
        why: &[
            "signed by tenants.known[1].clientCaFile, but its common name ",
            ".org1.example.com is not in tenants.known[1].subjects",
        ],
    },
    Refusal {
        what: "a peer that trusts another authority than the server's",
        shows: Some(Shows::OwnToStranger),
        listener: Listener::Tls,
        said: "x509: certificate signed by unknown authority",
        why: &[
            "tls: handshake failed",
            "received fatal alert: BadCertificate",
        ],
    },
    Refusal {
        what: "plain HTTP where TLS is spoken",
        shows: None,
        listener: Listener::Tls,
        said: "this address speaks TLS, and the client began with plain HTTP",
        why: &["this address speaks TLS, and the client began with plain HTTP"],
    },
    Refusal {
        what: "TLS where plain HTTP is spoken",
        shows: Some(Shows::Own),
        listener: Listener::Plain,
        said: "server gave HTTP response to HTTPS client",
        why: &["this address speaks plain HTTP, and the client began with TLS"],
    },
];

/// Plays one of [`ALL`] with every driver.
pub(crate) fn judge(c: &Counterparts, refusal: &'static Refusal) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let dockerd = match refusal.listener {
        Listener::Plain => c.dockerd().endpoint(),
        Listener::Tls => c.secured_dockerd().endpoint(),
    };
    steps.time("dockerd", || {
        knock(c, &dockerd, Target::Dockerd, refusal, |said| {
            // It may close before its alert is read.
            !said.contains("it was let in")
        })
    })?;
    let endpoint = match refusal.listener {
        Listener::Plain => c.machine().endpoint(),
        Listener::Tls => c.fresh_secured()?.endpoint(),
    };
    steps.time("Peitho", || {
        knock(c, &endpoint, Target::Peitho, refusal, |said| {
            said.contains(refusal.said)
        })
    })?;
    match refusal.listener {
        Listener::Plain => told_by(c.machine().process(), refusal)?,
        Listener::Tls => told_by(c.secured().process(), refusal)?,
    }
    c.table.refused(refusal);
    Ok(Some(steps))
}

/// Every driver's first call, with what each has to say of it.
fn knock(
    c: &Counterparts,
    endpoint: &str,
    target: Target,
    refusal: &Refusal,
    is_right: impl Fn(&str) -> bool,
) -> Result<()> {
    let drivers: Vec<usize> = (0..DRIVERS.len()).collect();
    let said = at_once(&drivers, |index| {
        c.knock(*index, endpoint, target, refusal.shows)
    });
    for (driver, said) in DRIVERS.iter().zip(said) {
        let said = said?;
        ensure!(
            is_right(&said),
            "{} at {}: {}: {said:?}",
            driver.name,
            target.name(),
            refusal.what
        );
    }
    Ok(())
}

/// Waits for what is told: the alert may be out before the line.
fn told_by(server: &Process, refusal: &Refusal) -> Result<()> {
    let is_told = || Ok(told(&server.log(), refusal).is_ok());
    let waited = server.wait_until("tells whom it refused", PATIENCE, is_told);
    told(&server.log(), refusal)?;
    waited
}

/// The log has to say why: of each certificate by its subject, of who shows none or leaves as often as there are drivers, and of who begins
/// in the wrong way once for an address.
fn told(log: &str, refusal: &Refusal) -> Result<()> {
    let lines: Vec<_> = log
        .lines()
        .filter(|line| refusal.is_told_by(line))
        .collect();
    match refusal.shows {
        Some(Shows::Nothing | Shows::OwnToStranger) => ensure!(
            lines.len() >= DRIVERS.len(),
            "{}: too few lines: {lines:#?}",
            refusal.what
        ),
        Some(Shows::Own) | None => {
            ensure!(lines.len() == 1, "{}: {lines:#?}", refusal.what);
        }
        Some(_) => {
            for driver in DRIVERS {
                let subject = format!("subject=\"CN={}\"", subject(driver.name));
                ensure!(
                    lines.iter().any(|line| line.contains(&subject)),
                    "{}: no line about {}: {lines:#?}",
                    refusal.what,
                    driver.name
                );
            }
        }
    }
    Ok(())
}
