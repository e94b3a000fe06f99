//! What `/build` costs: an ordinary program on dockerd and on Peitho in turn, and the memory of the server while packages of a
//! gibibyte come in. Bodies are ready before the clock starts: what a peer needs to make one is the peer's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use testbed::engine::{Engine, build_context, dockerfile, tar};
use testbed::{Assets, Process, Release, at_once};

use super::report::Report;

/// Pairs of builds that are measured.
const BUILDS: usize = 7;

/// The size of an ordinary program in Go.
const PROGRAM: u64 = 18_000_000;

/// Packages that come in at once, by number.
const PACKAGES: [u64; 4] = [1, 2, 3, 4];

/// The size of the program in each.
const GIBIBYTE: u64 = 1 << 30;

/// The first bytes of a real program in Go.
pub(super) fn program(assets: &Assets) -> Result<Vec<u8>> {
    let file = assets.fabric(Release::V2_1)?.bin.join("peer");
    let mut program = Vec::new();
    File::open(&file)?.take(PROGRAM).read_to_end(&mut program)?;
    ensure!(
        program.len() as u64 == PROGRAM,
        "{} is short",
        file.display()
    );
    Ok(program)
}

/// Seconds of `/build`, from the first byte of the body to the end of the reply, on both sides.
pub(super) fn times(
    assets: &Assets,
    docker: &Engine,
    peitho: &Engine,
    base: &str,
    report: &mut Report,
) -> Result<()> {
    let mut program = program(assets)?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..BUILDS {
        for (engine, times) in [(docker, &mut theirs), (peitho, &mut ours)] {
            // Nobody has seen this one.
            program[..8].copy_from_slice(&(2 * round + times.len()).to_le_bytes());
            let context = build_context(base, &tar(&[("chaincode", 0o755, &program)])?)?;
            let begun = Instant::now();
            engine.build(&format!("bench-build-{round}"), &context)?;
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    report.ratio("build_18mb_ratio", &ours, &theirs, "<= 0.5");
    report.series("build_18mb_dockerd_s", theirs, " s", "-");
    report.series("build_18mb_s", ours, " s", "<= 0.3");
    Ok(())
}

/// The most memory that `server` ever has while different packages that cannot be compressed come in at once, in MiB.
pub(super) fn memory(engine: &Engine, server: &Process, base: &str) -> Result<f64> {
    server.forget_peak()?;
    for built in at_once(&PACKAGES, |number| build_large(engine, base, *number)) {
        built?;
    }
    Ok(server.peak_rss_kb()? as f64 / 1024.0)
}

fn build_large(engine: &Engine, base: &str, number: u64) -> Result<()> {
    let path = format!("/build?t=bench-large-{number}");
    let answer = engine.send_streamed(&path, "application/tar", |body| {
        let mut context = tar::Builder::new(GzEncoder::new(body, Compression::none()));
        let dockerfile = dockerfile(base);
        let member = header(dockerfile.len() as u64);
        append(&mut context, member, "Dockerfile", dockerfile.as_bytes())?;
        // A tar in the tar, so by hand: the header of its one member, the content, and the two empty blocks at the end.
        let mut inside = header(GIBIBYTE);
        inside.set_path("chaincode")?;
        inside.set_mode(0o755);
        inside.set_cksum();
        let end = [0; 1024];
        let package = (inside.as_bytes().chain(Noise(number).take(GIBIBYTE))).chain(&end[..]);
        let size = 512 + GIBIBYTE + 1024;
        append(&mut context, header(size), "binpackage.tar", package)?;
        context.into_inner()?.finish()?;
        Ok(())
    })?;
    ensure!(
        answer.status == 200,
        "build: {} {}",
        answer.status,
        answer.text()
    );
    Ok(())
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn append(
    to: &mut tar::Builder<impl Write>,
    mut header: tar::Header,
    name: &str,
    content: impl Read,
) -> Result<()> {
    (to.append_data(&mut header, name, content)).with_context(|| format!("sending {name}"))
}

/// Bytes without end that nothing compresses: xorshift64, by Marsaglia. The state, which must not be zero, is all there is.
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for piece in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            piece.copy_from_slice(&self.0.to_le_bytes()[..piece.len()]);
        }
        Ok(buffer.len())
    }
}
