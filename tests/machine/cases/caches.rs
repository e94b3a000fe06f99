//! What compilers keep, on its way when the server is killed.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::engine::Engine;
use testbed::{Steps, wait};

use crate::world::{Counterparts, Runtime};

/// For a compile that begins, and for what it brings.
const SOON: Duration = Duration::from_secs(60);

/// So much that it is on its way for a while.
const FILL: &str = "cd $XDG_CACHE_HOME; head -c 150000000 /dev/urandom >$(cat /proc/sys/kernel/random/uuid); echo filled; exit 3";

const FILLED: u64 = 150_000_000;

const GAINED: &str = "peitho_delivery_cache_gained_bytes_total";

const LOOK: &str =
    "cat /proc/sys/kernel/random/uuid >/chaincode/output/program; ls $XDG_CACHE_HOME | wc -l";

/// Two who install the same, when the server is killed and when they come again.
pub(super) fn server_killed_while_it_goes_back_and_comes(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    // What others compile with the builders of the other cases would have to wait for this.
    c.registry().push(&c.assets.images()?.copybuilder)?;
    steps.time("killed while it goes back", || killed_when(c, FILL, GAINED))?;
    // A failure is not kept: it is told again by who is still there, or made again.
    for time in ["the same again", "the same once more"] {
        for (code, _) in steps.time(time, || both(c, FILL))? {
            ensure!(code == 3, "the compile that failed now exits with {code}");
        }
    }
    wait::until("what it left is in the store", SOON, None, || {
        Ok((counted(c, GAINED)? >= FILLED).then_some(()))
    })?;
    steps.time("killed while it comes", || {
        killed_when(c, LOOK, "peitho_delivery_cache_bytes_total")
    })?;
    let [one, two] = steps.time("a compile that joins", || both(c, LOOK))?;
    ensure!(
        one.0 == 0 && two.0 == 0,
        "they exit with {} and {}",
        one.0,
        two.0
    );
    ensure!(one.1 == two.1, "they were given different programs");
    Ok(Some(steps))
}

fn engine(c: &Counterparts) -> Result<Engine> {
    c.engine(Runtime::Oci)
}

/// Begins a compile of `script`, as a peer does; gives its container's id.
fn begun(c: &Counterparts, script: &str) -> Result<String> {
    let image = c.registry().reference(&c.assets.images()?.copybuilder);
    let body = json!({"Image": image, "Cmd": ["/bin/sh", "-c", script]});
    let id = engine(c)?.create(None, &body)?;
    engine(c)?.order("POST", &format!("/containers/{id}/start"), &[204])?;
    Ok(id)
}

/// Two at once: code and output of each.
fn both(c: &Counterparts, script: &str) -> Result<[(i64, Vec<u8>); 2]> {
    let ids = [begun(c, script)?, begun(c, script)?];
    let ended = |id: &String| -> Result<(i64, Vec<u8>)> {
        let engine = engine(c)?;
        let code = engine.wait(id)?;
        let path = format!("/containers/{id}/archive?path=/chaincode/output");
        let output = engine.send("GET", &path, "", b"")?;
        ensure!(code != 0 || output.status == 200, "{}", output.text());
        Ok((code, output.body))
    };
    thread::scope(|scope| {
        let [one, two] = ids.each_ref().map(|id| scope.spawn(move || ended(id)));
        let panicked = "a client panicked";
        Ok([
            one.join().ok().context(panicked)??,
            two.join().ok().context(panicked)??,
        ])
    })
}

/// Two begin `script`; the server is killed as soon as it counts bytes of `counter`, and started anew.
fn killed_when(c: &Counterparts, script: &str, counter: &str) -> Result<()> {
    let before = counted(c, counter)?;
    let ids = [begun(c, script)?, begun(c, script)?];
    thread::scope(|scope| {
        let waiting = ids.each_ref().map(|id| {
            scope.spawn(move || {
                let engine = engine(c)?;
                engine.post(&format!("/containers/{id}/wait"))
            })
        });
        let begins = wait::until("bytes are on their way", SOON, None, || {
            Ok((counted(c, counter)? > before).then_some(()))
        });
        c.with_machine(Runtime::Oci, |machine| {
            machine.process().kill_hard()?;
            machine.restart(&c.run)
        })?;
        // Answered before that, or broken off with it.
        for waiting in waiting {
            let _ = waiting.join();
        }
        begins
    })
}

fn counted(c: &Counterparts, counter: &str) -> Result<u64> {
    let admin = c.with_machine(Runtime::Oci, |machine| Ok(machine.admin()))?;
    let metrics = Engine::new(admin).send("GET", "/metrics", "", b"")?.text();
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(counter)?.trim().parse().ok());
    value.with_context(|| format!("no {counter} in {metrics}"))
}
