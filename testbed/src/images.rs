//! Owns the list of images that a run needs in place of the official ones, which cannot be had without the internet: what
//! is in each, and under which name it stands in the registry. [`crate::Assets`] makes them; [`crate::Registry`] serves them.

mod nodeenv;
mod warm;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::assets::Assets;
use crate::cache::{Build, Cache};
use crate::go::Go;
use crate::image::{Below, Layer, Owner};
use crate::release::Release;
use crate::{packages, program};

const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nchaincode:x:500:500::/home/chaincode:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nchaincode:x:500:\n";

/// What the engines run chaincode and compiles as in Fabric's own images since 2.0.
const CHAINCODE_USER: &str = "chaincode";

/// An image that lies in the cache as an OCI layout.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    layout: PathBuf,
}

impl Image {
    /// Repository and tag, without a registry: `hyperledger/fabric-ccenv:2.1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same under another name, `repository:tag`.
    pub fn called(&self, name: &str) -> Image {
        Image {
            name: name.to_owned(),
            layout: self.layout.clone(),
        }
    }

    /// The directory of its OCI layout.
    pub fn layout(&self) -> &Path {
        &self.layout
    }
}

/// The images of a run.
#[derive(Debug, Clone)]
pub struct Images {
    /// Holds a pod's namespaces.
    pub pause: Image,
    /// Stands in for `fabric-ccenv` of 2.1: a shell and a Go tool chain, user `chaincode`.
    pub builder: Image,
    /// Stands in for `fabric-baseos` of 2.1: a shell, user `chaincode`.
    pub runtime: Image,
    /// Stands in for `fabric-ccenv` of 1.4: the same, but Go looks for source in GOPATH, and the user is root.
    pub builder_1_4: Image,
    /// Stands in for `fabric-baseos` of 1.4: the same, but the user is root.
    pub runtime_1_4: Image,
    /// A shell, and a `go` that copies its input to its output: for tests in which the compiler is not the subject.
    pub copybuilder: Image,
}

/// Stands in for the compiler where `src/program` was compiled before; the package may ask for a compile that goes wrong.
const COPYING_GO: &str = "#!/bin/sh
[ \"$1\" = version ] && exec echo go version go1.24.0 linux/amd64
source=/chaincode/input/src
[ -e $source/eats-memory ] && exec tail /dev/zero
[ -e $source/never-ends ] && exec sleep 100000
while [ \"$1\" != -o ]; do shift || exit 1; done
cp $source/program \"$2\" && chmod 0755 \"$2\"
";

impl Images {
    pub(crate) fn obtain(cache: &Cache, go: &Go) -> Result<Images> {
        let busybox = Busybox::find()?;
        Ok(Images {
            pause: pause(cache, go)?,
            builder: builder(cache, go, &busybox, Release::V2_1)?,
            runtime: runtime(cache, &busybox, Release::V2_1)?,
            builder_1_4: builder(cache, go, &busybox, Release::V1_4)?,
            runtime_1_4: runtime(cache, &busybox, Release::V1_4)?,
            copybuilder: shell(
                cache,
                &busybox,
                "peitho-testbed/copybuilder:1",
                CHAINCODE_USER,
                &[("bin/go", COPYING_GO)],
            )?,
        })
    }

    /// Stands in for `fabric-nodeenv` of 2.1: a shell, Node and npm, and the packages that Node chaincode depends on. The user is root. It is
    /// large, so it is not one of those above: who runs such chaincode asks for it and pushes it.
    pub(crate) fn nodeenv(cache: &Cache) -> Result<Image> {
        nodeenv::obtain(cache, &Busybox::find()?)
    }

    /// The builders of all releases as they are when much was compiled in them before, in the order of [`Release::ALL`]: packages find what Go
    /// kept of other chaincode, unless they are [`crate::Chaincode::uncached`]. For suites in which the compiler's time is not the
    /// subject; like the one above for who asks for them.
    pub(crate) fn warm(assets: &Assets) -> Result<[Image; 2]> {
        warm::obtain(assets)
    }

    /// The name of [`Self::nodeenv`].
    pub(crate) const NODEENV: &str = nodeenv::NAME;

    pub(crate) fn all(&self) -> Vec<&Image> {
        let [builder, runtime] = self.fabric(Release::V2_1);
        let [builder_1_4, runtime_1_4] = self.fabric(Release::V1_4);
        vec![
            &self.pause,
            builder,
            runtime,
            builder_1_4,
            runtime_1_4,
            &self.copybuilder,
        ]
    }

    /// The builder and the runtime image of a release.
    pub fn fabric(&self, release: Release) -> [&Image; 2] {
        match release {
            Release::V1_4 => [&self.builder_1_4, &self.runtime_1_4],
            Release::V2_1 => [&self.builder, &self.runtime],
        }
    }

    /// An image of one static program with this machine's CA certificates, as Peitho's own is made: nothing else inside, user
    /// 65532. It is made in `dir`, for the caller to hand to [`crate::Registry::push`].
    pub fn program(name: &str, binary: &Path, dir: &Path) -> Result<Image> {
        let mut layer = Layer::new(dir)?;
        let program = binary
            .file_name()
            .context("the program has no name")?
            .to_string_lossy();
        for parent in ["etc", "etc/ssl", "etc/ssl/certs"] {
            layer.directory(parent, 0o755, Owner::Root)?;
        }
        let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if certificates.exists() {
            layer.file("etc/ssl/certs/ca-certificates.crt", 0o644, certificates)?;
        }
        layer.file(&program, 0o755, binary)?;
        layer.finish(
            dir,
            &json!({ "Entrypoint": [format!("/{program}")], "User": "65532" }),
        )?;
        Ok(Image {
            name: name.to_owned(),
            layout: dir.to_owned(),
        })
    }
}

impl Image {
    /// Writes the image as one file, an OCI archive: what `skopeo copy oci-archive:FILE …` and `ctr images import` take.
    pub fn save(&self, file: &Path) -> Result<()> {
        self.save_as(file, &self.name)
    }

    /// The same under another name, `repository:tag`.
    pub fn save_as(&self, file: &Path, name: &str) -> Result<()> {
        let mut index: Value =
            serde_json::from_slice(&std::fs::read(self.layout.join("index.json"))?)?;
        index["manifests"][0]["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
        });
        std::fs::write(self.layout.join("index.json"), index.to_string())?;
        let unfinished = file.with_extension("part");
        let mut archive = tar::Builder::new(std::fs::File::create(&unfinished)?);
        archive.mode(tar::HeaderMode::Deterministic);
        for entry in ["oci-layout", "index.json"] {
            archive.append_path_with_name(self.layout.join(entry), entry)?;
        }
        archive.append_dir_all("blobs", self.layout.join("blobs"))?;
        archive.into_inner()?.sync_all()?;
        std::fs::rename(&unfinished, file)
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

fn pause(cache: &Cache, go: &Go) -> Result<Image> {
    let program = go.pause(cache)?;
    let config = json!({ "Entrypoint": ["/pause"], "User": "65535" });
    let inputs = program.to_string_lossy().into_owned();
    make(cache, "peitho-testbed/pause:1", &inputs, &config, |layer| {
        layer.file("pause", 0o755, &program)
    })
}

/// Only what a compile needs of the tool chain, without documentation, tests and the compiler's own source: every engine unpacks these
/// files at the start of a run, and the reaper deletes them.
fn builder(cache: &Cache, go: &Go, busybox: &Busybox, release: Release) -> Result<Image> {
    let config = builder_config(release);
    let inputs = format!("{} {}", go.version(), busybox.fingerprint);
    make(cache, release.builder_image(), &inputs, &config, |layer| {
        busybox.add_to(layer)?;
        for dir in ["chaincode", "chaincode/input", "chaincode/output"] {
            layer.directory(dir, 0o755, Owner::Chaincode)?;
        }
        layer.directory("go", 0o777, Owner::Root)?;
        for dir in ["usr", "usr/local", "usr/local/go", "usr/local/go/bin"] {
            layer.directory(dir, 0o755, Owner::Root)?;
        }
        let root = go.root();
        layer.file("usr/local/go/bin/go", 0o755, &root.join("bin/go"))?;
        for file in ["VERSION", "go.env"] {
            layer.file(&format!("usr/local/go/{file}"), 0o644, &root.join(file))?;
        }
        for dir in ["pkg/tool", "pkg/include", "src"] {
            let name = format!("usr/local/go/{dir}");
            layer.tree(&name, &root.join(dir), |file| {
                ["cmd", "testdata"].contains(&file) || file.ends_with("_test.go")
            })?;
        }
        Ok(())
    })
}

fn builder_config(release: Release) -> Value {
    json!({ "Env": builder_environment(release), "User": user(release), "WorkingDir": "/go" })
}

fn builder_environment(release: Release) -> Vec<&'static str> {
    let path = "PATH=/go/bin:/usr/local/go/bin:/usr/local/bin:/bin";
    let compiler = ["CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOPATH=/go"];
    let modules: &[&str] = match release {
        Release::V1_4 => &["GO111MODULE=off"],
        Release::V2_1 => &["GOFLAGS=-mod=vendor", "GOPROXY=off"],
    };
    [&[path][..], &compiler, modules].concat()
}

fn runtime(cache: &Cache, busybox: &Busybox, release: Release) -> Result<Image> {
    shell(cache, busybox, release.runtime_image(), user(release), &[])
}

/// Images of 1.4 name no user, so theirs is root.
fn user(release: Release) -> &'static str {
    match release {
        Release::V1_4 => "",
        Release::V2_1 => CHAINCODE_USER,
    }
}

/// A shell that runs as `user`, with further `scripts`.
fn shell(
    cache: &Cache,
    busybox: &Busybox,
    name: &str,
    user: &str,
    scripts: &[(&str, &str)],
) -> Result<Image> {
    let config = json!({ "Env": ["PATH=/usr/local/bin:/bin"], "User": user });
    make(cache, name, &busybox.fingerprint, &config, |layer| {
        busybox.add_to(layer)?;
        for dir in ["chaincode", "chaincode/input", "chaincode/output"] {
            layer.directory(dir, 0o755, Owner::Chaincode)?;
        }
        for dir in ["usr", "usr/local", "usr/local/bin"] {
            layer.directory(dir, 0o755, Owner::Root)?;
        }
        for (name, script) in scripts {
            layer.text(name, 0o755, script)?;
        }
        Ok(())
    })
}

fn make(
    cache: &Cache,
    name: &str,
    inputs: &str,
    config: &Value,
    fill: impl FnOnce(&mut Layer) -> Result<()>,
) -> Result<Image> {
    make_over(None, cache, name, inputs, config, fill)
}

/// The same with the layers of `base` below the one that is filled.
fn make_over(
    base: Option<&Image>,
    cache: &Cache,
    name: &str,
    inputs: &str,
    config: &Value,
    fill: impl FnOnce(&mut Layer) -> Result<()>,
) -> Result<Image> {
    let config_text = config.to_string();
    // The recipe is part of what goes in, and this file is the recipe.
    let inputs = [
        inputs.as_bytes(),
        config_text.as_bytes(),
        include_bytes!("images.rs"),
        include_bytes!("image.rs"),
    ];
    let build = Build {
        name: &format!("image-{}", name.replace(['/', ':'], "-")),
        inputs: &inputs,
        announcement: &format!("making image {name}"),
    };
    let layout = cache.entry(&build, |dir| {
        let mut layer = Layer::new(dir)?;
        fill(&mut layer)?;
        let below = base.map(|base| Below::of(&base.layout)).transpose()?;
        let below = below.unwrap_or_default();
        layer.finish_over(below, dir, config).map(drop)
    })?;
    Ok(Image {
        name: name.to_owned(),
        layout,
    })
}

/// The shell and its tools: one static program that acts by the name it is called by.
struct Busybox {
    program: PathBuf,
    applets: Vec<String>,
    fingerprint: String,
}

impl Busybox {
    fn find() -> Result<Busybox> {
        let program = packages::find("/bin/busybox").context("busybox-static is not installed")?;
        let applets = program::output(Command::new(&program).arg("--list"))?;
        let size = std::fs::metadata(&program)?.len();
        let version = program::output(&mut Command::new(&program))?;
        Ok(Busybox {
            fingerprint: format!("{} {size}", version.lines().next().unwrap_or_default()),
            applets: applets.lines().map(str::to_owned).collect(),
            program,
        })
    }

    fn add_to(&self, layer: &mut Layer) -> Result<()> {
        self.add_tools_to(layer)?;
        layer.directory("home/chaincode", 0o755, Owner::Chaincode)?;
        layer.text("etc/passwd", 0o644, USERS)?;
        layer.text("etc/group", 0o644, GROUPS)
    }

    /// The same without users.
    fn add_tools_to(&self, layer: &mut Layer) -> Result<()> {
        for dir in ["bin", "dev", "etc", "home", "proc", "sys"] {
            layer.directory(dir, 0o755, Owner::Root)?;
        }
        layer.directory("tmp", 0o1777, Owner::Root)?;
        layer.file("bin/busybox", 0o755, &self.program)?;
        for applet in self.applets.iter().filter(|applet| *applet != "busybox") {
            layer.link(&format!("bin/{applet}"), "busybox")?;
        }
        Ok(())
    }
}
