//! Owns chaincode packages: which ones there are, and how a source becomes the file that a peer installs. Made here and not by the peer's CLI,
//! so that the same code gives the same bytes whatever its label. Before 2.0 only the CLI knows the form; its way is in [`gopath`].

mod gopath;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::EntryType;

use crate::assets::Assets;
use crate::cache::Build;
use crate::go::{SourceFile, module};
use crate::image::{Owner, header};
use crate::npm;
pub(crate) use gopath::Gopath;

const PLAIN: &[SourceFile<'_>] = module!("chaincode", "go.mod", "go.sum", "main.go");
const TINY: &[SourceFile<'_>] = module!("chaincode-tiny", "go.mod", "main.go");
const STANDARD: &[SourceFile<'_>] = module!("chaincode-standard", "go.mod", "main.go");
const ASSET: &[SourceFile<'_>] = module!("chaincode-asset", "go.mod", "go.sum", "main.go");

/// A chaincode that can be packaged.
#[derive(Debug, Clone)]
pub struct Chaincode {
    kind: Kind,
    label: String,
    version: String,
    is_uncached: bool,
}

/// The file that makes a package [`Chaincode::uncached`]: of those that every release packs.
pub(crate) const UNCACHED: &str = "uncached.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Basic,
    Slow,
    Broken,
    Mended,
    Standard,
    Asset,
    Node,
    /// Compiled before: its builder is [`crate::Images::copybuilder`].
    Copied(Compile),
}

/// What the copying builder makes of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compile {
    /// It copies the program.
    Copies,
    /// It takes memory until it is stopped.
    EatsMemory,
    /// It never ends by itself.
    NeverEnds,
}

impl Chaincode {
    /// Functions: `Put key value`, `Get key`, `version`, `exit code`, `eat` (memory, until it is stopped), `pid`, `env name`. Each process says
    /// `hello <package id> <host> <pid>` to 10.88.0.1:7999, if somebody listens, and holds that connection for its life.
    pub fn basic() -> Chaincode {
        Self::of_kind(Kind::Basic, "basic_1")
    }

    /// The same, but the process waits 30 s before it connects to its peer.
    pub fn slow() -> Chaincode {
        Self::of_kind(Kind::Slow, "slow_1")
    }

    /// A few lines that do not compile: `undefinedThing` is undefined.
    pub fn broken() -> Chaincode {
        Self::of_kind(Kind::Broken, "broken_1")
    }

    /// The same lines, mended: they compile, and serve nobody.
    pub fn mended() -> Chaincode {
        Self::of_kind(Kind::Mended, "broken_1")
    }

    /// What of Go's standard library the next one needs, and nothing else: it compiles, and serves nobody.
    pub fn standard() -> Chaincode {
        Self::of_kind(Kind::Standard, "standard_1")
    }

    /// `Put` and `Get` through the contract API: as large, and as slow to compile, as most chaincode is.
    pub fn asset() -> Chaincode {
        Self::of_kind(Kind::Asset, "asset_1")
    }

    /// `Put`, `Get`, `version`, `exit code` and the greeting of basic in JavaScript, and `writable places`: which of these paths, a list in JSON,
    /// its user may write. What npm makes of it has links to files and to a directory.
    pub fn node() -> Chaincode {
        Self::of_kind(Kind::Node, "node_1")
    }

    /// The same as basic, compiled before, for a peer whose builder copies: what an install costs beside the compiler.
    pub fn copied(compile: Compile) -> Chaincode {
        Self::of_kind(Kind::Copied(compile), "copied_1")
    }

    fn of_kind(kind: Kind, label: &str) -> Chaincode {
        Chaincode {
            kind,
            label: label.to_owned(),
            version: "v1".to_owned(),
            is_uncached: false,
        }
    }

    /// The label of the package; two labels over equal code are two packages with the same code inside.
    #[must_use]
    pub fn label(mut self, label: &str) -> Chaincode {
        label.clone_into(&mut self.label);
        self
    }

    /// What the function `version` answers. Another version is other code, so it also makes a compile nobody has cached.
    #[must_use]
    pub fn version(mut self, version: &str) -> Chaincode {
        version.clone_into(&mut self.version);
        self
    }

    /// Its compile finds nothing that earlier ones left, also in [`Assets::warm_builder`]: for cases in which a compile takes its time.
    #[must_use]
    pub fn uncached(mut self) -> Chaincode {
        self.is_uncached = true;
        self
    }

    /// The package file, in the cache.
    pub fn package(&self, assets: &Assets) -> Result<PathBuf> {
        let sources = self.sources(assets)?;
        let difference = self.difference();
        let (place, kind) = (sources.to_string_lossy(), format!("{:?}", self.kind));
        let build = Build {
            name: &format!("package-{}", self.label),
            inputs: &[
                place.as_bytes(),
                self.label.as_bytes(),
                difference.as_bytes(),
                kind.as_bytes(),
                &[u8::from(self.is_uncached)],
            ],
            announcement: &format!("packaging chaincode {}", self.label),
        };
        let file = format!("{}.tar.gz", self.label);
        let entry = assets.cache().entry(&build, |dir| {
            let code = code(&sources, &self.extra(&difference))?;
            let [language, path] = self.language_and_path();
            let metadata = json!({ "path": path, "type": language, "label": self.label });
            let mut package = Archive::new();
            package.add("metadata.json", metadata.to_string().as_bytes())?;
            package.add("code.tar.gz", &code)?;
            fs::write(dir.join(&file), package.finish()?).context("cannot write the package")
        })?;
        Ok(entry.join(file))
    }

    /// What a peer hands to the builder as its input, as a compressed tar.
    pub(crate) fn input(&self, assets: &Assets) -> Result<Vec<u8>> {
        code(&self.sources(assets)?, &self.extra(&self.difference()))
    }

    /// A directory with what all packages of this kind have in common.
    fn sources(&self, assets: &Assets) -> Result<PathBuf> {
        let (go, cache) = (assets.go(), assets.cache());
        match self.kind {
            Kind::Node => npm::chaincode(cache),
            Kind::Standard => go.vendored(cache, "standard", STANDARD),
            Kind::Asset => go.vendored(cache, "asset", ASSET),
            Kind::Copied(_) => {
                let sources = go.vendored(cache, "plain", PLAIN)?;
                go.program(cache, "chaincode", &sources, &Self::basic().difference())
            }
            Kind::Basic | Kind::Slow => go.vendored(cache, "plain", PLAIN),
            Kind::Broken | Kind::Mended => go.vendored(cache, "tiny", TINY),
        }
    }

    /// The files that make this package differ from others of the same sources.
    fn extra<'a>(&self, difference: &'a str) -> Vec<(String, &'a str)> {
        let mut files = match self.kind {
            Kind::Copied(compile) => {
                let mut files = vec![("version", difference)];
                match compile {
                    Compile::Copies => {}
                    Compile::EatsMemory => files.push(("eats-memory", "")),
                    Compile::NeverEnds => files.push(("never-ends", "")),
                }
                files
            }
            Kind::Node => vec![("kind.json", difference)],
            _ => vec![("kind.go", difference)],
        };
        if self.is_uncached {
            files.push((UNCACHED, "{}"));
        }
        let files = files.into_iter();
        files
            .map(|(name, text)| (format!("src/{name}"), text))
            .collect()
    }

    fn language_and_path(&self) -> [&'static str; 2] {
        match self.kind {
            Kind::Node => ["node", "testbed/chaincode-node"],
            Kind::Asset => ["golang", "testbed/asset"],
            _ => ["golang", "testbed/chaincode"],
        }
    }

    /// The one file in which the kinds differ.
    fn difference(&self) -> String {
        let version = &self.version;
        let delay = match self.kind {
            Kind::Slow => 30,
            _ => 0,
        };
        match self.kind {
            Kind::Copied(_) => version.clone(),
            Kind::Broken => format!(
                "package main\n\nconst version = {version:?}\n\nfunc neverCompiles() string {{\n\tnumber := undefinedThing(version)\n\treturn number + 1\n}}\n"
            ),
            Kind::Node => json!({ "version": version }).to_string(),
            Kind::Asset | Kind::Mended | Kind::Standard => format!(
                "package main\n\n// version makes this code differ.\nconst version = {version:?}\n"
            ),
            _ => format!(
                "package main\n\nimport \"time\"\n\nconst version = {version:?}\nconst startDelay = {delay} * time.Second\n"
            ),
        }
    }
}

/// What a peer hands to the builder: everything under `src/`.
fn code(sources: &Path, extra: &[(String, &str)]) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for (name, content) in extra {
        archive.add(name, content.as_bytes())?;
    }
    archive.add_tree("src", sources)?;
    archive.finish()
}

/// A compressed tar of plain files without owners and times: peers accept no other modes than reading and writing.
struct Archive(tar::Builder<GzEncoder<Vec<u8>>>);

impl Archive {
    fn new() -> Archive {
        Archive(tar::Builder::new(GzEncoder::new(
            Vec::new(),
            Compression::default(),
        )))
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = header(EntryType::Regular, 0o644, content.len() as u64, Owner::Root);
        self.0.append_data(&mut header, name, content)?;
        Ok(())
    }

    /// In the order of names, so that the bytes are always the same.
    fn add_tree(&mut self, name: &str, from: &Path) -> Result<()> {
        let mut entries = fs::read_dir(from)
            .with_context(|| format!("cannot read {}", from.display()))?
            .collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let child = format!("{name}/{}", entry.file_name().to_string_lossy());
            match entry.file_type()?.is_dir() {
                true => self.add_tree(&child, &entry.path())?,
                false => self.add(&child, &fs::read(entry.path())?)?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        let mut compressed = self.0.into_inner()?;
        compressed.flush()?;
        Ok(compressed.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_code_gives_equal_bytes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("vendor")).expect("a directory");
        for name in ["main.go", "go.mod", "vendor/modules.txt"] {
            fs::write(dir.path().join(name), name).expect("a file");
        }
        let pack =
            || code(dir.path(), &[("src/kind.go".to_owned(), "package main")]).expect("a package");
        assert_eq!(pack(), pack());
    }
}
