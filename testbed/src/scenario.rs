//! Owns the cases that an engine is judged by, written once: the peer's engine may be dockerd or Peitho, the observation is the same.
//! A test calls one and asserts what was observed; the bench calls them for the times. Those that differ before 2.0 are in [`lscc`].

pub mod lscc;

use anyhow::{Result, bail, ensure};

use crate::assets::Assets;
use crate::chaincode::Chaincode;
use crate::fabric::{CliError, Definition, Fabric};
use crate::steps::Steps;

/// What [`main_job`] saw.
#[derive(Debug)]
pub struct MainJob {
    /// What `Get` answered after `Put key value`.
    pub value: String,
    /// What `version` answered before the upgrade.
    pub before: String,
    /// What `version` answered after it.
    pub after: String,
    /// The times.
    pub steps: Steps,
}

impl MainJob {
    /// Asserts that it saw what it must, whichever way the release goes. `name` is that of the chaincode.
    pub fn expect(&self, name: &str) -> Result<()> {
        ensure!(
            self.value == "value",
            "Get after Put answered {:?}",
            self.value
        );
        ensure!(
            self.before == format!("{name} v1"),
            "before the upgrade: {:?}",
            self.before
        );
        ensure!(
            self.after == format!("{name} v2"),
            "after the upgrade: {:?}",
            self.after
        );
        Ok(())
    }
}

/// What the first compile of a main job finds of earlier ones, if the builder is [`Assets::warm_builder`]. The second finds all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Nothing: it takes as long as any chaincode's first.
    Uncached,
    /// All that it imports.
    Cached,
}

impl First {
    fn of(self, chaincode: Chaincode) -> Chaincode {
        match self {
            Self::Uncached => chaincode.uncached(),
            Self::Cached => chaincode,
        }
    }
}

/// The way of every chaincode: install, approve, commit, invoke, query; then an upgrade to other code and a query of that.
pub fn main_job(
    assets: &Assets,
    fabric: &Fabric,
    peer: usize,
    name: &str,
    first: First,
) -> Result<MainJob> {
    let mut steps = Steps::new();
    let chaincode = |version: &str| {
        Chaincode::basic()
            .label(&format!("{name}_{version}"))
            .version(&format!("{name} {version}"))
    };
    let first = first.of(chaincode("v1")).package(assets)?;
    let second = chaincode("v2").package(assets)?;

    let definition = Definition::new(name, "1", 1);
    let id = steps.time("install", || fabric.install(peer, &first))?;
    steps.time("approve", || fabric.approve(peer, &definition, &id))?;
    steps.time("commit", || fabric.commit(peer, &definition))?;
    steps.time("first invoke", || {
        fabric.invoke(peer, name, &["Put", "key", "value"])
    })?;
    let value = steps.time("query", || fabric.query(peer, name, &["Get", "key"]))?;
    let before = fabric.query(peer, name, &["version"])?;

    let definition = Definition::new(name, "2", 2);
    let id = steps.time("install v2", || fabric.install(peer, &second))?;
    steps.time("approve v2", || fabric.approve(peer, &definition, &id))?;
    steps.time("commit v2", || fabric.commit(peer, &definition))?;
    let after = steps.time("first query of v2", || {
        fabric.query(peer, name, &["version"])
    })?;
    Ok(MainJob {
        value,
        before,
        after,
        steps,
    })
}

/// What [`one_invoke()`] saw.
#[derive(Debug)]
pub struct OneInvoke {
    /// What `Get` answered after `Put key value`.
    pub value: String,
    /// The times.
    pub steps: Steps,
}

impl OneInvoke {
    /// Asserts that it saw what it must; the times.
    pub fn expect(self) -> Result<Steps> {
        ensure!(
            self.value == "value",
            "Get after Put answered {:?}",
            self.value
        );
        Ok(self.steps)
    }
}

/// One install, which compiles, one invoke, which launches, its query, and no more.
pub fn one_invoke(assets: &Assets, fabric: &Fabric, peer: usize, name: &str) -> Result<OneInvoke> {
    one_invoke_of(Chaincode::basic(), assets, fabric, peer, name)
}

/// The same with a chaincode of another kind.
pub fn one_invoke_of(
    chaincode: Chaincode,
    assets: &Assets,
    fabric: &Fabric,
    peer: usize,
    name: &str,
) -> Result<OneInvoke> {
    let mut steps = Steps::new();
    let package = chaincode
        .label(&format!("{name}_1"))
        .version(name)
        .package(assets)?;
    let definition = Definition::new(name, "1", 1);
    let id = steps.time("install", || fabric.install(peer, &package))?;
    fabric.approve(peer, &definition, &id)?;
    fabric.commit(peer, &definition)?;
    let put = ["Put", "key", "value"];
    steps.time("first invoke", || fabric.invoke(peer, name, &put))?;
    let value = fabric.query(peer, name, &["Get", "key"])?;
    Ok(OneInvoke { value, steps })
}

/// What [`crash_and_invoke`] saw.
#[derive(Debug)]
pub struct Crash {
    /// What the caller of the invoke that ended the process was told.
    pub told: CliError,
    /// What `Get` answered from the process that came after it.
    pub value: String,
    /// The times.
    pub steps: Steps,
}

impl Crash {
    /// Asserts that it saw what it must.
    pub fn expect(&self) -> Result<()> {
        ensure!(
            self.value == "the crash",
            "Get after the crash answered {:?}",
            self.value
        );
        Ok(())
    }
}

/// A process that ends in the middle of an invoke: its caller is told, and the next invoke finds a new process. `name` must be deployed.
pub fn crash_and_invoke(fabric: &Fabric, peer: usize, name: &str) -> Result<Crash> {
    let mut steps = Steps::new();
    let Err(told) = steps.time("invoke that exits", || {
        fabric.invoke(peer, name, &["exit", "3"])
    }) else {
        bail!("an invoke succeeded although its process exited");
    };
    let put = ["Put", "after", "the crash"];
    steps.time("next invoke", || fabric.invoke(peer, name, &put))?;
    let value = steps.time("query", || fabric.query(peer, name, &["Get", "after"]))?;
    Ok(Crash { told, value, steps })
}

/// [`one_invoke_of`] and then [`crash_and_invoke`], which saw what they must; the times of the first.
pub fn one_invoke_and_crash_of(
    chaincode: Chaincode,
    assets: &Assets,
    fabric: &Fabric,
    peer: usize,
    name: &str,
) -> Result<Steps> {
    let seen = one_invoke_of(chaincode, assets, fabric, peer, name)?;
    crash_and_invoke(fabric, peer, name)?.expect()?;
    seen.expect()
}

/// What [`peer_restart`] saw.
#[derive(Debug)]
pub struct PeerRestart {
    /// What `Get` answered after the restart to a `Put` from before it.
    pub value: String,
    /// The times.
    pub steps: Steps,
}

/// How a peer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEnd {
    /// By SIGTERM, so that it may clean up.
    Terminated,
    /// By SIGKILL.
    Killed,
}

/// A peer that ends and is started again: its chaincode is launched anew from the image that was built before. `name` must be
/// deployed.
pub fn peer_restart(fabric: &Fabric, peer: usize, name: &str, end: PeerEnd) -> Result<PeerRestart> {
    let mut steps = Steps::new();
    let put = ["Put", "restart", "kept"];
    steps.time("invoke", || fabric.invoke(peer, name, &put))?;
    steps.time("end of the peer", || match end {
        PeerEnd::Terminated => fabric.stop_peer(peer),
        PeerEnd::Killed => fabric.kill_peer(peer),
    })?;
    steps.time("start of the peer", || fabric.start_peer(peer))?;
    let put = ["Put", "next", "answered"];
    steps.time("next invoke", || fabric.invoke(peer, name, &put))?;
    let value = fabric.query(peer, name, &["Get", "restart"])?;
    Ok(PeerRestart { value, steps })
}

/// What [`compile_error()`] saw.
#[derive(Debug)]
pub struct CompileError {
    /// What the operator was told.
    pub told: CliError,
    /// The packages that the peer has after the failure.
    pub installed_then: usize,
    /// The packages that the peer has after the corrected one.
    pub installed_after: usize,
    /// The times.
    pub steps: Steps,
}

/// What Go says of the broken chaincode, and where.
const COMPILER: [&str; 2] = ["undefined: undefinedThing", "kind.go:"];

/// Asserts that the operator was told what the compiler said.
fn expect_compiler(told: &CliError) -> Result<()> {
    for words in COMPILER {
        ensure!(
            told.says(words),
            "the compiler's {words:?} is missing: {told}"
        );
    }
    Ok(())
}

impl CompileError {
    /// Asserts that it saw what it must.
    pub fn expect(&self) -> Result<()> {
        expect_compiler(&self.told)?;
        ensure!(
            self.installed_after == self.installed_then + 1,
            "{} packages, then {}",
            self.installed_then,
            self.installed_after
        );
        Ok(())
    }
}

/// A package that does not compile is refused with the compiler's words; the corrected one, under the same label, installs.
pub fn compile_error(
    assets: &Assets,
    fabric: &Fabric,
    peer: usize,
    label: &str,
) -> Result<CompileError> {
    let mut steps = Steps::new();
    let broken = Chaincode::broken()
        .label(label)
        .version(label)
        .package(assets)?;
    let Err(told) = steps.time("install that fails", || fabric.install(peer, &broken)) else {
        bail!("a package that does not compile was installed");
    };
    let installed_then = fabric.query_installed(peer)?.len();
    let corrected = Chaincode::mended()
        .label(label)
        .version(label)
        .package(assets)?;
    steps.time("corrected install", || fabric.install(peer, &corrected))?;
    let installed_after = fabric.query_installed(peer)?.len();
    Ok(CompileError {
        told,
        installed_then,
        installed_after,
        steps,
    })
}
