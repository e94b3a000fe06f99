//! A server that is told to end while the API server is away, a compile runs and a pod waits for the next one: it ends in time, and says what it
//! leaves.

use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::engine::Engine;
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::{Gate, HOST_ADDRESS, Passage, Process};

use crate::world::Counterparts;

/// Beside the runtime of the other cases.
const INSTANCE: &str = "stops";
const ENGINE: &str = "127.0.0.1:28082";
const DELIVERY_PORT: u16 = 28083;
const ADMIN: &str = "127.0.0.1:29092";
const PATIENCE: Duration = Duration::from_secs(60);

/// Ten seconds for who is served and ten for the rest; a pod has thirty before it is killed.
const BOUND: Duration = Duration::from_secs(25);

pub(crate) fn while_the_api_server_is_away(c: &Counterparts) -> Result<()> {
    let gate = Gate::start(&c.run, &c.cluster, &c.kubeconfig)?;
    let process = spawn(c, &gate)?;
    let admin = Engine::new(ADMIN.parse()?);
    let ask = |path| admin.send("GET", path, "text/plain", b"");
    process.wait_until("is ready", PATIENCE, || {
        Ok(ask("/readyz").is_ok_and(|answer| answer.status == 200))
    })?;
    let engine = Engine::new(ENGINE.parse()?);
    let long = begun(c, &engine, "echo begun; sleep 1000")?;
    let mut output = engine.attach(&long, "/v1.44")?;
    start(&engine, &long)?;
    let mut line = [0; 6];
    output.read_exact(&mut line)?;
    ensure!(&line == b"begun\n", "the compile says {line:?}");
    let short = begun(c, &engine, "true")?;
    start(&engine, &short)?;
    let code = engine.wait(&short)?;
    ensure!(code == 0, "{code}, after\n{}", process.log());
    process.wait_until("has a pod that waits", PATIENCE, || {
        let metrics = ask("/metrics")?.text();
        Ok(metrics.lines().any(|it| it == "peitho_compile_warm_pods 1"))
    })?;
    let waits = named(c, "pods", ",peitho.dev/spare")?;
    let waits = waits.trim().strip_prefix("pod/").context("no pod waits")?;

    // As a peer does, beside its attach; nothing goes out there before the compile is over.
    let wait = format!("/containers/{long}/wait");
    let waiting = engine.open("POST", &wait, "text/plain", b"")?;
    engine.order("GET", "/_ping", &[200])?;

    gate.set(Passage::Shut);
    let told = Instant::now();
    let status = process.terminate(BOUND)?;
    let after = told.elapsed();
    let log = process.log();
    ensure!(
        status.success() && after < BOUND,
        "{status} after {after:?}:\n{log}"
    );
    let (_, log) = log.split_once("stopping: ").context("it does not stop")?;
    let compile = "compiles are joined by the next server";
    let left = |line: &str| line.contains(waits) && line.contains("the next start removes it");
    ensure!(
        log.contains(compile) && log.lines().any(left),
        "it does not say that it leaves {waits}:\n{log}"
    );
    let left = named(c, "pods", "")?;
    ensure!(left.lines().count() == 2, "there are {left}");
    drop((output, waiting));
    removed(c)
}

fn spawn(c: &Counterparts, gate: &Gate) -> Result<Process> {
    let config = json!({
        "listen": {"engineApi": ENGINE, "delivery": format!("0.0.0.0:{DELIVERY_PORT}"), "admin": ADMIN},
        "store": {"directory": c.run.data().join("stops-store")},
        "images": {"registries": [{"host": c.registry.address().to_string(), "scheme": "http"}]},
        "delivery": {"address": format!("https://{HOST_ADDRESS}:{DELIVERY_PORT}")},
        "kubernetes": {"kubeconfig": gate.kubeconfig(), "namespace": CHAINCODE_NAMESPACE, "instance": INSTANCE},
        "agent": {"image": c.build.image},
        "compile": {"warmPods": 1},
        "log": {"level": "info", "color": "never"},
    });
    c.serve("stops", &config)
}

fn begun(c: &Counterparts, engine: &Engine, script: &str) -> Result<String> {
    let body = json!({"Image": c.base, "Cmd": ["/bin/sh", "-c", script]});
    engine.create(None, &body)
}

fn start(engine: &Engine, id: &str) -> Result<()> {
    let path = format!("/containers/{id}/start");
    engine.order("POST", &path, &[204]).map(drop)
}

/// What there is of the server, by `more` labels.
fn named(c: &Counterparts, kinds: &str, more: &str) -> Result<String> {
    let of = format!("app.kubernetes.io/instance={INSTANCE}{more}");
    let place = ["--namespace", CHAINCODE_NAMESPACE, "--output=name"];
    let get = ["get", kinds, "--selector", &of];
    c.cluster.kubectl(&[&get, &place[..]].concat())
}

/// A next start would wait until nobody can hold them.
fn removed(c: &Counterparts) -> Result<()> {
    let of = format!("app.kubernetes.io/instance={INSTANCE}");
    let place = ["--namespace", CHAINCODE_NAMESPACE, "--grace-period=1"];
    let delete = ["delete", "pods,secrets", "--selector", &of, "--wait=false"];
    (c.cluster.kubectl(&[&delete, &place[..]].concat())).map(drop)
}
