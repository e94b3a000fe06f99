//! What keeps chaincode from being installed: a stock peer's user hears it, nothing is stored, and the next install works.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{Compile, Release, Steps};

use super::launch_faults::{AT_ONCE, GRACE, SECOND_PULL, cordon, no_quota, quota, uncordon};
use crate::faults::{Cause, Fault, judge_all, judge_install, judge_install_of};
use crate::world::{Counterparts, PEER};

/// `compile.timeoutSeconds` for the compile that never ends.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The peer takes `builder` for its compiles, which takes a restart.
fn with_builder(c: &Counterparts, builder: &str) -> Result<()> {
    c.with_fabric(|fabric| {
        fabric.configure_peer(PEER, |config| builder.clone_into(&mut config.builder))
    })
}

/// Does `work` while the peer takes the copying builder.
pub(super) fn while_copying<T>(c: &Counterparts, work: impl FnOnce() -> Result<T>) -> Result<T> {
    copying_builder(c)?;
    let done = work();
    with_builder(
        c,
        &c.registry.reference(&c.assets.warm_builder(Release::V2_1)?),
    )
    .context("the peer with its own builder")?;
    done
}

fn copying_builder(c: &Counterparts) -> Result<()> {
    with_builder(c, &c.registry.reference(&c.assets.images()?.copybuilder))
}

fn limit_memory(config: &mut Value) {
    config["compile"]["limits"] = json!({"memory": "48Mi"});
    config["compile"]["requests"] = json!({"memory": "16Mi", "cpu": "10m"});
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "builder image that its registry does not have",
        cause: Cause::Outside(
            |c| with_builder(c, &format!("{}/none:1", c.registry.address())),
            copying_builder,
        ),
        says: &["none:1", "unknown"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "builder image that its registry denies",
        cause: Cause::Outside(
            |c| with_builder(c, &format!("{}/private:1", c.closed_registry.address())),
            copying_builder,
        ),
        says: &["private:1", "401 Unauthorized"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "builder image whose registry is away",
        cause: Cause::Outside(
            |c| with_builder(c, "10.88.0.1:5009/away:1"),
            copying_builder,
        ),
        says: &["10.88.0.1:5009/away:1", "connection was refused"],
        known_after: SECOND_PULL,
    },
    Fault {
        name: "builder image that the operator does not allow",
        cause: Cause::Config(|_, config| {
            config["compile"]["allowedImages"] = json!(["registry.example.com/*"]);
        }),
        says: &["copybuilder:1", "compile.allowedImages"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "no node takes the compile",
        cause: Cause::Outside(cordon, uncordon),
        says: &["Unschedulable", "node(s) were unschedulable"],
        known_after: GRACE,
    },
    Fault {
        name: "quota of the namespace used up by others",
        cause: Cause::Outside(quota, no_quota),
        says: &["exceeded quota: none", "limited: pods=0"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "registry of built images that denies the login",
        cause: Cause::Config(|c, config| super::registry::push(c, config, "another password")),
        says: &[
            "10.88.0.1:5001/fabric/chaincode: denied",
            "the user somebody",
        ],
        known_after: AT_ONCE,
    },
];

pub(super) fn install_that_fails_tells_why(c: &Counterparts) -> Result<Option<Steps>> {
    while_copying(c, || judge_all(c, FAULTS, judge_install))
}

const OUT_OF_MEMORY: Fault = Fault {
    name: "compile that runs out of memory",
    cause: Cause::Config(|_, config| limit_memory(config)),
    says: &["the compile ran out of memory, see compile.limits"],
    known_after: AT_ONCE,
};

const WITHOUT_END: Fault = Fault {
    name: "compile that does not end",
    cause: Cause::Config(|_, config| {
        config["compile"]["timeoutSeconds"] = json!(TIMEOUT.as_secs());
    }),
    says: &["the compile was ended after 5 s (compile.timeoutSeconds)"],
    known_after: TIMEOUT,
};

pub(super) fn compile_that_is_ended_tells_by_what(c: &Counterparts) -> Result<Option<Steps>> {
    while_copying(c, || {
        judge_all(c, &[OUT_OF_MEMORY], |c, fault| {
            judge_install_of(c, fault, Compile::EatsMemory)
        })?;
        judge_all(c, &[WITHOUT_END], |c, fault| {
            judge_install_of(c, fault, Compile::NeverEnds)
        })
    })
}

const STORE_FULL: Fault = Fault {
    name: "volume of the store full",
    cause: Cause::Outside(small_store, |_| larger_store()),
    says: &["no space left in", "small-store for", "bytes"],
    known_after: AT_ONCE,
};

fn mount(arguments: &[&str]) -> Result<()> {
    let done = Command::new("mount").args(arguments).output()?;
    ensure!(
        done.status.success(),
        "mount: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// A store of its own on a volume of 4 MiB: less than one program.
fn small_store(c: &Counterparts) -> Result<()> {
    let directory = c.run.data().join("small-store");
    std::fs::create_dir_all(&directory)?;
    mount(&[
        "-t",
        "tmpfs",
        "-o",
        "size=4m",
        "small-store",
        &directory.to_string_lossy(),
    ])?;
    c.reconfigure(|config| config["store"]["directory"] = json!(directory))
}

fn larger_store() -> Result<()> {
    mount(&["-o", "remount,size=512m", "small-store"])
}

pub(super) fn full_store_is_told_and_recovers(c: &Counterparts) -> Result<Option<Steps>> {
    let judged = while_copying(c, || judge_all(c, &[STORE_FULL], judge_install));
    // Chaincode that was built before lies in the other store.
    c.configure_as_before()?;
    judged
}
