//! The testbed by hand: build everything, bring it up to play with, take it down. The library does the work.

use anyhow::Result;
use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use testbed::{Assets, Cluster, Leftovers, Registry, Run, say};

/// Real counterparts for Peitho's tests: Kubernetes, a registry, dockerd and a Fabric network on this machine
#[derive(Parser)]
#[command(after_help = "\
Examples:
  testbed prepare              build everything once (minutes; later runs take it from the cache)
  testbed up                   start everything, stay until Ctrl-C
  testbed up --without-fabric  only the cluster and the registry
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
    },
    /// Remove what an earlier run left
    Down,
    /// Print what an earlier run left; exit with 1 if there is anything
    Leftovers,
}

fn main() -> Result<()> {
    testbed::reaper::become_reaper_if_asked();
    match Arguments::parse().command {
        Subcommands::Prepare => Assets::open()?.prepare(),
        Subcommands::Up { without_fabric } => up(without_fabric),
        Subcommands::Down => Leftovers::clean(),
        Subcommands::Leftovers => {
            let left = Leftovers::find();
            left.iter().for_each(say);
            anyhow::ensure!(left.is_empty(), "{} things are left", left.len());
            Ok(())
        }
    }
}

fn up(_without_fabric: bool) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let assets = Assets::open()?;
    let run = Run::start()?;
    say("starting the registry");
    let registry = Registry::start(&assets, &run)?;
    say("starting kubernetes");
    let cluster = Cluster::start(&assets, &run)?;
    say(format!("registry     {}", registry.address()));
    say(format!(
        "kubernetes   export KUBECONFIG={}",
        cluster.kubeconfig().display()
    ));
    say("Ctrl-C stops everything");
    signals.forever().next();
    say("stopping ...");
    drop((cluster, registry));
    run.finish()
}
