//! Owns the stand-in of `fabric-nodeenv`, in which Node chaincode is compiled and run: as the official image has it, with root as its
//! user, an entrypoint, and the scripts by which peers call it. What npm would fetch lies in the image. [`super`] lists it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Busybox, Image, make};
use crate::cache::{Cache, hex};
use crate::image::Owner;
use crate::npm::Npm;
use crate::program;

pub(super) const NAME: &str = "hyperledger/fabric-nodeenv:2.1";

/// Chaincode's own user is unknown in it.
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nnode:x:1000:\n";

/// As in all images that are made of Node's official one.
const ENTRYPOINT: &str = "#!/bin/sh\nexec \"$@\"\n";

/// npm writes into its cache also when it only reads, so the user gets one of its own.
const BUILD: &str = "#!/bin/sh
set -e
cache=\"${npm_config_cache:-$HOME/.npm}\"
mkdir -p \"$cache\"
cp -R /usr/local/share/npm-cache/. \"$cache\"
cp -R /chaincode/input/src/. /chaincode/output
cd /chaincode/output
if [ -f package-lock.json ]; then npm ci --omit=dev; else npm install --omit=dev; fi
";

const START: &str = "#!/bin/sh\nset -e\ncd /usr/local/src\nnpm start -- \"$@\"\n";

pub(super) fn obtain(cache: &Cache, busybox: &Busybox) -> Result<Image> {
    let npm = Npm::find()?;
    let modules = npm.nodeenv(cache)?.join("node_modules");
    let packages = npm.warmed(cache)?;
    let settings = format!("registry={}\noffline=true\n", npm.registry()?);
    let node = node(&modules)?;
    let libraries = libraries(&node)?;
    let config = json!({
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["node"],
    });
    let inputs = [
        busybox.fingerprint.as_str(),
        &modules.to_string_lossy(),
        &packages.to_string_lossy(),
        &settings,
        &fingerprint(&libraries)?,
        include_str!("nodeenv.rs"),
    ]
    .join("\n");
    make(cache, NAME, &inputs, &config, |layer| {
        busybox.add_tools_to(layer)?;
        layer.text("etc/passwd", 0o644, USERS)?;
        layer.text("etc/group", 0o644, GROUPS)?;
        for dir in ["chaincode", "chaincode/input", "chaincode/output", "root"] {
            layer.directory(dir, 0o755, Owner::Root)?;
        }
        for dir in ["bin", "etc", "lib", "lib/node_modules", "share", "src"] {
            layer.directory(&format!("usr/local/{dir}"), 0o755, Owner::Root)?;
        }
        layer.directory("usr/bin", 0o755, Owner::Root)?;
        // Where scripts of npm look for their interpreter.
        layer.link("usr/bin/env", "../../bin/env")?;
        for library in &libraries {
            layer.file(&library.to_string_lossy()[1..], 0o755, library)?;
        }
        layer.file("usr/local/bin/node", 0o755, &node)?;
        let documentation = |file: &str| [".bin", "docs", "man"].contains(&file);
        let to = "usr/local/lib/node_modules/npm";
        layer.tree(to, &modules.join("npm"), documentation)?;
        layer.link(
            "usr/local/bin/npm",
            "../lib/node_modules/npm/bin/npm-cli.js",
        )?;
        layer.text("usr/local/etc/npmrc", 0o644, &settings)?;
        layer.tree("usr/local/share/npm-cache", &packages, |_| false)?;
        layer.text("usr/local/bin/docker-entrypoint.sh", 0o755, ENTRYPOINT)?;
        layer.text("chaincode/build.sh", 0o755, BUILD)?;
        layer.text("chaincode/start.sh", 0o755, START)
    })
}

/// The package for this machine is the only one that npm installs.
fn node(modules: &Path) -> Result<PathBuf> {
    let architectures = ["x64", "arm64"];
    let programs = architectures.map(|it| modules.join(format!("node-linux-{it}/bin/node")));
    (programs.into_iter().find(|program| program.exists()))
        .with_context(|| format!("there is no Node for this machine in {}", modules.display()))
}

/// What Node is linked with, this machine's own: the image is of the same system then.
fn libraries(node: &Path) -> Result<Vec<PathBuf>> {
    let listed = program::output(Command::new("ldd").arg(node))?;
    let words = listed.lines().filter_map(|line| {
        // `name => /path (address)`, or `/path (address)`, or a name alone: the kernel's own.
        line.split_whitespace().find(|word| word.starts_with('/'))
    });
    let libraries: Vec<PathBuf> = words.map(PathBuf::from).collect();
    if libraries.is_empty() {
        bail!("ldd names no library of {}:\n{listed}", node.display());
    }
    Ok(libraries)
}

fn fingerprint(files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(std::fs::read(file).with_context(|| format!("{}", file.display()))?);
    }
    Ok(hex(&hash.finalize()))
}
