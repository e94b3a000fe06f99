//! Owns the demonstration: from nothing to a stock peer whose chaincode is compiled and run through Peitho, before the eyes of a
//! person, with the times. Ctrl-C at any moment ends it and leaves nothing.
//!
//! `kubernetes`, `machine` and `engine` start what belongs to a runtime and show it; the main job is the same on each.

mod engine;
mod kubernetes;
mod machine;

use anyhow::Result;
use clap::ValueEnum;
use testbed::peitho::Machine;
use testbed::{
    Assets, Chaincode, ChaincodeId, Definition, Fabric, Image, PeerConfig, Release, Run, Steps, say,
};

use crate::foreground::{Ending, foreground};

const NAME: &str = "asset";

/// What runs the chaincode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// Containers on this machine, by runc
    #[default]
    Oci,
    /// Pods
    Kubernetes,
    /// An existing Docker Engine
    Docker,
}

/// What the chaincode is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Compiled to one program
    #[default]
    Go,
    /// Filled and started by npm; with peers of 2.1
    Node,
}

/// What is shown: a peer and its chaincode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) release: Release,
    pub(crate) language: Language,
}

impl Subject {
    /// The images that its peer names.
    fn images(self, assets: &Assets) -> Result<Vec<Image>> {
        let images = assets.images()?;
        Ok(match self.language {
            Language::Go => images.fabric(self.release).map(Image::clone).into(),
            Language::Node => vec![assets.nodeenv()?],
        })
    }

    fn chaincode(self) -> Chaincode {
        match self.language {
            Language::Go => Chaincode::asset(),
            Language::Node => Chaincode::node(),
        }
    }
}

/// What runs of a demonstration.
trait Shown: Send {
    /// The network.
    fn fabric(&self) -> &Fabric;
    /// The end of Peitho's log.
    fn log(&self) -> String;
    /// Shows the chaincode as its runtime sees it.
    fn explain(&self) -> Result<()>;
    /// Lines for another shell: variables, and things to try.
    fn play(&self) -> (Vec<String>, Vec<String>);
}

/// Shows the main job of `subject`.
pub(crate) fn demo(subject: Subject, runtime: Runtime, ending: Ending) -> Result<()> {
    anyhow::ensure!(
        subject.language == Language::Go || subject.release == Release::V2_1,
        "chaincode in Node is shown with peers of 2.1 only"
    );
    let mut steps = Steps::new();
    let assets = steps.time("install and build the counterparts", || {
        let assets = Assets::open()?;
        match runtime {
            Runtime::Oci | Runtime::Docker => machine::prepare(&assets, subject)?,
            Runtime::Kubernetes => assets.prepare()?,
        }
        anyhow::Ok(assets)
    })?;
    steps.time("build peitho", testbed::peitho::program)?;
    let run = Run::start()?;
    foreground(&run, ending, || {
        let shown = match runtime {
            Runtime::Oci => machine::start(&assets, &run, subject, &mut steps)?,
            Runtime::Docker => engine::start(&assets, &run, subject, &mut steps)?,
            Runtime::Kubernetes => kubernetes::start(&assets, &run, subject, &mut steps)?,
        };
        main_job(&assets, shown.fabric(), subject, runtime, &mut steps)
            .map_err(|error| error.context(format!("the end of Peitho's log:\n{}", shown.log())))?;
        shown.explain()?;
        say("how long each step took:");
        steps.to_string().lines().for_each(say);
        if ending == Ending::Stay {
            play_on(&*shown);
        }
        Ok(shown)
    })
}

/// A network whose peers, each as `peer` has it, use the server at `endpoint`.
fn start_network(
    assets: &Assets,
    run: &Run,
    release: Release,
    endpoint: &str,
    steps: &mut Steps,
    peer: impl Fn(usize) -> Result<PeerConfig>,
) -> Result<Fabric> {
    say(format!(
        "starting a stock Fabric {} network; its peers have CORE_VM_ENDPOINT={endpoint}",
        release.version()
    ));
    steps.time("start the Fabric network", || {
        Fabric::start(assets, run, release.into(), [peer(0)?, peer(1)?])
    })
}

/// What a server of this machine has said so far.
fn show_log(machine: &Machine) {
    for line in machine.process().log().lines() {
        say(format!("    {line}"));
    }
}

/// The end of a server's log.
fn last_lines(machine: &Machine) -> String {
    let log = machine.process().log();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn play_on(shown: &dyn Shown) {
    let (variables, tries) = shown.play();
    say("to play on, paste this into another shell:");
    let admin = shown.fabric().admin_env(0);
    for line in admin.lines().chain(variables.iter().map(String::as_str)) {
        say(format!("    {line}"));
    }
    say("and then, for example:");
    for line in [
        r#"peer chaincode query -C ch1 -n asset -c '{"Args":["Get","colour"]}'"#,
        r#"peer chaincode invoke $ORDERER -C ch1 -n asset -c '{"Args":["Put","colour","green"]}'"#,
    ]
    .into_iter()
    .chain(tries.iter().map(String::as_str))
    {
        say(format!("    {line}"));
    }
    say("Ctrl-C stops everything and leaves nothing behind");
}

impl Runtime {
    /// Who compiles.
    fn compiler(self) -> &'static str {
        match self {
            Self::Oci => "Peitho compiles it, in a container",
            Self::Kubernetes => "Kubernetes compiles it",
            Self::Docker => "the engine compiles it, in a container",
        }
    }

    /// What a launch makes.
    fn unit(self) -> &'static str {
        match self {
            Self::Oci | Self::Docker => "container",
            Self::Kubernetes => "pod",
        }
    }
}

fn main_job(
    assets: &Assets,
    fabric: &Fabric,
    subject: Subject,
    runtime: Runtime,
    steps: &mut Steps,
) -> Result<()> {
    match subject.release {
        Release::V1_4 => instantiate(assets, fabric, runtime, steps)?,
        Release::V2_1 => commit(assets, fabric, subject, runtime, steps)?,
    }
    say("$ peer chaincode invoke ... '{\"Args\":[\"Put\",\"colour\",\"blue\"]}'");
    steps.time("first invoke, committed in a block", || {
        fabric.invoke(0, NAME, &["Put", "colour", "blue"])
    })?;
    say("$ peer chaincode query ... '{\"Args\":[\"Get\",\"colour\"]}'");
    let answer = steps.time("query", || fabric.query(0, NAME, &["Get", "colour"]))?;
    say(format!("    {answer}"));
    anyhow::ensure!(answer == "blue", "the query answered {answer:?}");
    match subject.release {
        Release::V1_4 => upgrade(assets, fabric, runtime, steps),
        Release::V2_1 => Ok(()),
    }
}

fn commit(
    assets: &Assets,
    fabric: &Fabric,
    subject: Subject,
    runtime: Runtime,
    steps: &mut Steps,
) -> Result<()> {
    let (compiler, unit) = (runtime.compiler(), runtime.unit());
    let package = subject.chaincode().label("asset_1").package(assets)?;
    let definition = Definition::new(NAME, "1", 1);
    say(format!(
        "$ peer lifecycle chaincode install asset_1.tar.gz      ({compiler})"
    ));
    let id = steps.time("install", || fabric.install(0, &package))?;
    say(format!("    {id}"));
    say("$ peer lifecycle chaincode approveformyorg ...");
    steps.time("approve", || fabric.approve(0, &definition, &id))?;
    say(format!(
        "$ peer lifecycle chaincode commit ...                  (the peer launches it: a {unit} starts)"
    ));
    Ok(steps.time("commit", || fabric.commit(0, &definition))?)
}

fn instantiate(
    assets: &Assets,
    fabric: &Fabric,
    runtime: Runtime,
    steps: &mut Steps,
) -> Result<()> {
    let (compiler, unit) = (runtime.compiler(), runtime.unit());
    let (lscc, id) = (fabric.lscc(0), ChaincodeId::new(NAME, "1.0"));
    say("$ peer chaincode package --name asset --version 1.0 ... asset-1.0.cds");
    let code = Chaincode::basic().version("the first");
    let package = steps.time("package", || lscc.package(assets, &code, &id))?;
    say("$ peer chaincode install asset-1.0.cds                 (the peer only stores it)");
    steps.time("install", || lscc.install(&package))?;
    say(format!(
        "$ peer chaincode instantiate --version 1.0 ...         ({compiler}; a {unit} starts)"
    ));
    steps.time("instantiate", || lscc.instantiate(&id))?;
    steps.time("commit", || lscc.wait_until_committed(&id))
}

/// To other code; peers of this release leave the old process alone.
fn upgrade(assets: &Assets, fabric: &Fabric, runtime: Runtime, steps: &mut Steps) -> Result<()> {
    let unit = runtime.unit();
    let (lscc, id) = (fabric.lscc(0), ChaincodeId::new(NAME, "2.0"));
    let code = Chaincode::basic().version("the second");
    let package = lscc.package(assets, &code, &id)?;
    lscc.install(&package)?;
    say(format!(
        "$ peer chaincode upgrade --version 2.0 ...             (the old version's {unit} stays)"
    ));
    steps.time("upgrade", || lscc.upgrade(&id))?;
    steps.time("commit of the upgrade", || lscc.wait_until_committed(&id))?;
    say("$ peer chaincode query ... '{\"Args\":[\"version\"]}'");
    let answer = steps.time("query of the new code", || {
        fabric.query(0, NAME, &["version"])
    })?;
    say(format!("    {answer}"));
    anyhow::ensure!(
        answer == "the second",
        "after the upgrade the query answered {answer:?}"
    );
    Ok(())
}
