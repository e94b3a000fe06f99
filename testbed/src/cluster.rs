//! Owns a real Kubernetes of one node on this machine: etcd, API server, controllers, scheduler, containerd, kubelet, kube-proxy.
//! Services work, from pods and from the host; names of Services do not, since there is no DNS server. Network policies are
//! stored but not enforced. Tests start it, and talk to it by `kubectl` or by a kubeconfig.

mod config;
mod ports;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::assets::Assets;
use crate::images::Image;
use crate::leftovers::Leftovers;
use crate::pki::{Authority, Subject};
use crate::places::HOST_ADDRESS;
use crate::process::Process;
use crate::registry::Registry;
use crate::run::Run;
use crate::{http, program};
use config::Layout;

const NODE: &str = "node1";
const SERVICE_NETWORK: &str = "10.96.0.0/16";
const START: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    kube: PathBuf,
    layout: Layout,
    authority: PathBuf,
    /// In the order in which they end: who would start something anew goes first.
    proxy: Process,
    kubelet: Process,
    scheduler: Process,
    controllers: Process,
    containerd: Process,
    api_server: Process,
    etcd: Process,
}

impl Cluster {
    /// Starts it, and returns when the node is ready and pods can be made.
    pub fn start(assets: &Assets, run: &Run) -> Result<Cluster> {
        if Leftovers::foreign_kubernetes()? {
            bail!(
                "another Kubernetes has its firewall chains (KUBE-*) on this machine\n\
                 hint: use a machine of its own, the two would delete each other's rules"
            );
        }
        fs::write(run.places().firewall_claim(), "")?;
        Leftovers::save_settings(run.places())?;
        let kube = assets.kube()?;
        let pause = assets.images()?.pause;
        let layout = Layout::new(run)?;
        let authority = keys(&layout)?;
        let ca = authority.file("ca", "crt");
        layout.write_containerd(
            pause.name(),
            &[
                format!("{HOST_ADDRESS}:5000"),
                format!("{HOST_ADDRESS}:5001"),
            ],
        )?;
        layout.write_network()?;
        layout.write_kubelet(&ca)?;
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
        api_server.wait_until("is ready", START, || {
            // The port first: asking by kubectl costs a process.
            Ok(is_open(ports::API_SERVER)
                && kubectl(&kube, &layout, &["get", "--raw=/readyz"]).is_ok())
        })?;
        let controllers = start.controllers(&authority)?;
        let scheduler = start.scheduler()?;
        let kubelet = start.kubelet()?;
        let proxy = start.proxy()?;
        let cluster = Cluster {
            authority: ca,
            proxy,
            kubelet,
            scheduler,
            controllers,
            containerd,
            api_server,
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
        fs::write(&file, self.layout.kubeconfig(&self.authority, &credentials))?;
        Ok(file)
    }

    /// Runs `kubectl` as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl(&self.kube, &self.layout, arguments)
    }

    /// The same, with `input` on its standard input: `kubectl_stdin(&["apply", "-f", "-"], yaml)`.
    pub fn kubectl_stdin(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = kubectl_command(&self.kube, &self.layout);
        program::output_with_input(command.args(arguments), input.as_bytes())
    }

    /// The address under which pods reach this machine.
    pub fn host_address(&self) -> &'static str {
        HOST_ADDRESS
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

    /// The API server, to pause, kill or read the log of.
    pub fn api_server(&self) -> &Process {
        &self.api_server
    }

    /// The kubelet.
    pub fn kubelet(&self) -> &Process {
        &self.kubelet
    }

    /// All of its programs.
    pub fn processes(&self) -> [&Process; 7] {
        [
            &self.proxy,
            &self.kubelet,
            &self.scheduler,
            &self.controllers,
            &self.containerd,
            &self.api_server,
            &self.etcd,
        ]
    }
}

impl Drop for Cluster {
    /// State is thrown away with the run, so nothing is gained by an orderly end.
    fn drop(&mut self) {
        for process in self.processes() {
            process.kill_hard().ok();
        }
    }
}

fn keys(layout: &Layout) -> Result<Authority> {
    let authority = Authority::new(&layout.file("pki"))?;
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
        },
    )?;
    authority.issue(
        "admin",
        &Subject {
            user: "admin",
            group: Some("system:masters"),
            addresses: &[],
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
    program::output(kubectl_command(kube, layout).args(arguments))
}

fn kubectl_command(kube: &Path, layout: &Layout) -> Command {
    let mut command = Command::new(kube);
    command
        .arg("kubectl")
        .arg("--kubeconfig")
        .arg(layout.file("admin.kubeconfig"));
    command
}

fn is_open(port: u16) -> bool {
    TcpStream::connect_timeout(&local(port), Duration::from_secs(1)).is_ok()
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// How each program is started.
struct Start<'a> {
    run: &'a Run,
    kube: &'a Path,
    layout: &'a Layout,
}

impl Start<'_> {
    fn component(&self, name: &str) -> Command {
        let mut command = Command::new(self.kube);
        command.arg(name);
        command
    }

    fn etcd(&self) -> Result<Process> {
        let client = format!("http://127.0.0.1:{}", ports::ETCD);
        let peer = format!("http://127.0.0.1:{}", ports::ETCD_PEER);
        let mut command = Assets::command("etcd");
        command.arg("--data-dir").arg(self.layout.data.join("etcd"));
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args([
            "--initial-cluster",
            &format!("default={peer}"),
            "--unsafe-no-fsync",
        ]);
        let etcd = Process::spawn(self.run, "etcd", command)?;
        let address = local(ports::ETCD);
        etcd.wait_until("is healthy", START, || {
            Ok(http::is_healthy(address, "/health"))
        })?;
        Ok(etcd)
    }

    fn containerd(&self) -> Result<Process> {
        let mut command = Assets::command("containerd");
        command
            .arg("--config")
            .arg(self.layout.file("containerd.toml"));
        let containerd = Process::spawn(self.run, "containerd", command)?;
        containerd.wait_until("answers", START, || {
            Ok(self.layout.socket().exists()
                && program::output(ctr(self.layout).arg("version")).is_ok())
        })?;
        Ok(containerd)
    }

    fn api_server(&self, authority: &Authority) -> Result<Process> {
        let mut command = self.component("apiserver");
        let port = ports::API_SERVER;
        command.arg(format!("--etcd-servers=http://127.0.0.1:{}", ports::ETCD));
        command.args([
            format!("--secure-port={port}"),
            "--bind-address=0.0.0.0".to_owned(),
        ]);
        command.arg(format!("--advertise-address={HOST_ADDRESS}"));
        command.arg(format!("--service-cluster-ip-range={SERVICE_NETWORK}"));
        for (flag, name, kind) in [
            ("tls-cert-file", "apiserver", "crt"),
            ("tls-private-key-file", "apiserver", "key"),
            ("client-ca-file", "ca", "crt"),
            ("kubelet-certificate-authority", "ca", "crt"),
            ("kubelet-client-certificate", "admin", "crt"),
            ("kubelet-client-key", "admin", "key"),
            ("service-account-key-file", "service-accounts", "pub"),
            (
                "service-account-signing-key-file",
                "service-accounts",
                "key",
            ),
        ] {
            if flag != "kubelet-certificate-authority" {
                command.arg(format!("--{flag}={}", authority.file(name, kind).display()));
            }
        }
        command.args([
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            // The host's name need not resolve; logs and exec go by address.
            "--kubelet-preferred-address-types=InternalIP",
        ]);
        Process::spawn(self.run, "apiserver", command)
    }

    fn controllers(&self, authority: &Authority) -> Result<Process> {
        let mut command = self.component("controller-manager");
        self.as_admin(&mut command);
        command.arg(format!("--secure-port={}", ports::CONTROLLERS));
        let key = authority.file("service-accounts", "key");
        command.arg(format!(
            "--service-account-private-key-file={}",
            key.display()
        ));
        command.arg(format!(
            "--root-ca-file={}",
            authority.file("ca", "crt").display()
        ));
        command.args(["--leader-elect=false", "--controllers=*"]);
        Process::spawn(self.run, "controller-manager", command)
    }

    fn scheduler(&self) -> Result<Process> {
        let mut command = self.component("scheduler");
        self.as_admin(&mut command);
        command.arg(format!("--secure-port={}", ports::SCHEDULER));
        command.arg("--leader-elect=false");
        Process::spawn(self.run, "scheduler", command)
    }

    fn kubelet(&self) -> Result<Process> {
        let mut command = self.component("kubelet");
        self.as_admin(&mut command);
        command.arg(format!(
            "--config={}",
            self.layout.file("kubelet.yaml").display()
        ));
        command.arg(format!(
            "--root-dir={}",
            self.layout.data.join("kubelet").display()
        ));
        command.arg(format!(
            "--cert-dir={}",
            self.layout.file("kubelet-pki").display()
        ));
        command.args([
            &format!("--hostname-override={NODE}"),
            &format!("--node-ip={HOST_ADDRESS}"),
        ]);
        Process::spawn(self.run, "kubelet", command)
    }

    fn proxy(&self) -> Result<Process> {
        let mut command = self.component("proxy");
        command.arg(format!(
            "--config={}",
            self.layout.file("proxy.yaml").display()
        ));
        Process::spawn(self.run, "kube-proxy", command)
    }

    fn as_admin(&self, command: &mut Command) {
        let kubeconfig = self.layout.file("admin.kubeconfig");
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
    }
}
