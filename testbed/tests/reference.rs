//! The reference: the cases that judge Peitho, on a real dockerd. A case counts for Peitho only if it holds here.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use testbed::{
    Assets, Chaincode, Definition, Dockerd, Fabric, Greetings, Leftovers, PeerConfig, Registry,
    Run, scenario,
};

/// Everything the cases need; the fields end in this order.
struct Network {
    fabric: Fabric,
    _dockerd: Dockerd,
    _registry: Registry,
    run: Run,
    greetings: Greetings,
    assets: Assets,
}

impl Network {
    fn start() -> Result<Network> {
        let assets = Assets::open()?;
        let run = Run::start()?;
        let greetings = Greetings::listen(&run)?;
        let registry = Registry::start(&assets, &run)?;
        let dockerd = Dockerd::start(&assets, &run, &registry)?;
        let peer = |index| PeerConfig::new(index, &dockerd.endpoint(), &assets, &registry);
        let fabric = Fabric::start(&assets, &run, [peer(0)?, peer(1)?])?;
        testbed::say("network is up");
        Ok(Network {
            fabric,
            _dockerd: dockerd,
            _registry: registry,
            run,
            greetings,
            assets,
        })
    }
}

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    let mut arguments = Arguments::from_args();
    // The cases share one network.
    arguments.test_threads = Some(1);
    let shared: Arc<OnceLock<Network>> = Arc::default();
    let trial = |name: &str, case: fn(&Network) -> Result<()>| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || {
            let network = match shared.get() {
                Some(network) => network,
                None => {
                    let started = Network::start().map_err(failed)?;
                    shared.get_or_init(|| started)
                }
            };
            case(network).map_err(failed)
        })
    };
    let trials = vec![
        trial("dockerd: install to query, and upgrade", main_job),
        trial("dockerd: a crash is told and the next invoke works", crash),
        trial("dockerd: a killed peer finds its chaincode again", restart),
        trial(
            "dockerd: a compile error reaches the operator",
            compile_error,
        ),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    let started = Arc::into_inner(shared).and_then(OnceLock::into_inner);
    if let Some(network) = started {
        let Network {
            fabric,
            _dockerd,
            _registry,
            run,
            ..
        } = network;
        drop((fabric, _dockerd, _registry));
        if let Err(error) = run.finish() {
            testbed::say(format!("{error:#}"));
            return ExitCode::FAILURE;
        }
        assert_eq!(Leftovers::find(), Vec::<String>::new());
    }
    conclusion.exit_code()
}

fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}

fn main_job(network: &Network) -> Result<()> {
    let seen = scenario::main_job(&network.assets, &network.fabric, 0, "main")?;
    testbed::say(format!("main job\n{}", seen.steps));
    ensure!(seen.value == "value", "Get answered {:?}", seen.value);
    ensure!(
        seen.before == "main v1",
        "version before was {:?}",
        seen.before
    );
    ensure!(
        seen.after == "main v2",
        "version after was {:?}",
        seen.after
    );
    Ok(())
}

/// The label and name of the chaincode that the cases share which need any; compiling is what takes time.
const SHARED: (&str, &str) = ("shared_1", "shared");

fn deploy_shared(network: &Network) -> Result<()> {
    let (label, name) = SHARED;
    let installed = network.fabric.query_installed(0)?;
    if installed.iter().any(|id| id.as_str().starts_with(label)) {
        return Ok(());
    }
    let package = Chaincode::basic().label(label).package(&network.assets)?;
    network
        .fabric
        .deploy(0, &Definition::new(name, "1", 1), &package)
        .context("cannot deploy")?;
    Ok(())
}

fn crash(network: &Network) -> Result<()> {
    deploy_shared(network)?;
    let (label, name) = SHARED;
    let seen = scenario::crash_and_invoke(&network.fabric, 0, name)?;
    testbed::say(format!("crash\n{}", seen.steps));
    ensure!(seen.value == "the crash", "Get answered {:?}", seen.value);
    // The peer launches at the first invoke, which is the one that exits.
    let what = "processes that ended, and one that lives";
    network
        .greetings
        .wait_until(what, label, Duration::from_secs(5), |processes| {
            let living = processes.iter().filter(|process| process.ended.is_none());
            processes.len() > 1 && living.count() == 1
        })?;
    Ok(())
}

fn restart(network: &Network) -> Result<()> {
    deploy_shared(network)?;
    let seen = scenario::peer_restart(&network.fabric, 0, SHARED.1)?;
    testbed::say(format!("peer restart\n{}", seen.steps));
    ensure!(seen.value == "kept", "Get answered {:?}", seen.value);
    Ok(())
}

fn compile_error(network: &Network) -> Result<()> {
    let before = network.fabric.query_installed(0)?.len();
    let seen = scenario::compile_error(&network.assets, &network.fabric, 0, "broken_1")?;
    testbed::say(format!("compile error\n{}", seen.steps));
    ensure!(seen.told.says("undefined: undefinedThing"), "{}", seen.told);
    ensure!(
        seen.installed_then == before,
        "the broken package counts as installed"
    );
    ensure!(
        seen.installed_after == before + 1,
        "the corrected package is not there"
    );
    Ok(())
}
