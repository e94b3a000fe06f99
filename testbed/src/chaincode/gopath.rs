//! Owns the source of a chaincode as Fabric 1.4 knows it: on that release's shim, in a GOPATH, for its CLI to package.
//! [`crate::Lscc`] calls it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Chaincode, Kind, PLAIN, TINY, UNCACHED};
use crate::assets::Assets;
use crate::release::Release;

/// What a chaincode imports of Fabric, before and since 2.0.
const IMPORTS: [(&str, &str); 2] = [
    (
        "github.com/hyperledger/fabric-chaincode-go/shim",
        "github.com/hyperledger/fabric/core/chaincode/shim",
    ),
    (
        "github.com/hyperledger/fabric-protos-go/peer",
        "github.com/hyperledger/fabric/protos/peer",
    ),
];

/// A GOPATH with one chaincode in it.
#[derive(Debug)]
pub(crate) struct Gopath {
    dir: PathBuf,
}

impl Gopath {
    /// Its only package.
    pub(crate) const PACKAGE: &'static str = "testbed/chaincode";

    /// What the CLI, and the Go tool that it calls, need in their environment.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = std::env::var("PATH").unwrap_or_default();
        [
            ("GOPATH", self.dir.display().to_string()),
            ("PATH", format!("{}:{path}", self.dir.join("bin").display())),
            ("GO111MODULE", "off".into()),
            ("GOFLAGS", String::new()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl Chaincode {
    /// Lays the source out in `dir`, with all that it imports in its `vendor` folder.
    pub(crate) fn gopath(&self, assets: &Assets, dir: &Path) -> Result<Gopath> {
        ensure!(
            !matches!(self.kind, Kind::Asset | Kind::Node),
            "the contract API has no version for the shim of fabric 1.4"
        );
        let package = dir.join("src").join(Gopath::PACKAGE);
        fs::create_dir_all(&package)?;
        fs::write(package.join("kind.go"), self.difference())?;
        if self.is_uncached {
            fs::write(package.join(UNCACHED), "{}")?;
        }
        match self.kind {
            Kind::Broken | Kind::Mended => {
                let main = TINY.iter().filter(|(name, _)| *name == "main.go");
                for (name, text) in main {
                    fs::write(package.join(name), text)?;
                }
            }
            _ => Self::with_shim(assets, &package)?,
        }
        write_go(&dir.join("bin"), assets.go().root())?;
        Ok(Gopath {
            dir: dir.to_owned(),
        })
    }

    /// Source on the shim, which its `vendor` folder has.
    fn with_shim(assets: &Assets, package: &Path) -> Result<()> {
        let mut files: Vec<(&str, String)> = Vec::new();
        // The module that pins the peer's dependencies pins the shim's too; `tools.go` would bring in all of them.
        let pins = Release::V1_4.module().iter();
        for (name, text) in pins.filter(|(name, _)| *name != "tools.go") {
            files.push((*name, (*text).to_owned()));
        }
        for (name, text) in PLAIN.iter().filter(|(name, _)| *name == "main.go") {
            let renamed = IMPORTS.iter().fold((*text).to_owned(), |text, (new, old)| {
                text.replace(new, old)
            });
            files.push((*name, renamed));
        }
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        let sources = assets.go().vendored(assets.cache(), "plain-1.4", &files)?;
        fs::copy(sources.join("main.go"), package.join("main.go"))?;
        symlink(sources.join("vendor"), package.join("vendor"))
            .with_context(|| format!("cannot complete {}", package.display()))
    }
}

/// The CLI reads what `go env` prints and expects double quotes; Go has printed single ones since 1.17.
fn write_go(bin: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(bin)?;
    let (go, wrapper) = (root.join("bin/go"), bin.join("go"));
    let script = format!(
        "#!/bin/sh\n\
         [ \"$*\" = env ] || exec {go} \"$@\"\n\
         {go} env | sed \"s/^\\([A-Z0-9_]*\\)='\\(.*\\)'\\$/\\1=\\\"\\2\\\"/\"\n",
        go = go.display()
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot write {}", wrapper.display()))
}
