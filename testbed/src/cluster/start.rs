//! Owns the command line of each of the cluster's programs. [`crate::Cluster`] calls them in order.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::config::Layout;
use super::{NODE, SERVICE_NETWORK, START, ctr, local, ports};
use crate::assets::Assets;
use crate::pki::Authority;
use crate::places::HOST_ADDRESS;
use crate::process::Process;
use crate::run::Run;
use crate::{http, program};

/// How each program is started.
pub(super) struct Start<'a> {
    pub(super) run: &'a Run,
    pub(super) kube: &'a Path,
    pub(super) layout: &'a Layout,
}

impl Start<'_> {
    fn component(&self, name: &str) -> Command {
        let mut command = Command::new(self.kube);
        command.arg(name);
        command
    }

    pub(super) fn etcd(&self) -> Result<Process> {
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

    pub(super) fn containerd(&self) -> Result<Process> {
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

    pub(super) fn api_server(&self, authority: &Authority) -> Result<Process> {
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
            ("kubelet-client-certificate", "admin", "crt"),
            ("kubelet-client-key", "admin", "key"),
            ("service-account-key-file", "service-accounts", "pub"),
            (
                "service-account-signing-key-file",
                "service-accounts",
                "key",
            ),
        ] {
            command.arg(format!("--{flag}={}", authority.file(name, kind).display()));
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

    pub(super) fn controllers(&self, authority: &Authority) -> Result<Process> {
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
        // There is no other node that pods could go to: a test may keep the API server away for a minute, and the node's leases with it.
        command.arg("--node-monitor-grace-period=3m");
        let plugins = self.layout.data.join("volume-plugins");
        command.arg(format!("--flex-volume-plugin-dir={}", plugins.display()));
        Process::spawn(self.run, "controller-manager", command)
    }

    pub(super) fn scheduler(&self) -> Result<Process> {
        let mut command = self.component("scheduler");
        self.as_admin(&mut command);
        command.arg(format!("--secure-port={}", ports::SCHEDULER));
        command.arg("--leader-elect=false");
        Process::spawn(self.run, "scheduler", command)
    }

    pub(super) fn kubelet(&self) -> Result<Process> {
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

    pub(super) fn proxy(&self) -> Result<Process> {
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
