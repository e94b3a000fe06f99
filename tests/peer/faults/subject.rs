//! A deployed chaincode that faults happen to: what cases do to it, and ask of it. Nearly all share one; where several faults are judged at
//! once, each has its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::{Chaincode, CliError, Definition};

use super::Left;
use crate::world::{Counterparts, PEER};

/// A chaincode of the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    /// What invokes call it.
    name: &'static str,
    /// The label of the package that serves.
    label: &'static str,
}

/// What the main job deployed.
pub(crate) const SHARED: Subject = Subject {
    name: "basic",
    label: "basic_v2",
};

impl Subject {
    /// The same code for a fault of its own.
    pub(super) const fn own(name: &'static str, label: &'static str) -> Self {
        Self { name, label }
    }

    pub(super) fn label(self) -> &'static str {
        self.label
    }

    /// Installs, approves and commits what [`SHARED`] runs under this name: that was compiled before.
    pub(super) fn deploy(self, c: &Counterparts) -> Result<()> {
        let package = Chaincode::basic().label(self.label).version("basic v2");
        let (package, definition) = (
            package.package(&c.assets)?,
            Definition::new(self.name, "1", 1),
        );
        c.with_fabric(|fabric| Ok(fabric.deploy(PEER, &definition, &package)?))?;
        Ok(())
    }

    /// Removes what [`Subject::deploy`] made but the package: its container goes, and a peer that starts anew does not launch it.
    pub(super) fn retire(self, c: &Counterparts) -> Result<()> {
        let definition = Definition::new(self.name, "2", 2);
        c.with_fabric(|fabric| Ok(fabric.retire(PEER, &definition)?))?;
        self.end(c)
    }

    /// Writes a value and reads it, each by one call of the peer's command line.
    pub(crate) fn invoke(self, c: &Counterparts, key: &str) -> Result<(), CliError> {
        let told = c.with_fabric(|fabric| {
            let put = fabric.invoke(PEER, self.name, &["Put", key, "value"]);
            Ok(put.and_then(|_| fabric.query(PEER, self.name, &["Get", key])))
        });
        let value = told.unwrap_or_else(|error| panic!("the network: {error:#}"))?;
        assert_eq!(value, "value", "Get {key}");
        Ok(())
    }

    /// Removes its container, if the peer ever made one, and returns when its process has ended.
    pub(crate) fn end(self, c: &Counterparts) -> Result<()> {
        let Some(name) = c.container_names(self.label).pop() else {
            return Ok(());
        };
        c.engine.order(
            "DELETE",
            &format!("/containers/{name}?force=1"),
            &[204, 404],
        )?;
        c.greetings.wait_until(
            "its process has ended",
            self.label,
            Duration::from_secs(20),
            |lives| lives.iter().all(|life| life.ended.is_some()),
        )?;
        Ok(())
    }

    /// Exactly one pod and one record of it there must be, and the pod must be here to stay.
    pub(crate) fn one_pod(self, c: &Counterparts) -> Result<()> {
        for kind in ["pods", "secrets"] {
            let ours = self.objects(c, kind)?;
            ensure!(
                matches!(&ours[..], [one] if !one.is_leaving),
                "{kind} of the chaincode: {ours:?}"
            );
        }
        Ok(())
    }

    /// What there is of it.
    pub(super) fn left(self, c: &Counterparts) -> Result<Left> {
        let names = |kind| -> Result<Vec<String>> {
            let found = self.objects(c, kind)?.into_iter();
            Ok(found.map(|object| object.name).collect())
        };
        Ok(Left {
            pods: names("pods")?,
            secrets: names("secrets")?,
        })
    }

    fn objects(self, c: &Counterparts, kind: &str) -> Result<Vec<Object>> {
        let all = c.cluster.kubectl(&[
            "get",
            kind,
            "--namespace",
            CHAINCODE_NAMESPACE,
            "-o",
            r#"jsonpath={range .items[*]}{.metadata.annotations.peitho\.dev/package-id} {.kind}/{.metadata.name} {.metadata.deletionTimestamp}{"\n"}{end}"#,
        ])?;
        let ours = format!("{}:", self.label);
        let lines = all.lines().filter(|line| line.starts_with(&ours));
        Ok(lines
            .map(|line| {
                let mut words = line.split_whitespace().skip(1);
                Object {
                    name: words.next().unwrap_or_default().to_lowercase(),
                    is_leaving: words.next().is_some(),
                }
            })
            .collect())
    }
}

#[derive(Debug)]
struct Object {
    /// `pod/name`, as `kubectl get` takes it.
    name: String,
    is_leaving: bool,
}
