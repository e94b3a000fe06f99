//! What stays when a peer or Peitho itself goes away in the middle of something, that its next try works without a hand on
//! Kubernetes (ADR 0006), and what several peers do at once.

use std::collections::BTreeSet;
use std::io::{BufReader, ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::peitho::{ABANDONED_AFTER, CHAINCODE_NAMESPACE};
use testbed::{Chaincode, Definition, Fabric, Network, PackageId, Steps, wait};

use super::launch_faults::{no_quota, quota};
use crate::faults::{Chapter, Row};
use crate::world::{Counterparts, PEER, REFERENCE};

/// Beyond the grace: removal of a pod, and a machine that is busy.
const LATE: Duration = Duration::from_secs(10);

/// For a compile pod to run.
const RUNS: Duration = Duration::from_secs(60);

/// The chaincode of the peer that is killed.
const NAME: &str = "gone";

/// Waits until a compile pod runs; gives its UID.
fn compile_runs(c: &Counterparts) -> Result<String> {
    wait::until("a compile pod runs", RUNS, None, || {
        let uid = kubectl(
            c,
            "pods",
            "compile",
            "jsonpath={.items[?(@.status.phase==\"Running\")].metadata.uid}",
        )?;
        Ok(Some(uid).filter(|uid| !uid.is_empty()))
    })
}

fn kubectl(c: &Counterparts, kind: &str, component: &str, output: &str) -> Result<String> {
    let selector =
        format!("app.kubernetes.io/managed-by=peitho,app.kubernetes.io/component={component}");
    let get = ["get", kind, "--namespace", CHAINCODE_NAMESPACE];
    let with = ["--selector", &selector, "--output", output];
    c.cluster.kubectl(&[&get[..], &with].concat())
}

/// Waits until nothing of any compile is left.
fn no_compile_left(c: &Counterparts, within: Duration) -> Result<()> {
    wait::until("no pod and no secret of a compile", within, None, || {
        let left = kubectl(c, "pods,secrets", "compile", "name")?;
        Ok(left.trim().is_empty().then_some(()))
    })
}

/// Files with something in them that wait in the store.
fn uploads(c: &Counterparts) -> Result<usize> {
    let entries = std::fs::read_dir(c.run.data().join("peitho-store/ingest"))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(|metadata| metadata.len() > 0)
        .count())
}

fn log(c: &Counterparts) -> Result<String> {
    c.with_peitho(|peitho| Ok(peitho.process().log()))
}

/// Starts a builder that does not end by itself.
fn endless_compile(c: &Counterparts) -> Result<String> {
    let image = c.registry.reference(&c.assets.images()?.copybuilder);
    let id = c.engine.create(
        None,
        &json!({"Cmd": ["/bin/sh", "-c", "echo begun; exec sleep 1000"], "Image": image}),
    )?;
    let source = testbed::engine::tar(&[("source", 0o100_644, b"anything")])?;
    c.engine.upload(&id, "%2Fchaincode%2Finput", &source)?;
    c.engine
        .order("POST", &format!("/containers/{id}/start"), &[204])?;
    Ok(id)
}

pub(super) fn gone_client_ends_its_compile(c: &Counterparts) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let before = uploads(c)?;
    let id = endless_compile(c)?;
    // Attached as fsouza's client is: its FIN says nothing, and only `wait` counts.
    let attached = c.engine.attach(&id, "")?;
    attached.get_ref().shutdown(Shutdown::Write)?;
    let path = format!("/containers/{id}/wait");
    let waiting = c.engine.open("POST", &path, "plain/text", b"")?;
    compile_runs(c)?;
    drop(waiting);
    steps.time("client gone to nothing left", || {
        no_compile_left(c, ABANDONED_AFTER + LATE)
    })?;
    let time = steps.get("client gone to nothing left").unwrap_or_default();
    ensure!(
        time + Duration::from_secs(1) > ABANDONED_AFTER,
        "the compile got no grace: it ended after {time:?}"
    );
    ensure!(uploads(c)? == before, "the input is still in the store");
    c.engine.order("POST", &path, &[404])?;
    Ok(Some(steps))
}

pub(super) fn gone_peer_during_compile_and_during_life(c: &Counterparts) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let package = Chaincode::basic()
        .label("gone_1")
        .version("gone 1")
        .uncached()
        .package(&c.assets)?;
    // A compile that finds what an earlier one kept may be over before the peer is.
    c.reconfigure(|config| config["compile"]["cache"] = json!({"enabled": false}))?;
    c.with_fabric(|fabric| {
        thread::scope(|scope| {
            let install = scope.spawn(|| fabric.install(PEER, &package));
            compile_runs(c)?;
            fabric.kill_peer(PEER)?;
            let told = install.join().ok().context("the install panicked")?;
            ensure!(told.is_err(), "an install succeeded whose peer was killed");
            steps.time("peer killed to nothing left", || {
                no_compile_left(c, ABANDONED_AFTER + LATE)
            })
        })?;
        c.table.add(Row {
            chapter: Chapter::Install,
            fault: "peer killed during its install",
            said: "nothing: there is nobody; the compile ends when nobody has waited for it for `compile.abandonedAfterSeconds`, here 10".to_owned(),
            after: steps.get("peer killed to nothing left"),
            left: "nothing".to_owned(),
            next: "the peer compiles at its start, or at the next install",
        });
        ensure!(
            log(c)?.contains("nobody waited for it for"),
            "the log does not say why the compile ended"
        );
        steps.time("start peer", || fabric.start_peer(PEER))?;
        let definition = Definition::new(NAME, "1", 1);
        let id = steps.time("install again", || install_again(fabric, &package))?;
        fabric.approve(PEER, &definition, &id)?;
        fabric.commit(PEER, &definition)?;
        fabric.invoke(PEER, NAME, &["Put", "key", "kept"])?;
        peer_killed_while_chaincode_runs(c, fabric, &mut steps)
    })?;
    c.configure_as_before()?;
    Ok(Some(steps))
}

/// The package was stored before it was compiled: a peer that starts compiles it by itself, and an install that comes
/// meanwhile waits for that, to be told that there was nothing to do.
fn install_again(fabric: &Fabric, package: &Path) -> Result<PackageId> {
    match fabric.install(PEER, package) {
        Err(told) if told.says("chaincode already successfully installed") => {
            let installed = fabric.query_installed(PEER)?;
            let id = installed
                .into_iter()
                .find(|id| id.as_str().starts_with("gone_1:"));
            id.context("the peer has the package and does not list it")
        }
        id => Ok(id?),
    }
}

/// UIDs of the pods of [`NAME`].
fn pods(c: &Counterparts) -> Result<BTreeSet<String>> {
    let list: Value = serde_json::from_str(&kubectl(c, "pods", "chaincode", "json")?)?;
    let items = list["items"].as_array().context("no list")?;
    let of_name = |pod: &&Value| {
        pod["metadata"]["annotations"]["peitho.dev/package-id"]
            .as_str()
            .is_some_and(|id| id.starts_with("gone_1:"))
    };
    let uid = |pod: &Value| pod["metadata"]["uid"].as_str().map(str::to_owned);
    items
        .iter()
        .filter(of_name)
        .map(uid)
        .collect::<Option<_>>()
        .context("no UID")
}

fn peer_killed_while_chaincode_runs(
    c: &Counterparts,
    fabric: &Fabric,
    steps: &mut Steps,
) -> Result<()> {
    let before = pods(c)?;
    ensure!(before.len() == 1, "pods before: {before:?}");
    fabric.kill_peer(PEER)?;
    c.greetings.wait_until(
        "the process ends with its peer's connection",
        "gone_1",
        Duration::from_secs(30),
        |all| all.iter().all(|one| one.ended.is_some()),
    )?;
    ensure!(
        pods(c)? == before,
        "Peitho touched the pod of a peer that is gone"
    );
    fabric.start_peer(PEER)?;
    let value = steps.time("first query after the kill", || {
        fabric.query(PEER, NAME, &["Get", "key"])
    })?;
    ensure!(value == "kept", "Get answered {value:?}");
    let after = pods(c)?;
    ensure!(after.len() == 1, "pods after: {after:?}");
    c.greetings.wait_until(
        "one process lives",
        "gone_1",
        Duration::from_secs(30),
        |all| all.iter().filter(|one| one.ended.is_none()).count() == 1,
    )?;
    Ok(())
}

pub(super) fn gone_server_leaves_no_compile_that_nobody_asks_for(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let id = endless_compile(c)?;
    let path = format!("/containers/{id}/wait");
    let waiting = c.engine.open("POST", &path, "plain/text", b"")?;
    compile_runs(c)?;
    c.with_peitho(|peitho| {
        peitho.process().kill_hard()?;
        peitho.restart(&c.run)
    })?;
    drop(waiting);
    steps.time("restart to nothing left", || {
        no_compile_left(c, Duration::from_secs(15) + LATE)
    })?;
    c.table.add(Row {
        chapter: Chapter::Install,
        fault: "Peitho killed during a compile, and nobody asks again",
        said: "the install fails, its connection breaks; after the restart the compile's pod goes"
            .to_owned(),
        after: steps.get("restart to nothing left"),
        left: "nothing".to_owned(),
        next: "an install compiles",
    });
    ensure!(
        log(c)?.contains("an earlier process left it"),
        "the log does not say what was removed"
    );
    Ok(Some(steps))
}

pub(super) fn gone_server_during_compile_and_the_next_install_joins(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let package = Chaincode::basic()
        .label("gone_2")
        .version("gone 2")
        .uncached()
        .package(&c.assets)?;
    c.with_fabric(|fabric| {
        let before = thread::scope(|scope| {
            let install = scope.spawn(|| fabric.install(PEER, &package));
            compile_runs(c)?;
            let pods = compile_pods_ever(c)?;
            c.with_peitho(|peitho| {
                peitho.process().kill_hard()?;
                steps.time("restart", || peitho.restart(&c.run))
            })?;
            let told = install.join().ok().context("the install panicked")?;
            ensure!(
                told.is_err(),
                "an install succeeded whose server was killed"
            );
            Ok(pods)
        })?;
        steps.time("install again", || fabric.install(PEER, &package))?;
        let after = compile_pods_ever(c)?;
        c.table.add(Row {
            chapter: Chapter::Install,
            fault: "Peitho killed during a compile",
            said: "the install fails, its connection breaks; Peitho is ready again".to_owned(),
            after: steps.get("restart"),
            left: "nothing twice: the compile goes on".to_owned(),
            next: "the next install joins the compile that runs",
        });
        ensure!(
            after == before,
            "the next install did not join the pod that ran: {before:?}, then {after:?}"
        );
        Ok(())
    })?;
    no_compile_left(c, LATE)?;
    Ok(Some(steps))
}

/// The UIDs of all compile pods that ever were, by their events.
fn compile_pods_ever(c: &Counterparts) -> Result<BTreeSet<String>> {
    let events = c.cluster.kubectl(&[
        "get",
        "events",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "--field-selector",
        "involvedObject.kind=Pod,reason=Scheduled",
        "--output",
        "jsonpath={range .items[*]}{.involvedObject.name} {.involvedObject.uid}{\"\\n\"}{end}",
    ])?;
    let compiles = events.lines().filter(|line| line.starts_with("compile-"));
    Ok(compiles.map(str::to_owned).collect())
}

/// How many compiles the server's log says to have found under way.
fn joined_runs(c: &Counterparts) -> Result<usize> {
    Ok(log(c)?
        .matches("compile: joins the run that goes on")
        .count())
}

/// In a network of its own, in which no peer has anything to build anew when its engine changes.
pub(super) fn two_peers_at_once_share_a_compile_and_do_not_share_two(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    c.new_fabric(Network::V2_1, &format!("tcp://{}", c.proxy.address))?;
    let package = |label: &str| {
        Chaincode::basic()
            .label(label)
            .version(label)
            .package(&c.assets)
    };
    let (shared, other) = (package("shared_1")?, package("other_1")?);
    let endpoint = c.with_peitho(|peitho| Ok(peitho.endpoint()))?;
    c.with_fabric(|fabric| {
        fabric.set_vm_endpoint(REFERENCE, &endpoint)?;
        let before = compile_pods_ever(c)?;
        let joined = joined_runs(c)?;
        let orders = [(REFERENCE, &shared), (PEER, &shared), (PEER, &other)];
        steps.time("three installs of two packages", || {
            thread::scope(|scope| {
                let installs = orders
                    .map(|(peer, package)| scope.spawn(move || fabric.install(peer, package)));
                for install in installs {
                    install.join().ok().context("an install panicked")??;
                }
                anyhow::Ok(())
            })
        })?;
        let after = compile_pods_ever(c)?;
        let made: Vec<_> = after.difference(&before).collect();
        ensure!(made.len() == 2, "compile pods of two packages: {made:?}");
        let joined = joined_runs(c)? - joined;
        ensure!(joined == 1, "{joined} installs joined a compile that ran");
        for (peer, packages) in [(REFERENCE, 1), (PEER, 2)] {
            let installed = fabric.query_installed(peer)?;
            ensure!(installed.len() == packages, "peer {peer} has {installed:?}");
        }
        Ok(())
    })?;
    no_compile_left(c, LATE)?;
    Ok(Some(steps))
}

/// Nothing comes and nothing ends for a moment.
fn ensure_open(attached: &mut BufReader<TcpStream>) -> Result<()> {
    let usual = attached.get_ref().read_timeout()?;
    attached
        .get_ref()
        .set_read_timeout(Some(Duration::from_millis(500)))?;
    let read = attached.read(&mut [0; 1]);
    attached.get_ref().set_read_timeout(usual)?;
    match read {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        read => bail!("attach before the start: {read:?}"),
    }
}

/// Protocol rule 10, for chaincode: who attached before a start that the cluster refuses is not left waiting.
pub(super) fn refused_start_of_chaincode_ends_attach(c: &Counterparts) -> Result<Option<Steps>> {
    let (name, image) = ("test-refused", "test-refused-image");
    let base = c.registry.reference(&c.assets.images()?.runtime);
    c.engine.build_script(image, &base, "#!/bin/sh\nexit 0\n")?;
    quota(c)?;
    let mut steps = Steps::new();
    let body = testbed::engine::chaincode_body(image, "refused:1");
    let result = (|| {
        c.engine.create(Some(name), &body)?;
        let mut attached = c.engine.attach(name, "/v1.44")?;
        ensure_open(&mut attached)?;
        let start = format!("/containers/{name}/start");
        let refused = c.engine.post(&start)?;
        steps.time("refusal to the end of attach", || {
            attached.read_to_end(&mut Vec::new())
        })?;
        // Who comes late is not left waiting either.
        c.engine
            .attach(name, "/v1.44")?
            .read_to_end(&mut Vec::new())?;
        let waited = c.engine.post(&format!("/containers/{name}/wait"))?;
        // Attached, and removed without a start.
        c.engine
            .order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
        c.engine.create(Some(name), &body)?;
        let mut attached = c.engine.attach(name, "/v1.44")?;
        ensure_open(&mut attached)?;
        c.engine
            .order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
        steps.time("removal to the end of attach", || {
            attached.read_to_end(&mut Vec::new())
        })?;
        anyhow::Ok([refused, waited])
    })();
    no_quota(c)?;
    for answer in result? {
        ensure!(
            answer.status == 500 && answer.text().contains("exceeded quota"),
            "{} {}",
            answer.status,
            answer.text()
        );
    }
    for step in [
        "refusal to the end of attach",
        "removal to the end of attach",
    ] {
        let time = steps.get(step).unwrap_or_default();
        ensure!(time < Duration::from_secs(5), "{step} took {time:?}");
    }
    Ok(Some(steps))
}
