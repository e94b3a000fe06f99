//! Owns a real Kubernetes of one node on this machine: etcd, API server, controllers, scheduler, containerd, kubelet, kube-proxy.
//! Services work, from pods and from the host; names of Services do not, since there is no DNS server. Network policies are
//! stored but not enforced. Tests start it, and talk to it by `kubectl` or by a kubeconfig.

mod config;
mod ports;
mod start;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::assets::Assets;
use crate::images::Image;
use crate::leftovers::Leftovers;
use crate::pki::{Authority, Subject, Term};
use crate::places::HOST_ADDRESS;
use crate::process::Process;
use crate::registry::Registry;
use crate::run::Run;
use crate::{http, program};
use config::Layout;
use start::Start;

const NODE: &str = "node1";
const SERVICE_NETWORK: &str = "10.96.0.0/16";
const START: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    kube: PathBuf,
    layout: Layout,
    authority: Authority,
    /// In the order in which they end: who would start something anew goes first.
    proxy: Process,
    kubelet: Process,
    scheduler: Process,
    controllers: Process,
    containerd: Process,
    api_server: Mutex<Process>,
    etcd: Process,
}

impl Cluster {
    /// Starts it, once in a run, and returns when the node is ready and pods can be made.
    pub fn start(assets: &Assets, run: &Run) -> Result<Cluster> {
        let claim = run.places().firewall_claim();
        if !claim.exists() && Leftovers::foreign_kubernetes()? {
            bail!(
                "another Kubernetes has its firewall chains (KUBE-*) on this machine\n\
                 hint: use a machine of its own, the two would delete each other's rules"
            );
        }
        fs::write(claim, "")?;
        Leftovers::save_settings(run.places())?;
        let kube = assets.kube()?;
        let pause = assets.images()?.pause;
        let layout = Layout::new(run)?;
        let authority = keys(&layout)?;
        layout.write_containerd(
            pause.name(),
            &[
                format!("{HOST_ADDRESS}:5000"),
                format!("{HOST_ADDRESS}:5001"),
            ],
        )?;
        layout.write_network()?;
        layout.write_kubelet(&authority.file("ca", "crt"))?;
        layout.write_proxy()?;

        let start = Start {
            run,
            kube: &kube,
            layout: &layout,
        };
        let containerd = start.containerd()?;
        let etcd = start.etcd()?;
        let api_server = start.api_server(&authority)?;
        load(&layout, &pause, run)?;
        wait_until_ready(&api_server, &kube, &layout)?;
        let controllers = start.controllers(&authority)?;
        let scheduler = start.scheduler()?;
        let kubelet = start.kubelet()?;
        let proxy = start.proxy()?;
        let cluster = Cluster {
            authority,
            proxy,
            kubelet,
            scheduler,
            controllers,
            containerd,
            api_server: Mutex::new(api_server),
            etcd,
            kube,
            layout,
        };
        cluster.wait_until_usable()?;
        Ok(cluster)
    }

    fn wait_until_usable(&self) -> Result<()> {
        let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        self.kubelet.wait_until("its node is ready", START, || {
            let status = self.kubectl(&["get", "node", NODE, "-o", condition]);
            Ok(status.is_ok_and(|status| status == "True"))
        })?;
        self.controllers
            .wait_until("made the default service account", START, || {
                Ok(self.kubectl(&["get", "serviceaccount", "default"]).is_ok())
            })?;
        let health = local(ports::PROXY_HEALTH);
        self.proxy.wait_until("is healthy", START, || {
            Ok(http::is_healthy(health, "/healthz"))
        })
    }

    /// The certificate of the authority that the cluster's own certificates come from.
    pub fn authority(&self) -> PathBuf {
        self.authority.file("ca", "crt")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.file("admin.kubeconfig")
    }

    /// Makes a kubeconfig with a service account's token, good for a day: a program that uses it has exactly the rights that
    /// the account's roles give.
    pub fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> Result<PathBuf> {
        let create = [
            "create",
            "token",
            service_account,
            "--namespace",
            namespace,
            "--duration=24h",
        ];
        let token = self.kubectl(&create)?;
        let file = self
            .layout
            .file(&format!("{namespace}-{service_account}.kubeconfig"));
        let credentials = format!("token: {}", token.trim());
        let authority = self.authority.file("ca", "crt");
        fs::write(&file, self.layout.kubeconfig(&authority, &credentials))?;
        Ok(file)
    }

    /// Runs `kubectl` as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl(&self.kube, &self.layout, arguments)
    }

    /// The same, with `input` on its standard input: `kubectl_stdin(&["apply", "-f", "-"], yaml)`.
    pub fn kubectl_stdin(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.kubectl_as(&self.kubeconfig());
        program::output_with_input(command.args(arguments), input.as_bytes())
    }

    /// Takes an image from the registry onto the node, so that no pod waits for it.
    pub fn pull(&self, registry: &Registry, image: &Image) -> Result<()> {
        let reference = registry.reference(image);
        program::output(
            ctr(&self.layout)
                .args(["images", "pull", "--plain-http", "--hosts-dir"])
                .arg(self.layout.file("certs.d"))
                .arg(reference),
        )?;
        Ok(())
    }

    /// `kubectl` as the user of another kubeconfig, its arguments still to come.
    pub(crate) fn kubectl_as(&self, kubeconfig: &Path) -> Command {
        kubectl_command(&self.kube, &self.layout, kubeconfig)
    }

    /// Watches all objects of one kind in a namespace: each change is printed into the process's log as `{"type", "object"}`.
    pub fn watch(&self, run: &Run, namespace: &str, kind: &str) -> Result<Process> {
        let mut command = self.kubectl_as(&self.kubeconfig());
        command.args(["get", kind, "--namespace", namespace]);
        command.args(["--watch", "--output-watch-events", "--output=json"]);
        command.arg("--show-managed-fields");
        Process::spawn(run, &format!("watch-{kind}"), command)
    }

    /// Forwards a free port of this machine to `port` of a pod of `target`, `deployment/peitho` for example, as long as the
    /// returned process lives; gives the near end.
    pub fn forward(
        &self,
        run: &Run,
        namespace: &str,
        target: &str,
        port: u16,
    ) -> Result<(Process, SocketAddr)> {
        let mut command = self.kubectl_as(&self.kubeconfig());
        command.args(["port-forward", "--namespace", namespace, target]);
        command.arg(format!(":{port}"));
        let process = Process::spawn(run, "port-forward", command)?;
        let said = "Forwarding from 127.0.0.1:";
        process.wait_for_line(said, Duration::from_secs(20))?;
        let log = process.log();
        let near = (log.lines())
            .find_map(|line| line.strip_prefix(said)?.split(' ').next()?.parse().ok())
            .with_context(|| format!("no port in {log}"))?;
        Ok((process, local(near)))
    }

    /// Kills the API server, as a crash would. What runs goes on.
    pub fn kill_api_server(&self) -> Result<()> {
        self.api_server().kill_hard().map(drop)
    }

    /// Starts the API server again on the same state, and returns when it is ready.
    pub fn start_api_server(&self, run: &Run) -> Result<()> {
        let start = Start {
            run,
            kube: &self.kube,
            layout: &self.layout,
        };
        let mut api_server = self.api_server();
        *api_server = start.api_server(&self.authority)?;
        wait_until_ready(&api_server, &self.kube, &self.layout)
    }

    /// Starts what a test ended and did not start again: the API server, the kubelet, the scheduling onto the node.
    pub fn mend(&self, run: &Run) -> Result<()> {
        if self.api_server().exited()?.is_some() {
            self.start_api_server(run)?;
        }
        self.kubelet.resume()?;
        self.kubectl(&["uncordon", NODE]).map(drop)
    }

    /// The kubelet, to pause it: a node that says nothing any more.
    pub fn kubelet(&self) -> &Process {
        &self.kubelet
    }

    /// The name of the one node.
    pub fn node(&self) -> &'static str {
        NODE
    }

    fn api_server(&self) -> MutexGuard<'_, Process> {
        self.api_server
            .lock()
            .expect("no holder of this lock panics")
    }
}

impl Drop for Cluster {
    /// State is thrown away with the run, so nothing is gained by an orderly end.
    fn drop(&mut self) {
        let api_server = self.api_server();
        for process in [
            &self.proxy,
            &self.kubelet,
            &self.scheduler,
            &self.controllers,
            &self.containerd,
            &api_server,
            &self.etcd,
        ] {
            process.kill_hard().ok();
        }
    }
}

fn keys(layout: &Layout) -> Result<Authority> {
    let authority = Authority::new(&layout.file("pki"), "testbed")?;
    authority.issue(
        "apiserver",
        &Subject {
            user: "kube-apiserver",
            group: None,
            addresses: &[
                "127.0.0.1",
                HOST_ADDRESS,
                "10.96.0.1",
                "localhost",
                "kubernetes.default.svc",
            ],
            term: Term::Current,
        },
    )?;
    authority.issue(
        "admin",
        &Subject {
            user: "admin",
            group: Some("system:masters"),
            addresses: &[],
            term: Term::Current,
        },
    )?;
    authority.signing_key("service-accounts")?;
    let credentials = format!(
        "client-certificate: {}, client-key: {}",
        authority.file("admin", "crt").display(),
        authority.file("admin", "key").display()
    );
    let kubeconfig = layout.kubeconfig(&authority.file("ca", "crt"), &credentials);
    fs::write(layout.file("admin.kubeconfig"), kubeconfig)?;
    Ok(authority)
}

/// The pause image comes from no registry, so that pods start before there is one.
fn load(layout: &Layout, pause: &Image, run: &Run) -> Result<()> {
    let archive = run.data().join("pause.tar");
    let mut command = Assets::command("skopeo");
    command.args(["copy", "--quiet", "--insecure-policy"]);
    command.arg(format!("oci:{}", pause.layout().display()));
    command.arg(format!(
        "docker-archive:{}:{}",
        archive.display(),
        pause.name()
    ));
    program::output(&mut command)?;
    let import = ["images", "import", "--digests=false"];
    program::output(ctr(layout).args(import).arg(&archive))
        .context("cannot load the pause image")?;
    Ok(())
}

fn ctr(layout: &Layout) -> Command {
    let mut command = Assets::command("ctr");
    command
        .arg("--address")
        .arg(layout.socket())
        .args(["--namespace", "k8s.io"]);
    command
}

fn kubectl(kube: &Path, layout: &Layout, arguments: &[&str]) -> Result<String> {
    let kubeconfig = layout.file("admin.kubeconfig");
    program::output(kubectl_command(kube, layout, &kubeconfig).args(arguments))
}

fn kubectl_command(kube: &Path, layout: &Layout, kubeconfig: &Path) -> Command {
    let mut command = Command::new(kube);
    // What it remembers of a cluster must not outlive it.
    command
        .env("KUBECACHEDIR", layout.file("kubectl-cache"))
        .arg("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig);
    command
}

fn wait_until_ready(api_server: &Process, kube: &Path, layout: &Layout) -> Result<()> {
    api_server.wait_until("is ready", START, || {
        // The port first: asking by kubectl costs a process.
        Ok(is_open(ports::API_SERVER) && kubectl(kube, layout, &["get", "--raw=/readyz"]).is_ok())
    })
}

fn is_open(port: u16) -> bool {
    TcpStream::connect_timeout(&local(port), Duration::from_secs(1)).is_ok()
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
