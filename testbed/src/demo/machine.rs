//! The demonstration without a cluster: Peitho and the containers on this machine, as a developer has them.

use anyhow::Result;
use testbed::peitho::{Containers, Log, Machine};
use testbed::{Assets, Fabric, Image, PeerConfig, Run, Steps, say};

use super::{Shown, Subject, last_lines, show_log, start_network};

/// What runs; in the order in which it ends.
struct Components {
    fabric: Fabric,
    machine: Machine,
}

/// All that it needs: no Kubernetes and no dockerd.
pub(super) fn prepare(assets: &Assets, subject: Subject) -> Result<()> {
    assets.fabric(subject.release)?;
    subject.images(assets)?;
    Ok(())
}

/// Starts everything, up to a network whose peers use Peitho.
pub(super) fn start(
    assets: &Assets,
    run: &Run,
    subject: Subject,
    steps: &mut Steps,
) -> Result<Box<dyn Shown>> {
    let program = testbed::peitho::program()?;
    say("$ peitho serve");
    let machine = steps.time("start Peitho", || {
        Machine::start(run, program, Log::Info, Containers::Oci, &[])
    })?;
    show_log(&machine);
    steps.time("import the images", || {
        for image in subject.images(assets)? {
            say(format!("$ peitho images import {}.tar", image.name()));
            let archive = run.data().join("image.tar");
            image.save(&archive)?;
            for line in machine.import(&archive)?.lines() {
                say(format!("    {line}"));
            }
        }
        anyhow::Ok(())
    })?;
    let endpoint = machine.endpoint();
    let images = assets.images()?;
    let names = images.fabric(subject.release).map(Image::name);
    let fabric = start_network(assets, run, subject.release, &endpoint, steps, |index| {
        Ok(PeerConfig::with_images(index, &endpoint, names))
    })?;
    Ok(Box::new(Components { fabric, machine }))
}

impl Shown for Components {
    fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    fn log(&self) -> String {
        last_lines(&self.machine)
    }

    fn explain(&self) -> Result<()> {
        say("the chaincode as this machine shows it:");
        for line in self.machine.containers()?.lines() {
            say(format!("    {line}"));
        }
        Ok(())
    }

    fn play(&self) -> (Vec<String>, Vec<String>) {
        let log = self.machine.process().log_path();
        let tries = vec![
            self.machine.containers_command(),
            format!("tail -f {}", log.display()),
        ];
        (Vec::new(), tries)
    }
}
