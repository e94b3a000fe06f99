//! What becomes of a suite that is killed in the middle, with containers of Peitho's on both runtimes that need no cluster: nothing of it
//! stays on the machine. The program is two: the one that cargo starts judges, and starts itself once more as the suite that is killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;
use testbed::engine::{Engine, chaincode_body, gzip, tar};
use testbed::peitho::{self, Containers, Log, Machine};
use testbed::{Assets, CGROUP_PARENT, Dockerd, Leftovers, Registry, Run, wait};

/// Set in the environment of the suite that is killed.
const VICTIM: &str = "PEITHO_TESTBED_VICTIM";

/// What that suite prints when all is up.
const UP: &str = "up";

/// For the reaper, which gives up earlier: what it left is to be told then.
const REAPED: Duration = Duration::from_secs(90);

/// For the machine's first process to collect the dead: until then their namespaces of processes stand.
const COLLECTED: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    if std::env::var_os(VICTIM).is_some() {
        return match victim() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                testbed::say(format!("the suite that is to be killed: {error:#}"));
                ExitCode::FAILURE
            }
        };
    }
    let case = Trial::test("a suite that is killed leaves nothing", || {
        killed().map_err(|error| Failed::from(format!("{error:#}")))
    });
    libtest_mimic::run(&Arguments::from_args(), vec![case]).exit_code()
}

fn killed() -> Result<()> {
    // What takes its time and is no part of the run.
    peitho::program()?;
    Assets::open()?.images()?;
    let mut victim = Victim::start()?;
    victim.wait_until_up()?;
    let there = Leftovers::find();
    for kind in ["process", "cgroup", "mount", "state"] {
        let is_there = there.iter().any(|line| line.starts_with(kind));
        ensure!(is_there, "nothing to leave behind: no {kind} in {there:#?}");
    }
    let namespaces = namespaces_of(&members())?;
    ensure!(!namespaces.is_empty(), "containers have no namespaces");
    victim.kill()?;
    let left = Leftovers::of_run_that_ends(REAPED)?;
    ensure!(left.is_empty(), "left on this machine: {left:#?}");
    wait::until("no namespace has a process", COLLECTED, None, || {
        let alive = namespaces_of(&processes()?)?;
        Ok(namespaces.is_disjoint(&alive).then_some(()))
    })?;
    // One that no process is in may still be held by a mount.
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let held: Vec<_> = namespaces
        .iter()
        .filter(|namespace| mounts.contains(&***namespace))
        .collect();
    ensure!(held.is_empty(), "namespaces are held by mounts: {held:?}");
    Ok(())
}

/// The suite that is killed, as the other one sees it.
struct Victim {
    child: Child,
}

impl Victim {
    fn start() -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.env(VICTIM, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().context("cannot start a second suite")?;
        Ok(Self { child })
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let stdout = self.child.stdout.as_mut().context("it has a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim_end() == UP, "it ended before it was up");
        Ok(())
    }

    /// By SIGKILL: nothing of it does anything any more. Its reaper is another process.
    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        ensure!(!status.success(), "it ended by itself: {status}");
        Ok(())
    }
}

impl Drop for Victim {
    /// Whatever went wrong here: its end lets the reaper begin.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A run with Peitho on both runtimes, and of each a compile and a chaincode that do not end.
fn victim() -> Result<()> {
    let assets = Assets::open()?;
    let program = peitho::program()?;
    let run = Run::start()?;
    let registry = Registry::start(&assets, &run)?;
    let dockerd = Dockerd::without_images(&run)?;
    let image = registry.reference(&assets.images()?.copybuilder);
    let start = |containers| {
        let program = program.clone();
        Machine::start(&run, program, Log::Info, containers, &[&registry])
    };
    let machines = [
        start(Containers::Oci)?,
        start(Containers::Docker(&dockerd))?,
    ];
    let mut open = Vec::new();
    for machine in &machines {
        let engine = Engine::new(machine.engine());
        open.push(compile(&engine, &image)?);
        chaincode(&engine, &image)?;
    }
    writeln!(std::io::stdout(), "{UP}")?;
    // Until it is killed, or the other one is gone.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop((open, machines, dockerd, registry));
    run.finish()
}

/// Begins a compile that does not end; somebody waits for it as long as the stream is open.
fn compile(engine: &Engine, image: &str) -> Result<std::net::TcpStream> {
    let endless = ["/bin/sh", "-c", "echo begun; exec sleep 100000"];
    let id = engine.create(None, &json!({"Cmd": endless, "Image": image}))?;
    let source = gzip(&tar(&[("source", 0o100_644, b"anything")])?)?;
    engine.upload(&id, "%2Fchaincode%2Finput", &source)?;
    engine.order("POST", &format!("/containers/{id}/start"), &[204])?;
    says(engine, &id, "begun")?;
    engine.open("POST", &format!("/containers/{id}/wait"), "plain/text", b"")
}

/// Launches a chaincode that does not end.
fn chaincode(engine: &Engine, base: &str) -> Result<()> {
    let name = "net-peer0.org1.example.com-endless_1";
    let script = "#!/bin/sh\necho launched; exec sleep 100000\n";
    engine.build_script(name, base, script)?;
    engine.create(Some(name), &chaincode_body(name, "endless_1:1"))?;
    engine.order("POST", &format!("/containers/{name}/start"), &[204])?;
    says(engine, name, "launched")
}

/// Waits until a container has printed a line.
fn says(engine: &Engine, container: &str, line: &str) -> Result<()> {
    let mut output = engine.attach(container, "")?;
    let mut said = Vec::new();
    let mut part = [0; 512];
    while !String::from_utf8_lossy(&said).contains(line) {
        match output.read(&mut part)? {
            0 => bail!("it said only {:?}", String::from_utf8_lossy(&said)),
            length => said.extend_from_slice(&part[..length]),
        }
    }
    Ok(())
}

/// The processes in the cgroups of the run, in any hierarchy: those of its containers.
fn members() -> BTreeSet<String> {
    let root = Path::new("/sys/fs/cgroup");
    let parent = CGROUP_PARENT.trim_start_matches('/');
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = hierarchies
        .map(|entry| entry.path().join(parent))
        .chain([root.join(parent)])
        .collect();
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(inside.lines().map(str::to_owned));
        let below = fs::read_dir(folder).into_iter().flatten().flatten();
        folders.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    found
}

/// All processes of this machine.
fn processes() -> Result<BTreeSet<String>> {
    let names = fs::read_dir("/proc")?.flatten();
    Ok(names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.parse::<u32>().is_ok())
        .collect())
}

/// The namespaces, as `net:[4026531840]`, in which `processes` are and this one is not.
fn namespaces_of(processes: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let of = |process: &str| -> BTreeSet<String> {
        let folder = Path::new("/proc").join(process).join("ns");
        let links = fs::read_dir(folder).into_iter().flatten().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect()
    };
    let own = of("self");
    ensure!(!own.is_empty(), "the kernel tells no namespaces");
    let mut found: BTreeSet<String> = processes.iter().flat_map(|process| of(process)).collect();
    found.retain(|namespace| !own.contains(namespace));
    Ok(found)
}
