//! Owns what comes from the registry of npm: Node and npm themselves for the stand-in of `fabric-nodeenv`, and the packages that Node chaincode
//! depends on, as a cache from which npm installs them without a network. Lock files of this crate pin all of it; results lie in the
//! cache. [`crate::images`] and [`crate::chaincode`] call it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Build, Cache};
use crate::go::{SourceFile, module};
use crate::{packages, program};

/// The releases of Node and npm that stand in for those of `fabric-nodeenv`.
const NODEENV: &[SourceFile<'_>] = module!("nodeenv", "package.json", "package-lock.json");

/// The chaincode. Its shim is of the 2.5 series: the first whose gRPC is JavaScript is 2.2, older ones need a C++ compiler.
const CHAINCODE: &[SourceFile<'_>] = module!(
    "chaincode-node",
    "package.json",
    "package-lock.json",
    "index.js",
    "lib/words/package.json",
    "lib/words/index.js"
);

/// The npm of this machine, whichever it is: it only fetches.
pub(crate) struct Npm(PathBuf);

impl Npm {
    pub(crate) fn find() -> Result<Npm> {
        packages::obtain(&[packages::NPM])?;
        packages::find("npm")
            .map(Npm)
            .context("npm is not installed")
    }

    /// A directory with `node_modules` that holds npm, and Node for this machine's architecture.
    pub(crate) fn nodeenv(&self, cache: &Cache) -> Result<PathBuf> {
        let build = Build {
            name: "nodeenv",
            inputs: &inputs(NODEENV),
            announcement: "fetching node and npm",
        };
        cache.entry(&build, |dir| {
            write(NODEENV, dir)?;
            self.run(dir, &["ci", "--ignore-scripts", "--no-audit"])
        })
    }

    /// npm's cache, filled with all that a compile of the chaincode asks for. It holds names of the registry, hence [`Self::registry`].
    pub(crate) fn warmed(&self, cache: &Cache) -> Result<PathBuf> {
        let build = Build {
            name: "npm-cache",
            inputs: &inputs(CHAINCODE),
            announcement: "fetching what node chaincode depends on",
        };
        cache.entry(&build, |dir| {
            let project = tempfile::tempdir()?;
            write(CHAINCODE, project.path())?;
            let to = dir.to_string_lossy();
            let install = [
                "ci",
                "--omit=dev",
                "--ignore-scripts",
                "--no-audit",
                "--cache",
                &to,
            ];
            self.run(project.path(), &install)?;
            fs::remove_dir_all(dir.join("_logs")).context("npm wrote no log")
        })
    }

    /// The registry that the cache was filled from: in a cache, packages are known by their addresses.
    pub(crate) fn registry(&self) -> Result<String> {
        let text = program::output(Command::new(&self.0).args(["config", "get", "registry"]))?;
        Ok(text.trim().to_owned())
    }

    fn run(&self, dir: &Path, arguments: &[&str]) -> Result<()> {
        program::output(Command::new(&self.0).args(arguments).current_dir(dir)).map(drop)
    }
}

/// The source of the chaincode, without what it depends on: a peer's package has none of that either.
pub(crate) fn chaincode(cache: &Cache) -> Result<PathBuf> {
    let build = Build {
        name: "sources-node",
        inputs: &inputs(CHAINCODE),
        announcement: "laying out node chaincode",
    };
    cache.entry(&build, |dir| write(CHAINCODE, dir))
}

fn inputs<'a>(files: &'a [SourceFile<'_>]) -> Vec<&'a [u8]> {
    let pairs = files.iter().flat_map(|(name, text)| [*name, *text]);
    pairs.map(str::as_bytes).collect()
}

fn write(files: &[SourceFile<'_>], dir: &Path) -> Result<()> {
    for (name, text) in files {
        let path = dir.join(name);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
