//! Pods that are made ahead of need (`compile.warmPods`): which compile gets one, what becomes of it, and that nothing but time is lost when one is
//! gone, silent, or left by a Peitho that was killed. Each case has a Peitho of its own; small scripts take the place of compilers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use peitho::compile::{End, Request, Run};
use peitho::config::{PodTemplate, Quantities};
use peitho::names::{Digest, Tenant};
use peitho::store::RefKind;
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::wait;

use crate::Case;
use crate::conformance::Subject as _;
use crate::pods::{Pods, Setting};
use crate::warmth::request;
use crate::world::{Counterparts, images};

mod hand_over;
mod room;

pub(crate) const ALL: &[(&str, Case)] = &[
    (
        "a pod made ahead of need serves one compile, and another takes its place",
        serves_one,
    ),
    (
        "a pod made ahead of need serves no compile that it was not made for",
        serves_its_own,
    ),
    (
        "pods made ahead of need that are gone or silent cost a compile no more than none",
        gone_and_silent,
    ),
    (
        "what was made ahead of need by a killed Peitho is joined or removed",
        killed,
    ),
    (
        "a pod made ahead of need whose compile is being told when Peitho is killed is that compile's",
        hand_over::killed,
    ),
    (
        "a pod made ahead of need that stays silent when Peitho is killed is not waited for by the next one",
        hand_over::killed_and_silent,
    ),
    (
        "a pod made ahead of need that is deleted under a compile costs it no more than none",
        hand_over::deleted,
    ),
    (
        "a pod made ahead of need makes way for a compile of another kind, where a quota has room for one",
        room::of_a_quota,
    ),
    (
        "a pod made ahead of need makes way for a compile of another kind, where nodes have room for one",
        room::of_nodes,
    ),
];

/// Longer than a pod takes on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// Prints the pod's name, and what the compile before it kept.
const SCRIPT: &str = "hostname; cat $XDG_CACHE_HOME/kept 2>/dev/null; mkdir -p $XDG_CACHE_HOME && echo NAME >>$XDG_CACHE_HOME/kept; exit 3";

/// One Peitho. Dropped, it is as if it had been killed: none of its tasks goes on.
pub(crate) struct Peitho {
    tokio: tokio::runtime::Runtime,
    pods: Pods,
}

impl Peitho {
    fn start(c: &Counterparts, instance: &str, warm: (usize, Duration), port: u16) -> Result<Self> {
        Self::with(c, instance, |setting| {
            (setting.warm, setting.port) = (warm, port);
        })
    }

    pub(crate) fn with(
        c: &Counterparts,
        instance: &str,
        change: impl FnOnce(&mut Setting),
    ) -> Result<Self> {
        let tokio = tokio::runtime::Runtime::new()?;
        let mut setting = Setting {
            kubeconfig: c.kubeconfig.clone(),
            base: c.base.clone(),
            images: images(&c.registry, &c.closed),
            agent_image: c.build.image.clone(),
            namespace: CHAINCODE_NAMESPACE.to_owned(),
            requests: Quantities::default(),
            template: PodTemplate::default(),
            directory: c.run.data().join(instance),
            instance: instance.parse()?,
            warm: (1, LONG),
            port: 0,
        };
        change(&mut setting);
        let pods = tokio.block_on(Pods::start(setting))?;
        Ok(Self { tokio, pods })
    }

    fn kill(self) -> u16 {
        let port = self.pods.port();
        self.tokio.shutdown_timeout(LONG);
        port
    }

    /// As at each start: what an earlier process left goes.
    fn collect(&self) {
        let _inside = self.tokio.enter();
        self.pods.compiles().collect();
    }

    /// Stops it as a signal does: what it made ahead of need goes with it.
    pub(crate) fn end(self, c: &Counterparts, instance: &str) -> Result<()> {
        let spares = self.pods.spares();
        spares.close();
        self.tokio.block_on(spares.gone());
        nothing_left(c, instance)
    }

    pub(crate) fn order(&self, request: Request) -> Result<Run> {
        Ok(self.tokio.block_on(self.pods.compiles().run(request))?)
    }

    /// What a compile of `request` prints, by lines. It fails, so that it is never served from the store.
    fn compile(&self, request: Request) -> Result<Vec<String>> {
        let run = self.order(request)?;
        self.told(run)
    }

    fn told(&self, run: Run) -> Result<Vec<String>> {
        let (log, end) = self.ended(run)?;
        let exited = End::Exited {
            code: 3,
            output: None,
        };
        ensure!(end == Some(exited), "{end:?}, after\n{log}");
        Ok(log.lines().map(str::to_owned).collect())
    }

    /// What is printed, and how it ends.
    pub(crate) fn ended(&self, run: Run) -> Result<(String, Option<End>)> {
        let told = async {
            let (mut reader, mut log) = (run.log.reader(), Vec::new());
            while let Some(bytes) = reader.next().await? {
                log.extend_from_slice(&bytes);
            }
            let mut end = run.end.clone();
            let end = end.wait_for(Option::is_some).await?.clone();
            anyhow::Ok((String::from_utf8(log)?, end))
        };
        let told = self
            .tokio
            .block_on(async { tokio::time::timeout(LONG, told).await });
        told.context("a compile takes too long")?
    }

    /// Waits until so many wait for a compile.
    fn waiting(&self, number: usize) -> Result<()> {
        let what = format!("{number} pods wait for a compile");
        wait::until(&what, LONG, None, || {
            Ok((self.pods.spares().counts().waiting == number).then_some(()))
        })
    }

    pub(crate) fn request(&self, name: &str) -> Request {
        self.script(&SCRIPT.replace("NAME", name))
    }

    pub(crate) fn script(&self, script: &str) -> Request {
        request(self.pods.image(), script)
    }
}

fn kubectl(c: &Counterparts, arguments: &[&str]) -> Result<String> {
    let place = ["--namespace", CHAINCODE_NAMESPACE];
    c.cluster.kubectl(&[&place, arguments].concat())
}

/// Names of pods and Secrets of the compiles of `instance`.
fn objects(c: &Counterparts, instance: &str) -> Result<Vec<String>> {
    let of = format!("app.kubernetes.io/instance={instance},app.kubernetes.io/component=compile");
    let get = ["get", "pods,secrets", "--selector", &of, "--output=name"];
    Ok(kubectl(c, &get)?.lines().map(str::to_owned).collect())
}

fn nothing_left(c: &Counterparts, instance: &str) -> Result<()> {
    let what = format!("nothing is left of the compiles of {instance}");
    wait::until(&what, LONG, None, || {
        Ok(objects(c, instance)?.is_empty().then_some(()))
    })
}

/// The pod that waits, of which there is one.
fn only_pod(c: &Counterparts, instance: &str) -> Result<String> {
    let objects = objects(c, instance)?;
    let mut pods = objects.iter().filter_map(|it| it.strip_prefix("pod/"));
    let pod = pods.next().context("no pod waits")?.to_owned();
    ensure!(pods.next().is_none(), "{objects:?}");
    Ok(pod)
}

fn is_spare(pod: &str) -> bool {
    pod.starts_with("compile-spare-")
}

fn serves_one(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "spares-one";
    let peitho = Peitho::start(c, INSTANCE, (1, Duration::from_secs(20)), 0)?;
    let first = peitho.compile(peitho.request("one"))?;
    ensure!(first.len() == 1 && !is_spare(&first[0]), "{first:?}");
    peitho.waiting(1)?;
    let waiting = only_pod(c, INSTANCE)?;
    let second = peitho.compile(peitho.request("two"))?;
    ensure!(
        second == [waiting.as_str(), "one"],
        "{second:?}, not {waiting}"
    );
    peitho.waiting(1)?;
    // Wiped meanwhile: what it fetched is not what it is to have.
    let next = only_pod(c, INSTANCE)?;
    ensure!(next != waiting);
    let (store, tenant) = (peitho.pods.store(), Tenant::default_tenant());
    peitho.tokio.block_on(async {
        for name in store.list_refs(RefKind::Cache, &tenant).await? {
            store.remove_ref(RefKind::Cache, &tenant, &name).await?;
        }
        anyhow::Ok(())
    })?;
    let third = peitho.compile(peitho.request("three"))?;
    ensure!(third == [next.as_str()], "{third:?}, not {next}");
    peitho.waiting(1)?;
    // It waits for no longer than it is to.
    nothing_left(c, INSTANCE)?;
    let counts = peitho.pods.spares().counts();
    ensure!((counts.taken, counts.missed) == (2, 1), "{counts:?}");
    Ok(())
}

fn serves_its_own(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "spares-own";
    let peitho = Peitho::start(c, INSTANCE, (3, LONG), 0)?;
    peitho.compile(peitho.request("own"))?;
    peitho.waiting(1)?;
    let others: [fn(&mut Request); 5] = [
        |it| it.tenant = "another".parse().expect("a name"),
        |it| it.builder = Some(Digest::of(b"another builder")),
        |it| it.builder = None,
        |it| it.env = vec![("GOPROXY".to_owned(), "off".to_owned())],
        |it| it.working_dir = Some("/tmp".to_owned()),
    ];
    for (at, change) in others.into_iter().enumerate() {
        let mut request = peitho.request(&format!("other {at}"));
        change(&mut request);
        let told = peitho.compile(request.clone())?;
        ensure!(!is_spare(&told[0]), "{request:?} got {told:?}");
    }
    let counts = peitho.pods.spares().counts();
    ensure!(counts.taken == 0, "{counts:?}");
    // One for the tenant's last compile by a builder that is known, one for the other tenant's.
    let of = format!("app.kubernetes.io/instance={INSTANCE},peitho.dev/spare");
    let path = "--output=jsonpath={.items[*].spec.containers[?(@.name=='compile')].workingDir}";
    wait::until("a pod is made for the last compile", LONG, None, || {
        let found = kubectl(c, &["get", "pods", "--selector", &of, path])?;
        Ok((found == "/tmp").then_some(()))
    })?;
    peitho.waiting(2)?;
    let mut last = peitho.request("last");
    last.working_dir = Some("/tmp".to_owned());
    let told = peitho.compile(last)?;
    ensure!(is_spare(&told[0]), "{told:?}");
    peitho.end(c, INSTANCE)
}

fn gone_and_silent(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "spares-gone";
    let peitho = Peitho::start(c, INSTANCE, (1, LONG), 0)?;
    peitho.compile(peitho.request("one"))?;
    peitho.waiting(1)?;
    let waiting = only_pod(c, INSTANCE)?;
    kubectl(c, &["delete", "pod", &waiting, "--wait=false"])?;
    // Whether this hears of it first or not.
    let told = peitho.compile(peitho.request("two"))?;
    ensure!(told[1] == "one", "{told:?}");
    // Until this has heard, it is the deleted one that waits.
    wait::until(
        "another pod waits, and none else is there",
        LONG,
        None,
        || {
            Ok(only_pod(c, INSTANCE)
                .is_ok_and(|pod| is_spare(&pod) && pod != waiting)
                .then_some(()))
        },
    )?;
    peitho.waiting(1)?;
    let waiting = only_pod(c, INSTANCE)?;
    testbed::stop_process_with(&format!("HOSTNAME={waiting}"))?;
    let told = peitho.compile(peitho.request("three"))?;
    ensure!(
        !is_spare(&told[0]),
        "{told:?}, though {waiting} was stopped"
    );
    Ok(())
}

fn killed(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "spares-killed";
    let warm = (1, LONG);
    let peitho = Peitho::start(c, INSTANCE, warm, 0)?;
    peitho.compile(peitho.request("one"))?;
    peitho.waiting(1)?;
    let waiting = only_pod(c, INSTANCE)?;
    let script = "mkfifo $HOME/end; hostname; read end <$HOME/end; exit 3";
    let taken = peitho.order(peitho.script(script))?;
    let line = peitho
        .tokio
        .block_on(async { taken.log.reader().next().await })?;
    ensure!(
        line.as_deref() == Some(format!("{waiting}\n").as_bytes()),
        "{line:?}"
    );
    drop(taken);
    let port = peitho.kill();

    let peitho = Peitho::start(c, INSTANCE, warm, port)?;
    peitho.collect();
    let joined = peitho.order(peitho.script(script))?;
    let end = ["sh", "-c", "echo >/run/peitho/home/end"];
    kubectl(c, &[&["exec", waiting.as_str(), "--"], &end[..]].concat())?;
    let told = peitho.told(joined)?;
    ensure!(told == [waiting.as_str()], "{told:?}, not {waiting}");
    peitho.waiting(1)?;
    let left = only_pod(c, INSTANCE)?;
    ensure!(left != waiting);
    let port = peitho.kill();

    let peitho = Peitho::start(c, INSTANCE, (0, LONG), port)?;
    peitho.collect();
    nothing_left(c, INSTANCE)?;
    drop(peitho);
    Ok(())
}
