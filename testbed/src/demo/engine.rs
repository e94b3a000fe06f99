//! The demonstration on an existing Docker Engine, which peers reach by Peitho alone.

use anyhow::Result;
use testbed::engine::Engine;
use testbed::peitho::{Containers, Log, Machine};
use testbed::{Assets, Dockerd, Fabric, PeerConfig, Registry, Run, Steps, say};

use super::{Shown, Subject, last_lines, show_log, start_network};

/// What runs; in the order in which it ends.
struct Components {
    fabric: Fabric,
    machine: Machine,
    dockerd: Dockerd,
    _registry: Registry,
}

/// Starts everything, up to a network whose peers use Peitho.
pub(super) fn start(
    assets: &Assets,
    run: &Run,
    subject: Subject,
    steps: &mut Steps,
) -> Result<Box<dyn Shown>> {
    say("starting a registry and a Docker Engine");
    let (registry, dockerd) = steps.time("start a registry and a Docker Engine", || {
        let registry = Registry::start(assets, run)?;
        for image in subject.images(assets)? {
            registry.push(&image)?;
        }
        let dockerd = Dockerd::start(assets, run, &registry)?;
        anyhow::Ok((registry, dockerd))
    })?;
    say(format!(
        "$ peitho serve --set compile.runtime=docker --set chaincode.runtime=docker --set docker.endpoint={}",
        dockerd.endpoint()
    ));
    let program = testbed::peitho::program()?;
    let machine = steps.time("start Peitho", || {
        let containers = Containers::Docker(&dockerd);
        Machine::start(run, program, Log::Info, containers, &[&registry])
    })?;
    show_log(&machine);
    let endpoint = machine.endpoint();
    let fabric = start_network(assets, run, subject.release, &endpoint, steps, |index| {
        PeerConfig::new(subject.release, index, &endpoint, assets, &registry)
    })?;
    Ok(Box::new(Components {
        fabric,
        machine,
        dockerd,
        _registry: registry,
    }))
}

impl Shown for Components {
    fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    fn log(&self) -> String {
        last_lines(&self.machine)
    }

    fn explain(&self) -> Result<()> {
        say("the chaincode as the engine shows it:");
        let address = self
            .dockerd
            .endpoint()
            .trim_start_matches("tcp://")
            .parse()?;
        let answer = Engine::new(address).send("GET", "/containers/json", "", b"")?;
        for container in answer.json()?.as_array().into_iter().flatten() {
            let text = |key: &str| container[key].as_str().unwrap_or_default();
            let name = container["Names"][0].as_str().unwrap_or_default();
            say(format!("    {name}  {}  {}", text("Image"), text("Status")));
        }
        Ok(())
    }

    fn play(&self) -> (Vec<String>, Vec<String>) {
        let variables = vec![format!("export DOCKER_HOST={}", self.dockerd.endpoint())];
        let log = self.machine.process().log_path();
        let tries = vec!["docker ps".to_owned(), format!("tail -f {}", log.display())];
        (variables, tries)
    }
}
