//! What a launch costs over a bare pod of the same spec: from the first request of a peer to a process that runs, in both modes of
//! images. The process itself says that it runs, by a connection: the kubelet tells it later, and in whole seconds.

use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::engine::{Engine, build_context, tar};
use testbed::peitho::{CHAINCODE_NAMESPACE, ENGINE, Peitho};
use testbed::{Assets, Cluster, Gate, HOST_ADDRESS, Registry, Run};

use super::builds;
use super::launches::{launch, tls_files};
use super::meter::Meter;
use super::report::Report;

/// Pairs of launches that are measured, after one that is not: the first on a node may pull.
const LAUNCHES: usize = 7;

/// The volume of a launch's keys.
const KEYS: &str = "files";

/// How long a pod may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is on the machine.
pub(super) struct Ground<'a> {
    pub(super) assets: &'a Assets,
    pub(super) run: &'a Run,
    pub(super) registry: &'a Registry,
    pub(super) cluster: &'a Cluster,
}

/// How the image comes to the pod.
#[derive(Clone, Copy)]
enum Mode {
    Delivery,
    Registry,
}

/// Measures both modes; leaves the server in the last one.
pub(super) fn measure(ground: &Ground<'_>, peitho: &mut Peitho, report: &mut Report) -> Result<()> {
    let processes = Processes::listen()?;
    let kubeconfig = ground.cluster.kubeconfig();
    // The API server by plain HTTP: a `kubectl` for each pod would cost more than what is measured.
    let gate = Gate::start(ground.run, ground.cluster, &kubeconfig)?;
    let server = Engine::new(gate.address());
    let config = peitho.config()?;
    let delivery = (config["listen"]["delivery"].as_str()).context("no listen.delivery")?;
    let port = delivery.rsplit_once(':').context("no port")?.1;
    let meter = Meter::start(format!("{HOST_ADDRESS}:{port}").parse()?)?;
    for mode in [Mode::Delivery, Mode::Registry] {
        peitho.reconfigure(ground.run, &configured(&config, mode, ground, &meter))?;
        let bench = Bench {
            mode,
            cluster: ground.cluster,
            processes: &processes,
            meter: &meter,
            engine: Engine::new(ENGINE.parse()?),
            server: &server,
        };
        bench.build(ground)?;
        bench.measure(report)?;
    }
    Ok(())
}

fn configured(config: &Value, mode: Mode, ground: &Ground<'_>, meter: &Meter) -> Value {
    let mut config = config.clone();
    match mode {
        Mode::Delivery => {
            config["delivery"]["address"] = json!(format!("https://{}", meter.address()));
        }
        Mode::Registry => {
            config["images"]["mode"] = json!("registry");
            let address = ground.registry.address().to_string();
            // The same as where bases come from, which has to be told once.
            config["images"]["registries"] = json!([]);
            config["images"]["registry"] =
                json!({"address": address, "project": "bench", "scheme": "http"});
        }
    }
    config
}

struct Bench<'a> {
    mode: Mode,
    cluster: &'a Cluster,
    processes: &'a Processes,
    meter: &'a Meter,
    engine: Engine,
    server: &'a Engine,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Registry => "registry",
        }
    }

    fn budget(self) -> &'static str {
        match self {
            Self::Delivery => "<= 0.9",
            Self::Registry => "<= 0.1",
        }
    }
}

impl Bench<'_> {
    fn image(&self) -> String {
        format!("bench-pod-{}", self.mode.name())
    }

    /// A script that says that it runs, beside an ordinary program: a layer of its size.
    fn build(&self, ground: &Ground<'_>) -> Result<()> {
        let script = format!("#!/bin/sh\n{}", self.processes.script());
        let program = builds::program(ground.assets)?;
        let package = tar(&[
            ("chaincode", 0o755, script.as_bytes()),
            ("program", 0o755, &program),
        ])?;
        let base = ground.registry.reference(&ground.assets.images()?.runtime);
        self.engine
            .build(&self.image(), &build_context(&base, &package)?)
    }

    fn measure(&self, report: &mut Report) -> Result<()> {
        let files = tls_files()?;
        let (mut over, mut moved) = (Vec::new(), Vec::new());
        for number in 0..=LAUNCHES {
            let before = self.meter.passed();
            let name = format!("bench-{}-{number}", self.mode.name());
            let (ours, spec) = self.launch(&name, &files)?;
            let passed = self.meter.passed() - before;
            // Beside a process that only sleeps.
            let bare = self.bare(number, spec)?;
            let remove = format!("/containers/{name}?force=1");
            self.engine.order("DELETE", &remove, &[204])?;
            if number > 0 {
                over.push(ours - bare);
                moved.push(passed as f64 / self.layer()?);
            }
        }
        let figure = format!("launch_over_bare_pod_{}_s", self.mode.name());
        report.series(&figure, over, " s", self.mode.budget());
        match self.mode {
            Mode::Delivery => report.series("launch_bytes_over_layer", moved, "", "<= 1.05"),
            Mode::Registry => ensure!(moved.iter().all(|it| *it == 0.0), "the layer was delivered"),
        }
        Ok(())
    }

    /// Bytes of the layer as it is stored.
    fn layer(&self) -> Result<f64> {
        let path = format!("/images/{}/json", self.image());
        let told = self.engine.send("GET", &path, "plain/text", b"")?.json()?;
        told["Size"].as_f64().context("an image without a size")
    }

    /// Seconds of a launch as a peer orders it, and the spec of its pod.
    fn launch(&self, name: &str, files: &[u8]) -> Result<(f64, Value)> {
        let begun = Instant::now();
        launch(&self.engine, name, &self.image(), files)?;
        let seconds = self.processes.next()?.duration_since(begun).as_secs_f64();
        let pods = self.cluster.kubectl(&[
            "get",
            "pods",
            "--namespace",
            CHAINCODE_NAMESPACE,
            "--output=json",
        ])?;
        let pods: Value = serde_json::from_str(&pods)?;
        let pods = pods["items"].as_array().context("no list of pods")?;
        ensure!(pods.len() == 1, "{} pods run", pods.len());
        Ok((seconds, pods[0]["spec"].clone()))
    }

    /// Seconds of a pod with the one container of `spec` and its keys: nothing is brought into it.
    fn bare(&self, number: usize, spec: Value) -> Result<f64> {
        let name = format!("bench-bare-{}-{number}", self.mode.name());
        let spec = self.bare_spec(&name, spec)?;
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        let path = format!("/api/v1/namespaces/{CHAINCODE_NAMESPACE}/pods");
        let begun = Instant::now();
        let body = pod.to_string();
        let made = (self.server).send("POST", &path, "application/json", body.as_bytes())?;
        ensure!(made.status == 201, "{} {}", made.status, made.text());
        let seconds = self.processes.next()?.duration_since(begun).as_secs_f64();
        let kinds = format!("pod/{name},secret/{name}");
        let kinds: Vec<_> = kinds.split(',').collect();
        let delete = [
            "delete",
            "--namespace",
            CHAINCODE_NAMESPACE,
            "--grace-period=1",
        ];
        self.cluster.kubectl(&[&delete[..], &kinds].concat())?;
        Ok(seconds)
    }

    /// Without what is Peitho's. The keys stay, in a Secret of its own that the kubelet has not seen: a volume costs a pod a third of a
    /// second, whatever is in it.
    fn bare_spec(&self, name: &str, mut spec: Value) -> Result<Value> {
        let fields = spec.as_object_mut().context("no spec")?;
        for field in ["initContainers", "nodeName"] {
            fields.remove(field);
        }
        let volumes = spec["volumes"].as_array().context("no volumes")?;
        let keys = volumes.iter().find(|volume| volume["name"] == KEYS);
        let mut keys = keys.context("the pod has no keys")?.clone();
        let secret = &keys["secret"]["secretName"];
        let secret = secret.as_str().context("the keys are not in a Secret")?;
        let get = ["get", "secret", secret, "--namespace", CHAINCODE_NAMESPACE];
        let secret = self
            .cluster
            .kubectl(&[&get[..], &["--output=json"]].concat())?;
        let data = &serde_json::from_str::<Value>(&secret)?["data"];
        let copy =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
        let create = ["create", "--filename=-", "--namespace", CHAINCODE_NAMESPACE];
        self.cluster.kubectl_stdin(&create, &copy.to_string())?;
        keys["secret"]["secretName"] = json!(name);
        spec["volumes"] = json!([keys]);
        let container = &mut spec["containers"][0];
        container["volumeMounts"]
            .as_array_mut()
            .context("no mounts")?
            .retain(|mount| mount["name"] == KEYS);
        container["command"] = json!(["/bin/sh", "-c", self.processes.script()]);
        container["args"] = json!([]);
        Ok(spec)
    }
}

/// The processes that say that they run.
struct Processes {
    port: u16,
    heard: Receiver<Instant>,
}

impl Processes {
    fn listen() -> Result<Self> {
        let listener = TcpListener::bind((HOST_ADDRESS, 0))?;
        let port = listener.local_addr()?.port();
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            for _connection in listener.incoming().flatten() {
                if tell.send(Instant::now()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { port, heard })
    }

    /// Says that it runs, and goes on until it is ended.
    fn script(&self) -> String {
        let port = self.port;
        format!("nc {HOST_ADDRESS} {port} </dev/null\nexec sleep 1000\n")
    }

    /// When the next one began.
    fn next(&self) -> Result<Instant> {
        self.heard
            .recv_timeout(PATIENCE)
            .context("no process in the pod says that it runs")
    }
}
