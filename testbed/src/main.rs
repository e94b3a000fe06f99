//! The testbed by hand: build everything, bring it up to play with, take it down. The library does the work.

mod bench;
mod demo;
mod foreground;
mod up;

use std::process::ExitCode;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use testbed::{Assets, Images, Leftovers, Release, say};

use foreground::Ending;

/// Real counterparts for Peitho's tests: Kubernetes, a registry, dockerd and a Fabric network on this machine
#[derive(Parser)]
#[command(after_help = "\
Examples:
  testbed prepare              build everything once (minutes; later runs take it from the cache)
  testbed up                   start everything, stay until Ctrl-C
  testbed up --without-fabric  only the cluster and the registry
  testbed up --vm-endpoint tcp://127.0.0.1:8080
                               peer0 uses the server there, peer1 the reference dockerd
  testbed down                 remove what a killed run left
  testbed leftovers            say what is still there")]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Install, build and cache everything
    Prepare,
    /// Start everything, print how to use it, and stay until Ctrl-C
    Up {
        /// Only the cluster and the registry
        #[arg(long)]
        without_fabric: bool,
        /// Docker endpoint of peer0, for instance Peitho's; the reference dockerd when not given
        #[arg(long, value_name = "URL", conflicts_with = "without_fabric")]
        vm_endpoint: Option<String>,
    },
    /// Show the main job: a stock peer installs, runs and queries chaincode through Peitho
    Demo {
        /// Release of Fabric
        #[arg(long, value_name = "RELEASE", default_value = "2.1")]
        fabric: Release,
        /// What the chaincode is written in
        #[arg(long, value_enum, default_value_t)]
        language: demo::Language,
        /// What runs the chaincode
        #[arg(long, value_enum, default_value_t)]
        runtime: demo::Runtime,
        /// End after the last step instead of staying until Ctrl-C
        #[arg(long)]
        once: bool,
    },
    /// Measure installs, builds and launches on dockerd and on Peitho in turn, memory and size
    Bench {
        /// Pairs of installs; 0 leaves them out
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Write the image of a static program and this machine's CA certificates as an OCI archive, without a daemon
    Image {
        /// The program
        #[arg(long, value_name = "FILE")]
        program: PathBuf,
        /// The archive
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Name and tag in the archive, for example peitho:0.1.0
        #[arg(long, value_name = "NAME:TAG")]
        tag: String,
    },
    /// Remove what an earlier run left
    Down,
    /// Print what an earlier run left; exit with 1 if there is anything
    Leftovers,
}

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    match act(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn act(command: Subcommands) -> Result<()> {
    match command {
        Subcommands::Prepare => Assets::open()?.prepare(),
        Subcommands::Up {
            without_fabric: true,
            ..
        } => up::up(&up::Extent::WithoutFabric),
        Subcommands::Up { vm_endpoint, .. } => up::up(&up::Extent::WithFabric { vm_endpoint }),
        Subcommands::Demo {
            fabric: release,
            language,
            runtime,
            once,
        } => {
            let ending = if once { Ending::Once } else { Ending::Stay };
            demo::demo(demo::Subject { release, language }, runtime, ending)
        }
        Subcommands::Bench { rounds } => bench::bench(rounds),
        Subcommands::Image {
            program,
            output,
            tag,
        } => {
            let layout = tempfile::tempdir()?;
            Images::program(&tag, &program, layout.path())?.save(&output)
        }
        Subcommands::Down => Leftovers::clean(),
        Subcommands::Leftovers => {
            let left = Leftovers::find();
            left.iter().for_each(say);
            anyhow::ensure!(left.is_empty(), "{} things are left", left.len());
            Ok(())
        }
    }
}
