//! Owns Peitho as the thing under test: its program, its image, and a running one, on this machine or as a pod. Both ways use
//! the committed manifests, so that no test ever runs with a right that a user would not have.

mod machine;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::images::Images;
use crate::places::HOST_ADDRESS;
use crate::process::Process;
use crate::registry::Registry;
use crate::run::Run;
use crate::{http, program, progress, wait};

pub use machine::{Containers, Machine};

/// Namespace of Peitho itself in the committed manifests.
pub const NAMESPACE: &str = "peitho";
/// Namespace of the chaincode in the committed manifests.
pub const CHAINCODE_NAMESPACE: &str = "chaincode";
/// Where Peitho on this machine listens for peers.
pub const ENGINE: &str = "127.0.0.1:18080";
/// The Service's address in the cluster: fixed, since there is no DNS server.
pub const SERVICE_ADDRESS: &str = "10.96.0.80";

/// Stands in the address of the proxy that compiles are given, and must stand nowhere else.
pub const PROXY_PASSWORD: &str = "proxys-own-word";

const DELIVERY_PORT: u16 = 18081;
const ADMIN: &str = "127.0.0.1:19090";
const READY: Duration = Duration::from_secs(60);

/// How long Peitho on this machine lets a compile go on for which nobody waits: less than its users have, for tests wait for it.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(10);

/// The program and its image, built once per run.
#[derive(Clone, Debug)]
pub struct Build {
    /// The static program.
    pub program: PathBuf,
    /// Its image in the testbed's registry, by digest.
    pub image: String,
}

impl Build {
    /// Builds the program as `make build` does, makes its image and brings it onto the node.
    pub fn make(run: &Run, cluster: &Cluster, registry: &Registry) -> Result<Build> {
        let program = program()?;
        let directory = run.data().join("peitho-image");
        fs::create_dir_all(&directory)?;
        let image = Images::program("peitho:test", &program, &directory)?;
        let reference = registry.push(&image)?;
        cluster.pull(registry, &image)?;
        Ok(Build {
            program,
            image: reference,
        })
    }
}

/// Builds the static program by the project's own `make build`, unless `PEITHO_PROGRAM` names one: a debug build is made
/// quicker.
pub fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("PEITHO_PROGRAM") {
        return Ok(program.into());
    }
    let mut make = Command::new("make");
    make.args(["--silent", "build"]).current_dir(project());
    // What cargo tells the tests that it runs would make another build of the same program.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let is_cargos = name == "CARGO"
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_");
        if is_cargos {
            make.env_remove(name.as_ref());
        }
    }
    progress::step("building peitho", || program::output(&mut make))?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| project().join("target"), PathBuf::from);
    let program = target.join(format!(
        "{}-unknown-linux-gnu/release/peitho",
        std::env::consts::ARCH
    ));
    ensure!(
        program.is_file(),
        "make build made no {}",
        program.display()
    );
    Ok(program)
}

/// The root of the project: this crate is one of its folders.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the project")
}

/// How much the server logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// As its users have it.
    Info,
    /// Everything: tests look for keys in it.
    Trace,
}

impl Log {
    fn level(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Trace => "info,peitho=trace,kube=trace,hyper=debug,tower=debug,rustls=debug",
        }
    }
}

/// Applies namespaces, service account and Role; a kubeconfig with what these give and no more.
pub fn rights(cluster: &Cluster) -> Result<PathBuf> {
    for manifest in ["namespace.yaml", "serviceaccount.yaml", "role.yaml"] {
        let path = project().join("deploy").join(manifest);
        cluster.kubectl(&["apply", "-f", &path.to_string_lossy()])?;
    }
    cluster.kubeconfig_for(NAMESPACE, "peitho")
}

/// Peitho as a process of this machine, with the rights of the committed Role and no others.
#[derive(Debug)]
pub struct Peitho {
    process: Process,
    program: PathBuf,
    config: PathBuf,
}

impl Peitho {
    /// Applies namespaces, service account and Role, and starts the server on [`ENGINE`] with an empty store.
    pub fn start(
        run: &Run,
        cluster: &Cluster,
        registry: &Registry,
        build: &Build,
        log: Log,
    ) -> Result<Peitho> {
        let kubeconfig = rights(cluster)?;
        let store = store(run);
        let proxy = format!("http://nobody:{PROXY_PASSWORD}@127.0.0.1:9");
        let config = json!({
            "listen": {"engineApi": ENGINE, "delivery": format!("0.0.0.0:{DELIVERY_PORT}"), "admin": ADMIN},
            "store": {"directory": store},
            "images": {"registries": [{"host": registry.address().to_string(), "scheme": "http"}]},
            "delivery": {"address": format!("https://{HOST_ADDRESS}:{DELIVERY_PORT}")},
            "kubernetes": {"kubeconfig": kubeconfig, "namespace": CHAINCODE_NAMESPACE, "schedulingGraceSeconds": 3},
            "agent": {"image": build.image},
            "compile": {
                "abandonedAfterSeconds": ABANDONED_AFTER.as_secs(),
                "proxy": {"http": proxy, "https": proxy},
                "caBundle": cluster.authority(),
            },
            "chaincode": {"overrides": overrides()},
            "log": {"level": log.level(), "color": "never"},
        });
        let file = run.dir().join("peitho.yml");
        fs::write(&file, serde_json::to_string_pretty(&config)?)?;
        let peitho = Self {
            process: spawn(run, &build.program, &file)?,
            program: build.program.clone(),
            config: file,
        };
        peitho.wait_until_ready()?;
        Ok(peitho)
    }

    /// What it is configured with.
    pub fn config(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(&self.config)?)?)
    }

    /// Another server on the same store with another configuration: the old one is killed, as it may be at any moment.
    pub fn reconfigure(&mut self, run: &Run, config: &Value) -> Result<()> {
        self.process.kill_hard()?;
        fs::write(&self.config, serde_json::to_string_pretty(config)?)?;
        self.restart(run)
    }

    /// The same server anew, after it ended or was killed: same configuration, same store.
    pub fn restart(&mut self, run: &Run) -> Result<()> {
        self.process = spawn(run, &self.program, &self.config)?;
        self.wait_until_ready()
    }

    /// The same server with an empty store: nothing is known and nothing is cached.
    pub fn renew(&mut self, run: &Run) -> Result<()> {
        self.process.kill_hard()?;
        fs::remove_dir_all(store(run))?;
        self.restart(run)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let admin: SocketAddr = ADMIN.parse()?;
        self.process
            .wait_until("is ready", READY, || Ok(http::is_healthy(admin, "/readyz")))
    }

    /// What a peer has in `CORE_VM_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("tcp://{ENGINE}")
    }

    /// Health and metrics.
    pub fn admin(&self) -> SocketAddr {
        ADMIN.parse().expect("a constant")
    }

    /// The server's process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn store(run: &Run) -> PathBuf {
    run.data().join("peitho-store")
}

/// Pod templates for packages of the suite, by label: one that changes what can be changed, and two that the cluster does not
/// take as they are.
fn overrides() -> serde_json::Value {
    let unknown_source =
        json!({"name": "lost", "image": {"reference": "nowhere.example.com/lost:1"}});
    json!([
        {"label": "tmpl_*", "podTemplate": {
            "metadata": {"labels": {"team": "tmpl"}},
            "spec": {
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "hostAliases": [{"ip": "10.0.0.8", "hostnames": ["tmpl.example.com"]}],
                "securityContext": {"runAsUser": 501},
                "containers": [{
                    "name": "chaincode",
                    "env": [{"name": "FROM_TEMPLATE", "value": "of tmpl"}],
                    "resources": {"limits": {"memory": "48Mi"}},
                }],
            },
        }},
        // Pod Security refuses it.
        {"label": "tmpl-host", "podTemplate": {"spec": {"hostNetwork": true}}},
        // A feature that is off: the field is dropped without a word (k8s-measurements §5).
        {"label": "tmpl-lost", "podTemplate": {"spec": {"volumes": [unknown_source]}}},
    ])
}

fn spawn(run: &Run, program: &Path, config: &Path) -> Result<Process> {
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(config);
    Process::spawn(run, "peitho", command)
}

/// Peitho as a pod, from the manifests in `deploy/` as a user applies them: only the image, the Service's address and the
/// volume behind the claim are the testbed's.
#[derive(Debug)]
pub struct InCluster {
    overlay: PathBuf,
}

impl InCluster {
    /// Applies the manifests and waits until the Deployment is available.
    pub fn start(run: &Run, cluster: &Cluster, build: &Build) -> Result<InCluster> {
        let overlay = run.dir().join("overlay");
        let volume = run.data().join("peitho-volume");
        fs::create_dir_all(&overlay)?;
        fs::create_dir_all(&volume)?;
        let (name, digest) = build
            .image
            .split_once('@')
            .context("the image has no digest")?;
        let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
        let kustomization = json!({
            "resources": [relative(&overlay, &project().join("deploy")), "volume.yaml"],
            "images": [{"name": "peitho", "newName": name, "digest": digest}],
            "patches": [{"path": "config.yaml"}, {"path": "service.yaml"}],
        });
        let config = json!({
            "images": {"registries": [{"host": format!("{HOST_ADDRESS}:5000"), "scheme": "http"}]},
            "kubernetes": {
                "namespace": CHAINCODE_NAMESPACE,
                "hostAliases": [{"ip": SERVICE_ADDRESS, "hostnames": ["peitho.peitho.svc"]}],
            },
            "delivery": {"address": "https://peitho.peitho.svc:8081"},
            "agent": {"image": build.image},
        });
        let named = |kind: &str, name: &str, rest: serde_json::Value| {
            let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}});
            if let (Some(object), Some(rest)) = (object.as_object_mut(), rest.as_object()) {
                object.extend(rest.clone());
            }
            object.to_string()
        };
        let files = [
            ("kustomization.yaml", kustomization.to_string()),
            (
                "config.yaml",
                named(
                    "ConfigMap",
                    "peitho",
                    json!({"data": {"peitho.yml": config.to_string()}}),
                ),
            ),
            (
                "service.yaml",
                named(
                    "Service",
                    "peitho",
                    json!({"spec": {"clusterIP": SERVICE_ADDRESS}}),
                ),
            ),
            ("volume.yaml", volume_manifest(&volume)),
        ];
        for (file, content) in files {
            fs::write(overlay.join(file), content)?;
        }
        let this = Self { overlay };
        cluster.kubectl(&["apply", "-k", &this.overlay.to_string_lossy()])?;
        let wait = [
            "rollout",
            "status",
            "deployment/peitho",
            "--namespace",
            NAMESPACE,
            "--timeout=90s",
        ];
        if let Err(error) = cluster.kubectl(&wait) {
            let pods = cluster
                .kubectl(&["describe", "pods", "--namespace", NAMESPACE])
                .unwrap_or_default();
            return Err(error.context(format!("Peitho's pod did not become ready\n{pods}")));
        }
        Ok(this)
    }

    /// What a peer has in `CORE_VM_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("tcp://{SERVICE_ADDRESS}:8080")
    }

    /// Removes the Deployment and all that was applied but the namespaces, and waits until its pod is gone.
    pub fn stop(&self, cluster: &Cluster) -> Result<()> {
        let kinds = "deployment,service,configmap,persistentvolumeclaim";
        cluster.kubectl(&[
            "delete",
            kinds,
            "peitho",
            "--namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--wait=true",
        ])?;
        cluster.kubectl(&["delete", "persistentvolume", "peitho", "--ignore-not-found"])?;
        wait::until("Peitho's pod is gone", READY, None, || {
            let pods = cluster.kubectl(&["get", "pods", "--namespace", NAMESPACE, "-o", "name"])?;
            Ok(pods.trim().is_empty().then_some(()))
        })
    }
}

/// The cluster makes no volumes of its own: a local one answers the claim.
fn volume_manifest(directory: &Path) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "peitho"},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"namespace": NAMESPACE, "name": "peitho"},
            "local": {"path": directory},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]},
            ]}},
        },
    })
    .to_string()
}

/// `to` as seen from `from`; both absolute. Kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let up = from.components().count() - 1;
    let mut path: PathBuf = std::iter::repeat_n("..", up).collect();
    path.push(to.strip_prefix("/").unwrap_or(to));
    path
}
