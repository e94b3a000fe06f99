//! Owns what is compiled from Go modules: Kubernetes, Fabric, the pause program, a server of S3, and the vendored sources of chaincode. The
//! module files are part of this crate, so every build is pinned; results lie in the cache. [`crate::Assets`] calls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::{Build, Cache};
use crate::program;
use crate::release::Release;

/// The release of Kubernetes that is built.
pub const KUBERNETES_VERSION: &str = "1.34.4";

/// The release of the `docker` command that is built, beside Debian's older one.
pub(crate) const DOCKER_CLI_VERSION: &str = "29.1.3";

/// The release of the registry client `crane` that is built.
const CRANE_VERSION: &str = "0.20.6";

/// A file of a Go module: its name and its text.
pub(crate) type SourceFile<'a> = (&'a str, &'a str);

/// A Go module in this crate's `assets/`.
macro_rules! module {
    ($folder:literal, $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../assets/", $folder, "/", $file)))),+]
    };
}
pub(crate) use module;

const KUBE: &[SourceFile<'_>] = module!("kube", "go.mod", "go.sum", "main.go");
const PAUSE: &[SourceFile<'_>] = module!("pause", "go.mod", "main.go");
const CRANE: &[SourceFile<'_>] = module!("crane", "go.mod", "go.sum", "tools.go");
const DOCKER_CLI: &[SourceFile<'_>] = module!("docker-cli", "go.mod", "go.sum", "tools.go");
const VERSITYGW: &[SourceFile<'_>] = module!("versitygw", "go.mod", "go.sum", "tools.go");

/// The Go tool chain of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Go {
    version: String,
    root: PathBuf,
}

/// The programs of a Fabric network and the configuration files that come with them.
#[derive(Debug, Clone)]
pub struct FabricPrograms {
    /// Holds `peer`, `orderer` and `configtxgen`.
    pub bin: PathBuf,
    /// The program that makes the certificates.
    pub cryptogen: PathBuf,
    /// Holds `core.yaml` and `orderer.yaml` as Fabric ships them.
    pub sampleconfig: PathBuf,
}

impl Go {
    pub(crate) fn find() -> Result<Go> {
        let ask = |arguments: &[&str]| {
            program::output(Command::new("go").args(arguments))
                .map(|text| text.trim().to_owned())
                .context(
                    "Go is needed to build Kubernetes and Fabric\nhint: install Go 1.24 or newer",
                )
        };
        Ok(Go {
            version: ask(&["version"])?,
            root: ask(&["env", "GOROOT"])?.into(),
        })
    }

    /// The directory of the tool chain itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What `go version` prints; part of every cache key.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Kubernetes: control plane, node and `kubectl` in one program.
    pub(crate) fn kube(&self, cache: &Cache) -> Result<PathBuf> {
        let version = "k8s.io/component-base/version";
        let (major, minor) = ("1", "34");
        let flags = format!(
            "-ldflags=-s -w -X {version}.gitVersion=v{KUBERNETES_VERSION} -X {version}.gitMajor={major} \
             -X {version}.gitMinor={minor}"
        );
        let announcement =
            format!("building kubernetes {KUBERNETES_VERSION} (first time, about 5 minutes)");
        let dir = self.build(cache, "kube", KUBE, &[&flags], &["."], &announcement)?;
        Ok(dir.join("kube"))
    }

    /// The program that holds a pod's namespaces.
    pub(crate) fn pause(&self, cache: &Cache) -> Result<PathBuf> {
        let flags = ["-ldflags=-s -w"];
        let dir = self.build(cache, "pause", PAUSE, &flags, &["."], "building pause")?;
        Ok(dir.join("pause"))
    }

    /// The registry client of go-containerregistry.
    pub(crate) fn crane(&self, cache: &Cache) -> Result<PathBuf> {
        let flags = ["-ldflags=-s -w"];
        let package = ["github.com/google/go-containerregistry/cmd/crane"];
        let announcement = format!("building crane {CRANE_VERSION} (first time, half a minute)");
        let dir = self.build(cache, "crane", CRANE, &flags, &package, &announcement)?;
        Ok(dir.join("crane"))
    }

    /// The `docker` command, without a daemon.
    pub(crate) fn docker_cli(&self, cache: &Cache) -> Result<PathBuf> {
        let version = format!(
            "-ldflags=-s -w -X github.com/docker/cli/cli/version.Version={DOCKER_CLI_VERSION}"
        );
        // Its module has no go.mod, so Go takes it for one of the language of 1.16.
        let language = "-gcflags=github.com/docker/cli/...=-lang=go1.24";
        let announcement = format!(
            "building the docker command {DOCKER_CLI_VERSION} (first time, about a minute)"
        );
        let flags = [language, &version];
        let package = ["github.com/docker/cli/cmd/docker"];
        let dir = self.build(
            cache,
            "docker-cli",
            DOCKER_CLI,
            &flags,
            &package,
            &announcement,
        )?;
        Ok(dir.join("docker"))
    }

    /// A server of S3.
    pub(crate) fn versitygw(&self, cache: &Cache) -> Result<PathBuf> {
        let flags = ["-ldflags=-s -w"];
        let package = ["github.com/versity/versitygw/cmd/versitygw"];
        let announcement = "building a server of S3 (first time, about a minute)";
        let dir = self.build(
            cache,
            "versitygw",
            VERSITYGW,
            &flags,
            &package,
            announcement,
        )?;
        Ok(dir.join("versitygw"))
    }

    /// A driver of a Docker client, of these files.
    pub(crate) fn driver(
        &self,
        cache: &Cache,
        name: &str,
        files: &[SourceFile<'_>],
    ) -> Result<PathBuf> {
        let entry = format!("driver-{name}");
        let announcement = format!("building the driver of {name}");
        let flags = ["-ldflags=-s -w"];
        let dir = self.build(cache, &entry, files, &flags, &["."], &announcement)?;
        Ok(dir.join("driver"))
    }

    /// The programs of a release.
    pub(crate) fn fabric(&self, cache: &Cache, release: Release) -> Result<FabricPrograms> {
        Ok(FabricPrograms {
            bin: self.fabric_programs(cache, release)?,
            cryptogen: self.cryptogen(cache)?,
            sampleconfig: self.sampleconfig(cache, release)?,
        })
    }

    fn fabric_programs(&self, cache: &Cache, release: Release) -> Result<PathBuf> {
        let announcement = format!(
            "building fabric {} (first time, about a minute)",
            release.version()
        );
        let name = format!("fabric-{}", release.series());
        self.build_of_release(cache, &name, release, &release.programs(), &announcement)
    }

    /// For networks of all releases: certificates of 2.1.1's own cryptogen, compiled by a recent Go, are refused by 2.1.1's MSP.
    fn cryptogen(&self, cache: &Cache) -> Result<PathBuf> {
        let (release, programs) = (Release::V1_4, [Release::CRYPTOGEN.to_owned()]);
        let dir =
            self.build_of_release(cache, "cryptogen", release, &programs, "building cryptogen")?;
        Ok(dir.join("cryptogen"))
    }

    fn build_of_release(
        &self,
        cache: &Cache,
        name: &str,
        release: Release,
        programs: &[String],
        announcement: &str,
    ) -> Result<PathBuf> {
        let flags = release.build_flags();
        let [flags, programs] =
            [&flags, programs].map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
        self.build(
            cache,
            name,
            release.module(),
            &flags,
            &programs,
            announcement,
        )
    }

    fn sampleconfig(&self, cache: &Cache, release: Release) -> Result<PathBuf> {
        let files = release.module();
        let build = Build {
            name: &format!("fabric-{}-config", release.series()),
            inputs: &inputs(&self.version, files, &[]),
            announcement: "taking fabric's configuration files from its module",
        };
        cache.entry(&build, |dir| {
            let source = tempfile::tempdir()?;
            write(files, source.path())?;
            let module = "github.com/hyperledger/fabric";
            let list = ["list", "-m", "-f", "{{.Dir}}", module];
            let found = program::output(self.command(source.path()).args(list))?;
            for name in ["core.yaml", "orderer.yaml"] {
                let from = Path::new(found.trim()).join("sampleconfig").join(name);
                let text =
                    fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
                fs::write(dir.join(name), text)?;
            }
            Ok(())
        })
    }

    /// A directory with the module's files and its `vendor` folder.
    pub(crate) fn vendored(
        &self,
        cache: &Cache,
        name: &str,
        files: &[SourceFile<'_>],
    ) -> Result<PathBuf> {
        let build = Build {
            name: &format!("vendored-{name}"),
            inputs: &inputs(&self.version, files, &[]),
            announcement: &format!("vendoring chaincode {name}"),
        };
        cache.entry(&build, |dir| {
            write(files, dir)?;
            program::output(self.command(dir).args(["mod", "vendor"]))?;
            Ok(())
        })
    }

    /// A directory with the program `program` of vendored chaincode whose `kind.go` is `kind`.
    pub(crate) fn program(
        &self,
        cache: &Cache,
        name: &str,
        vendored: &Path,
        kind: &str,
    ) -> Result<PathBuf> {
        let place = vendored.to_string_lossy();
        let build = Build {
            name: &format!("program-{name}"),
            inputs: &[place.as_bytes(), kind.as_bytes()],
            announcement: &format!("compiling chaincode {name}"),
        };
        cache.entry(&build, |dir| {
            // Beside the sources lies the file in which kinds differ: `-overlay` saves a copy of the rest.
            let scratch = tempfile::tempdir()?;
            let (file, overlay) = (
                scratch.path().join("kind.go"),
                scratch.path().join("overlay"),
            );
            fs::write(&file, kind)?;
            let replace =
                serde_json::json!({"Replace": {vendored.join("kind.go").to_string_lossy(): file}});
            fs::write(&overlay, replace.to_string())?;
            let mut command = self.command(vendored);
            command.args(["build", "-mod=vendor", "-ldflags=-s -w", "-overlay"]);
            command.arg(overlay).arg("-o").arg(dir.join("program"));
            program::output(&mut command).map(drop)
        })
    }

    fn build(
        &self,
        cache: &Cache,
        name: &str,
        files: &[SourceFile<'_>],
        flags: &[&str],
        packages: &[&str],
        announcement: &str,
    ) -> Result<PathBuf> {
        let arguments: Vec<&str> = flags.iter().chain(packages).copied().collect();
        let build = Build {
            name,
            inputs: &inputs(&self.version, files, &arguments),
            announcement,
        };
        cache.entry(&build, |dir| {
            let source = tempfile::tempdir()?;
            write(files, source.path())?;
            // A trailing slash makes `-o` a directory, in which each program gets its package's name.
            let target = format!("{}/", dir.display());
            let mut command = self.command(source.path());
            command.args(["build", "-mod=readonly", "-o", &target]);
            program::output(command.args(&arguments))?;
            if fs::read_dir(dir)?.next().is_none() {
                bail!("go build made no program of {packages:?}");
            }
            Ok(())
        })
    }

    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new("go");
        command
            .current_dir(dir)
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env("GOFLAGS", "-buildvcs=false");
        command
    }
}

fn inputs<'a>(
    version: &'a str,
    files: &'a [SourceFile<'_>],
    arguments: &'a [&str],
) -> Vec<&'a [u8]> {
    std::iter::once(version)
        .chain(files.iter().flat_map(|(name, text)| [*name, *text]))
        .chain(arguments.iter().copied())
        .map(str::as_bytes)
        .collect()
}

fn write(files: &[SourceFile<'_>], dir: &Path) -> Result<()> {
    for (name, text) in files {
        fs::write(dir.join(name), text)
            .with_context(|| format!("cannot write {name} to {}", dir.display()))?;
    }
    Ok(())
}
