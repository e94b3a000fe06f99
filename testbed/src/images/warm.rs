//! Owns the builders that have compiled before: the stand-ins of `fabric-ccenv` with what Go keeps of a compile of the plain chaincode, for
//! suites in which the compiler's time is not the subject. The compiler is the real one, and finds what it kept itself. [`super`] lists them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

use super::{Image, builder_config, builder_environment, make_over};
use crate::assets::Assets;
use crate::cache::Build;
use crate::chaincode::{Chaincode, Gopath, UNCACHED};
use crate::image::{Below, Owner};
use crate::program;
use crate::release::Release;

/// Where all that Go kept lies in the image: one file, which engines unpack sooner than thousands.
const KEPT: &str = "usr/local/share/go-build.tar";

/// Comes before the real one in the builder's PATH. A compile that has no cache yet gets what was kept; `-m` because Go throws away what has
/// been there for days.
fn go() -> String {
    format!(
        "#!/bin/sh
cache=\"${{GOCACHE:-${{XDG_CACHE_HOME:-$HOME/.cache}}/go-build}}\"
for mark in /chaincode/input/src/{UNCACHED} /chaincode/input/src/*/*/{UNCACHED}; do
    [ -e \"$mark\" ] && export GOCACHE=\"${{TMPDIR:-/tmp}}/go-build-{UNCACHED}\" && exec /usr/local/go/bin/go \"$@\"
done
if [ \"$1\" = build ] && [ ! -d \"$cache\" ]; then
    mkdir -p \"$cache\" && tar -xmf /{KEPT} -C \"$cache\"
fi
exec /usr/local/go/bin/go \"$@\"
"
    )
}

/// In the order of [`Release::ALL`].
pub(super) fn obtain(assets: &Assets) -> Result<[Image; 2]> {
    let images = assets.images()?;
    let cold = Release::ALL.map(|release| images.fabric(release)[0]);
    let kept = kept(assets, cold)?;
    let image = |place: usize| {
        let (base, release) = (cold[place], Release::ALL[place]);
        let name = base.name().replace(':', "-warm:");
        let inputs = [&base.layout, &kept].map(|path| path.to_string_lossy());
        let inputs = [&*inputs[0], &*inputs[1], include_str!("warm.rs")].join("\n");
        let config = builder_config(release);
        make_over(
            Some(base),
            assets.cache(),
            &name,
            &inputs,
            &config,
            |layer| {
                for dir in ["go/bin", "usr/local/share"] {
                    layer.directory(dir, 0o755, Owner::Root)?;
                }
                layer.text("go/bin/go", 0o755, &go())?;
                layer.file(KEPT, 0o644, &kept.join("go-build.tar"))
            },
        )
    };
    Ok([image(0)?, image(1)?])
}

/// A directory with `go-build.tar`: Go's cache after a compile in each of these builders, by their peers' commands. Paths are part of what Go
/// knows a compile by, so it happens where a peer's happens, in the image's own files.
fn kept(assets: &Assets, builders: [&Image; 2]) -> Result<PathBuf> {
    let code = Chaincode::basic().input(assets)?;
    let places = builders.map(|image| image.layout.to_string_lossy());
    let build = Build {
        name: "go-build",
        inputs: &[
            places[0].as_bytes(),
            places[1].as_bytes(),
            &code,
            include_bytes!("warm.rs"),
        ],
        announcement: "compiling chaincode once for all builders (first time, about a minute)",
    };
    assets.cache().entry(&build, |dir| {
        let cache = tempfile::tempdir_in(dir)?;
        for (release, builder) in Release::ALL.into_iter().zip(builders) {
            let root = tempfile::tempdir_in(dir)?;
            Below::of(&builder.layout)?.unpack(root.path())?;
            let input = root.path().join("chaincode/input");
            match release {
                Release::V1_4 => {
                    let gopath = tempfile::tempdir_in(dir)?;
                    Chaincode::basic().gopath(assets, gopath.path())?;
                    copy(&gopath.path().join("src"), &input)?;
                }
                Release::V2_1 => tar::Archive::new(GzDecoder::new(&code[..])).unpack(&input)?,
            }
            compile(release, root.path(), cache.path())?;
        }
        let mut archive = tar::Builder::new(File::create(dir.join("go-build.tar"))?);
        archive.mode(tar::HeaderMode::Deterministic);
        for entry in fs::read_dir(cache.path())? {
            let entry = entry?;
            // Beside these are notes of when it was last tidied.
            if entry.file_type()?.is_dir() {
                archive.append_dir_all(entry.file_name(), entry.path())?;
            }
        }
        Ok(archive.finish()?)
    })
}

/// With all that links point to.
fn copy(from: &Path, into: &Path) -> Result<()> {
    program::output(Command::new("cp").arg("-RL").arg(from).arg(into)).map(drop)
}

/// Compiles what lies in the builder's files at `root`, which become the root of the compiler, and adds what Go keeps to `cache`.
fn compile(release: Release, root: &Path, cache: &Path) -> Result<()> {
    let inside = root.join("go-build");
    // Go opens it wherever a program has nothing to read.
    File::create(root.join("dev/null"))?;
    fs::rename(cache, &inside).context("the cache moves in")?;
    let script = match release {
        Release::V1_4 => format!(
            "GOPATH=/chaincode/input:$GOPATH go build -o /chaincode/output/chaincode {}",
            Gopath::PACKAGE
        ),
        Release::V2_1 => {
            "cd /chaincode/input/src && GO111MODULE=on go build -mod=vendor -o /chaincode/output/chaincode ."
                .to_owned()
        }
    };
    let mut command = Assets::command("chroot");
    command.arg(root).args(["/bin/sh", "-c", &script]);
    command.env_clear();
    let variables = builder_environment(release);
    let variables = variables.iter().filter_map(|it| it.split_once('='));
    command.envs(variables);
    // There is no /proc, by which Go finds itself.
    command.envs([
        ("GOROOT", "/usr/local/go"),
        ("GOCACHE", "/go-build"),
        ("HOME", "/tmp"),
    ]);
    program::output(&mut command)?;
    fs::rename(&inside, cache).context("the cache moves out")
}
