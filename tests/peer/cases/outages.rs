//! The API server away, slow or overloaded, the registry silent, and Peitho killed at every request of a container's life: requests wait
//! or say why, nothing is made twice, and the next invoke works without a hand on Kubernetes.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::{Chaincode, Compile, FaultPoint, Gate, Moment, Passage, Steps};

use super::install_faults::while_copying;
use super::lifecycle::{BASIC, deployed};
use super::protocol::{ensure_apart, never_two};
use crate::faults::{Chapter, Row, SHARED, left, no_compile, settled};
use crate::world::{Counterparts, PEER};
use testbed::engine::{chaincode_body, gzip, tar};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// How much longer an invoke may take than the API server is away.
const SOON: Duration = Duration::from_secs(15);

fn wait_until(what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    testbed::wait::until(what, AWAY + SOON, None, || Ok(condition()?.then_some(())))
}

/// One outage finds Peitho in all it can be at: a chaincode runs and is waited for, a compile runs, and then the
/// chaincode crashes and is launched anew.
pub(super) fn api_server_away_for_a_minute(c: &Counterparts) -> Result<Option<Steps>> {
    deployed(c)?;
    SHARED.end(c)?;
    let before = left(c)?;
    SHARED.invoke(c, "before the outage")?;
    let mut steps = Steps::new();
    let log = c.with_peitho(|peitho| Ok(peitho.process().log().len()))?;
    let id = c.engine.create(
        None,
        &json!({
            "Cmd": ["/bin/sh", "-c", "echo begun; sleep 10; echo over"],
            "Image": c.registry.reference(&c.assets.images()?.copybuilder),
        }),
    )?;
    let mut compile = c.engine.attach(&id, "/v1.44")?;
    c.engine
        .order("POST", &format!("/containers/{id}/start"), &[204])?;
    let mut begun = [0; 6];
    compile.read_exact(&mut begun)?;
    ensure!(&begun == b"begun\n", "the compile says {begun:?}");

    c.cluster.kill_api_server()?;
    let away = Instant::now();
    // What needs no API server goes on.
    c.engine.order("GET", "/_ping", &[200])?;
    let version = c.with_fabric(|fabric| Ok(fabric.query(PEER, BASIC, &["version"])?))?;
    ensure!(
        version == "basic v2",
        "the running chaincode answers {version:?}"
    );
    let code = steps.time("compile ends", || c.engine.wait(&id))?;
    ensure!(code == 0, "the compile exited with {code}");
    let not_ready = c.with_peitho(|peitho| {
        let admin = testbed::engine::Engine::new(peitho.admin());
        wait_until("readiness says what is away", || {
            let ready = admin.send("GET", "/readyz", "text/plain", b"")?;
            Ok(ready.status == 503 && ready.text().contains("kubernetes"))
        })
    });
    not_ready?;
    // What needs it waits.
    let invoked = thread::scope(|scope| -> Result<Duration> {
        let invoked = scope.spawn(|| -> Result<Duration> {
            let crashed = c.with_fabric(|fabric| Ok(fabric.invoke(PEER, BASIC, &["exit", "3"])))?;
            ensure!(crashed.is_err(), "the process did not exit");
            // A query: the command line's own connection to the orderer does not outlive such a wait.
            let get = ["Get", "before the outage"];
            c.with_fabric(|fabric| Ok(fabric.query(PEER, BASIC, &get)?))?;
            Ok(away.elapsed())
        });
        wait_until("a minute has passed", || Ok(away.elapsed() >= AWAY))?;
        c.cluster.start_api_server(&c.run)?;
        let back = jiff::Timestamp::now();
        let invoked = invoked
            .join()
            .map_err(|_| anyhow!("the query panicked"))??;
        // That is Peitho's part. Kubernetes' own programs come back one after the other, within a minute or two.
        let made = pod_made_at(c)?;
        ensure!(
            made <= back + SOON,
            "the API server was back at {back}, the pod was made at {made}"
        );
        Ok(invoked)
    })?;
    SHARED.invoke(c, "after the outage")?;
    SHARED.one_pod(c)?;
    ensure_apart(&c.greetings.of_label("basic_v2"))?;
    c.engine
        .order("DELETE", &format!("/containers/{id}"), &[204])?;
    SHARED.end(c)?;
    settled(c, &before)?;
    let log = c.with_peitho(|peitho| Ok(peitho.process().log().split_off(log)))?;
    for said in ["a watch was interrupted", "too old resource version"] {
        ensure!(log.contains(said), "the log does not say {said:?}");
    }
    c.table.add(Row {
        chapter: Chapter::Outage,
        fault: "API server killed, and started after 60 s; its watches have expired",
        said:
            "nothing: running chaincode answers, a compile ends, a query that has to launch waits until the node works again"
                .to_owned(),
        after: Some(invoked),
        left: "nothing twice, and nothing after the removal".to_owned(),
        next: "it runs",
    });
    Ok(Some(steps))
}

/// When the pod of the shared chaincode was made.
fn pod_made_at(c: &Counterparts) -> Result<jiff::Timestamp> {
    let pods = c.cluster.kubectl(&[
        "get",
        "pods",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "-o",
        r#"jsonpath={range .items[*]}{.metadata.annotations.peitho\.dev/package-id} {.metadata.creationTimestamp}{"\n"}{end}"#,
    ])?;
    let ours = pods.lines().find(|line| line.starts_with("basic_v2:"));
    let (_, made) = ours
        .and_then(|line| line.split_once(' '))
        .context("the chaincode has no pod")?;
    Ok(made.parse()?)
}

/// How long the gate stands in the way.
const SPELL: Duration = Duration::from_secs(8);

/// When a spell begins.
#[derive(Clone, Copy)]
enum Begin {
    /// Before the launch.
    Before(Passage),
    /// With the reply to the pod's creation: the third request that changes something in a launch, after record and files.
    AtThePod,
}

const SPELLS: [(&str, Begin, Duration); 5] = [
    (
        "API server answers after 0.5 s each time",
        Begin::Before(Passage::Slow(Duration::from_millis(500))),
        Duration::ZERO,
    ),
    (
        "API server answers 429 for 8 s",
        Begin::Before(Passage::Answer(429)),
        SPELL,
    ),
    (
        "API server answers 500 for 8 s",
        Begin::Before(Passage::Answer(500)),
        SPELL,
    ),
    (
        "connections to the API server break for 8 s",
        Begin::Before(Passage::Shut),
        SPELL,
    ),
    (
        "connections to the API server break for 8 s when the pod was just made",
        Begin::AtThePod,
        SPELL,
    ),
];

fn gate(c: &Counterparts) -> Result<Gate> {
    let config = c.with_peitho(|peitho| peitho.config())?;
    let account = config["kubernetes"]["kubeconfig"].as_str();
    Gate::start(
        &c.run,
        &c.cluster,
        account.context("no kubeconfig")?.as_ref(),
    )
}

/// The server, which reaches the API server through the gate only.
fn behind(c: &Counterparts, gate: &Gate) -> Result<()> {
    c.reconfigure(|config| config["kubernetes"]["kubeconfig"] = json!(gate.kubeconfig()))
}

pub(super) fn api_server_slow_or_failing(c: &Counterparts) -> Result<Option<Steps>> {
    deployed(c)?;
    let mut steps = Steps::new();
    let gate = gate(c)?;
    behind(c, &gate)?;
    for (fault, begin, spell) in SPELLS {
        SHARED.end(c)?;
        match begin {
            Begin::Before(passage) => gate.set(passage),
            Begin::AtThePod => gate.shut_at(FaultPoint {
                request: 3,
                moment: Moment::After,
            }),
        }
        let begun = Instant::now();
        thread::scope(|scope| -> Result<()> {
            let invoked = scope.spawn(|| SHARED.invoke(c, fault));
            if spell > Duration::ZERO {
                wait_until("the spell is over", || Ok(begun.elapsed() >= spell))?;
                gate.set(Passage::Open);
            }
            let invoked = invoked.join().map_err(|_| anyhow!("the invoke panicked"))?;
            invoked.with_context(|| format!("{fault}: the invoke"))
        })?;
        let after = begun.elapsed();
        gate.set(Passage::Open);
        ensure!(
            gate.has_struck(),
            "{fault}: the pod was not the third request"
        );
        SHARED.one_pod(c)?;
        steps.time(fault, || after);
        ensure!(after <= spell + SOON, "{fault}: the invoke took {after:?}");
        c.table.add(Row {
            chapter: Chapter::Outage,
            fault,
            said: "nothing: the invoke that has to launch waits".to_owned(),
            after: Some(after),
            left: "nothing twice".to_owned(),
            next: "it runs",
        });
    }
    ensure_apart(&c.greetings.of_label("basic_v2"))?;
    c.configure_as_before()?;
    Ok(Some(steps))
}

/// The chaincode whose launch is cut at every place: it obeys SIGTERM, so that a round is short.
const IMAGE: &str = "test-points-image";
const NAME: &str = "test-points";
const PACKAGE: &str = "points:1";
const SCRIPT: &str = "#!/bin/sh\ntrap 'exit 0' TERM\n\
    (echo \"hello $CORE_CHAINCODE_ID_NAME $HOSTNAME $$\"; sleep 100000) | nc 10.88.0.1 7999 &\nwait\n";

/// A peer's whole conversation about one chaincode, from an empty place to an empty place. It breaks off where the server dies.
fn whole_life(c: &Counterparts) -> Result<()> {
    launch(c)?;
    let stop = format!("/containers/{NAME}/stop?t=0");
    c.engine.order("POST", &stop, &[204, 304])?;
    let remove = format!("/containers/{NAME}?force=1");
    c.engine.order("DELETE", &remove, &[204])?;
    Ok(())
}

/// As a peer launches: what has the name goes first.
fn launch(c: &Counterparts) -> Result<()> {
    for (method, path) in [
        ("POST", format!("/containers/{NAME}/stop?t=0")),
        ("POST", format!("/containers/{NAME}/kill?")),
        ("DELETE", format!("/containers/{NAME}?force=1")),
    ] {
        c.engine.order(method, &path, &[204, 304, 404, 409])?;
    }
    let lives = c.greetings.of_label("points").len();
    c.engine
        .create(Some(NAME), &chaincode_body(IMAGE, PACKAGE))?;
    let files = gzip(&tar(&[(
        "etc/hyperledger/fabric/client.key",
        0o100_644,
        b"a key",
    )])?)?;
    let upload = format!("/containers/{NAME}/archive?path=%2F");
    let uploaded = c.engine.send("PUT", &upload, "application/x-tar", &files)?;
    ensure!(uploaded.status == 200, "upload: {}", uploaded.text());
    c.engine
        .order("POST", &format!("/containers/{NAME}/start"), &[204])?;
    c.greetings.wait_until(
        "its process greets",
        "points",
        Duration::from_secs(30),
        |all| all.len() > lives,
    )?;
    Ok(())
}

pub(super) fn server_killed_at_every_request_of_a_life(c: &Counterparts) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let before = left(c)?;
    let base = c.registry.reference(&c.assets.images()?.runtime);
    c.engine.build_script(IMAGE, &base, SCRIPT)?;
    let gate = gate(c)?;
    behind(c, &gate)?;
    gate.count_anew();
    whole_life(c)?;
    let changes = gate.changes();
    ensure!(changes.len() >= 5, "a life has only {changes:?}");
    let begun = Instant::now();
    let mut points = 0;
    for request in 1..=changes.len() {
        for moment in [Moment::Before, Moment::After] {
            let point = FaultPoint { request, moment };
            steps.time(&format!("{moment:?} {}", changes[request - 1]), || {
                at_point(c, &gate, point, &before)
                    .with_context(|| format!("{point:?}: {}", changes[request - 1]))
            })?;
            points += 1;
        }
    }
    never_two(&c.greetings, PACKAGE)?;
    c.table.add(Row {
        chapter: Chapter::Outage,
        fault: "Peitho killed before and after each request that changes something in the life of a container",
        said: format!("{points} points, after each of which the peer's next launch works; for all of them"),
        after: Some(begun.elapsed()),
        left: "nothing".to_owned(),
        next: "it runs",
    });
    c.configure_as_before()?;
    Ok(Some(steps))
}

fn at_point(
    c: &Counterparts,
    gate: &Gate,
    point: FaultPoint,
    before: &crate::faults::Left,
) -> Result<()> {
    let pid = c.with_peitho(|peitho| Ok(peitho.process().pid()))?;
    gate.kill_at(point, pid);
    // Its answer is that the connection breaks, or even none.
    let broken = whole_life(c);
    ensure!(gate.has_struck(), "the server was not killed: {broken:?}");
    ensure!(broken.is_err(), "the server was killed, and nobody noticed");
    gate.count_anew();
    c.with_peitho(|peitho| peitho.restart(&c.run))?;
    launch(c).context("the next launch")?;
    let pods = c.objects("pods", "chaincode")?;
    let ours = pods.len().saturating_sub(before.pods.len());
    ensure!(
        ours == 1,
        "after the next launch there are {pods:?}, before all {before:?}"
    );
    c.engine
        .order("DELETE", &format!("/containers/{NAME}?force=1"), &[204])?;
    settled(c, before).map(drop)
}

/// How long a look-up in a registry may take.
const LOOK_UP: Duration = Duration::from_secs(10);

/// A registry that takes connections and says nothing: nodes have the images, so nothing depends on it.
pub(super) fn registry_silent(c: &Counterparts) -> Result<Option<Steps>> {
    while_copying(c, || install_with_a_silent_registry(c)).map(|()| None)
}

fn install_with_a_silent_registry(c: &Counterparts) -> Result<()> {
    // What was learned of it is forgotten.
    c.configure_as_before()?;
    let package = Chaincode::copied(Compile::Copies)
        .label("f_registry_silent")
        .version("registry silent")
        .package(&c.assets)?;
    c.registry.process().pause()?;
    let begun = Instant::now();
    let installed = c.with_fabric(|fabric| Ok(fabric.install(PEER, &package)?));
    let after = begun.elapsed();
    c.registry.process().resume()?;
    installed.context("the install")?;
    // The builder and the base, each looked up once, and what an install takes.
    let limit = 2 * LOOK_UP + SOON;
    ensure!(
        after <= limit,
        "the install took {after:?}: the limit is {limit:?}"
    );
    no_compile(c)?;
    c.table.add(Row {
        chapter: Chapter::Outage,
        fault: "registry silent",
        said: "nothing: the node has the images, and the install waits no more than 10 s a look-up"
            .to_owned(),
        after: Some(after),
        left: "nothing".to_owned(),
        next: "it is installed",
    });
    Ok(())
}
