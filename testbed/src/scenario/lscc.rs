//! Owns the cases of peers before 2.0, which compile when a chaincode is instantiated or upgraded. What does not differ (crash, restart)
//! is in [`super`].

use anyhow::{Result, bail, ensure};

use super::{First, MainJob, OneInvoke, expect_compiler};
use crate::assets::Assets;
use crate::chaincode::Chaincode;
use crate::fabric::{ChaincodeId, CliError, Fabric, Lscc};
use crate::steps::Steps;

/// The way of every chaincode: package, install, instantiate, invoke, query; then an upgrade to other code and a query of that.
pub fn main_job(
    assets: &Assets,
    fabric: &Fabric,
    peer: usize,
    name: &str,
    first: First,
) -> Result<MainJob> {
    let mut steps = Steps::new();
    let lscc = fabric.lscc(peer);
    let id = ChaincodeId::new(name, "1");
    let code = first.of(Chaincode::basic().version(&format!("{name} v1")));
    let package = steps.time("package", || lscc.package(assets, &code, &id))?;
    steps.time("install", || lscc.install(&package))?;
    steps.time("instantiate", || lscc.instantiate(&id))?;
    steps.time("commit", || lscc.wait_until_committed(&id))?;
    let put = ["Put", "key", "value"];
    steps.time("first invoke", || fabric.invoke(peer, name, &put))?;
    let value = steps.time("query", || fabric.query(peer, name, &["Get", "key"]))?;
    let before = fabric.query(peer, name, &["version"])?;

    let id = ChaincodeId::new(name, "2");
    let code = Chaincode::basic().version(&format!("{name} v2"));
    let package = lscc.package(assets, &code, &id)?;
    steps.time("install v2", || lscc.install(&package))?;
    steps.time("upgrade", || lscc.upgrade(&id))?;
    steps.time("commit v2", || lscc.wait_until_committed(&id))?;
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

/// What [`compile_error()`] saw.
#[derive(Debug)]
pub struct CompileError {
    /// What the operator was told.
    pub told: CliError,
    /// What `version` answered after the corrected version was instantiated.
    pub corrected: String,
    /// The times.
    pub steps: Steps,
}

impl CompileError {
    /// Asserts that it saw what it must; `corrected` is what the corrected version answers.
    pub fn expect(&self, corrected: &str) -> Result<()> {
        expect_compiler(&self.told)?;
        ensure!(
            self.corrected == corrected,
            "the corrected version answered {:?}",
            self.corrected
        );
        Ok(())
    }
}

/// A package that does not compile installs, and is refused at instantiate with the compiler's words; the name stays free for the corrected
/// version, whose `version` answers `corrected`.
pub fn compile_error(
    assets: &Assets,
    fabric: &Fabric,
    peer: usize,
    name: &str,
    corrected: &str,
) -> Result<CompileError> {
    let mut steps = Steps::new();
    let lscc = fabric.lscc(peer);
    let broken = ChaincodeId::new(name, "1");
    install(assets, lscc, &Chaincode::broken(), &broken)?;
    let refused = steps.time("instantiate that fails", || lscc.instantiate(&broken));
    let Err(told) = refused else {
        bail!("a package that does not compile was instantiated");
    };
    let mended = ChaincodeId::new(name, "2");
    install(
        assets,
        lscc,
        &Chaincode::basic().version(corrected),
        &mended,
    )?;
    steps.time("corrected instantiate", || lscc.instantiate(&mended))?;
    lscc.wait_until_committed(&mended)?;
    let corrected = fabric.query(peer, name, &["version"])?;
    Ok(CompileError {
        told,
        corrected,
        steps,
    })
}

/// From the source of `version` to one invoke and its query, and no more.
pub fn one_invoke(
    assets: &Assets,
    fabric: &Fabric,
    peer: usize,
    name: &str,
    version: &str,
) -> Result<OneInvoke> {
    let mut steps = Steps::new();
    let lscc = fabric.lscc(peer);
    let id = ChaincodeId::new(name, "1");
    install(assets, lscc, &Chaincode::basic().version(version), &id)?;
    steps.time("instantiate", || lscc.instantiate(&id))?;
    lscc.wait_until_committed(&id)?;
    let put = ["Put", "key", "value"];
    steps.time("first invoke", || fabric.invoke(peer, name, &put))?;
    let value = fabric.query(peer, name, &["Get", "key"])?;
    Ok(OneInvoke { value, steps })
}

fn install(assets: &Assets, lscc: Lscc<'_>, code: &Chaincode, id: &ChaincodeId) -> Result<()> {
    let package = lscc.package(assets, code, id)?;
    Ok(lscc.install(&package)?)
}
