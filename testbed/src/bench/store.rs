//! What a store of ten thousand images costs: the start with its check, collection, the list, and memory. The store is written
//! here file by file, in the layout that the program documents, with an image's three blobs for each and some rubbish.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testbed::engine::Engine;
use testbed::peitho::{Containers, Log, Machine};
use testbed::{Run, say};

use super::report::Report;

const IMAGES: usize = 10_000;
/// Blobs that nothing needs.
const RUBBISH: usize = 1_000;

pub(super) fn measure(run: &Run, report: &mut Report) -> Result<()> {
    say(format!("writing a store of {IMAGES} images"));
    let program = testbed::peitho::program()?;
    let store = run.data().join("peitho-beside");
    fill(&store)?;
    let begun = Instant::now();
    let machine = Machine::start(run, program.clone(), Log::Info, Containers::OciBeside, &[])?;
    report.figure(
        "store_10000_start_s",
        begun.elapsed().as_secs_f64(),
        " s",
        "<= 2",
    );
    let engine = Engine::new(machine.engine());
    let begun = Instant::now();
    let listed = engine.send("GET", "/images/json", "", b"")?.json()?;
    report.figure(
        "store_10000_list_s",
        begun.elapsed().as_secs_f64(),
        " s",
        "-",
    );
    let listed = listed.as_array().map_or(0, Vec::len);
    ensure!(listed == IMAGES, "{listed} images are listed");
    let rss = machine.process().rss_kb()? as f64 / 1024.0;
    report.figure("store_10000_rss_mb", rss, "", "<= 100");
    machine.process().kill_hard()?;

    // Three readings of all records: what would go, to the trash, out of it.
    let directory = format!("store.directory={}", store.display());
    let begun = Instant::now();
    let pruned = Command::new(&program)
        .args(["prune", "--set", &directory])
        .output()?;
    report.figure(
        "store_10000_collect_s",
        begun.elapsed().as_secs_f64(),
        " s",
        "<= 5",
    );
    let told = String::from_utf8_lossy(&pruned.stdout).into_owned();
    ensure!(
        told.contains("all of this is gone"),
        "{told}{}",
        String::from_utf8_lossy(&pruned.stderr)
    );
    let left = fs::read_dir(store.join("blobs/sha256"))?.count();
    ensure!(left == 3 * IMAGES, "{left} blobs are left");
    Ok(())
}

fn fill(store: &Path) -> Result<()> {
    let (blobs, refs) = (
        store.join("blobs/sha256"),
        store.join("refs/v1/image/default"),
    );
    fs::create_dir_all(&blobs)?;
    fs::create_dir_all(&refs)?;
    let blob = |content: String| -> Result<Value> {
        let hex = hex(content.as_bytes());
        fs::write(blobs.join(&hex), &content)?;
        Ok(json!({"digest": format!("sha256:{hex}"), "size": content.len()}))
    };
    for number in 0..IMAGES {
        let layer = blob(format!("layer {number}"))?;
        let config = blob(format!("config {number}"))?;
        let manifest = blob(format!("manifest {number}"))?;
        let hash = hex(&number.to_be_bytes());
        let name = format!(
            "docker.io/library/dev-peer0.org1.example.com-basic_{number}-{hash}-{hash}:latest"
        );
        let image = json!({
            "name": name, "id": config["digest"], "base": {"name": "docker.io/library/base:1", "config": null},
            "layer": {"blob": layer, "diffId": layer["digest"], "destination": "/usr/local/bin",
                "entries": [{"name": "chaincode", "kind": "file"}]},
            "env": [], "labels": {}, "manifest": manifest,
        });
        let record = json!({"name": name, "value": image}).to_string();
        fs::write(refs.join(format!("{}.json", hex(name.as_bytes()))), record)?;
    }
    for number in 0..RUBBISH {
        blob(format!("rubbish {number}"))?;
    }
    Ok(())
}

fn hex(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
