//! Owns the configuration files of the cluster's programs, as text. [`crate::Cluster`] writes them before it starts anything.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::ports;
use crate::places::{BRIDGE, CGROUP, HOST_ADDRESS, NETWORK_NAME, POD_NETWORK};
use crate::run::Run;

/// Where the cluster's files are.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    pub(super) data: PathBuf,
}

impl Layout {
    pub(super) fn new(run: &Run) -> Result<Layout> {
        let layout = Layout {
            dir: run.dir().join("cluster"),
            data: run.data().join("cluster"),
        };
        for dir in [
            &layout.dir,
            &layout.data,
            &layout.dir.join("cni"),
            &layout.dir.join("certs.d"),
        ] {
            fs::create_dir_all(dir)?;
        }
        Ok(layout)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn in_data(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// A kubeconfig for a user who proves himself as `credentials` says.
    pub(super) fn kubeconfig(&self, authority: &Path, credentials: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: testbed, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: {}}}}}]\n\
             users: [{{name: user, user: {{{credentials}}}}}]\n\
             contexts: [{{name: testbed, context: {{cluster: testbed, user: user}}}}]\n\
             current-context: testbed\n",
            ports::API_SERVER,
            authority.display()
        )
    }

    pub(super) fn write_containerd(&self, pause: &str, registries: &[String]) -> Result<()> {
        // restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE, a score below the current one is refused and no sandbox starts.
        // netns_mounts_under_state_dir: with everything below one directory the reaper finds every mount.
        let config = format!(
            r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{runc}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{certs}"
"#,
            runc = self.file("runc").display(),
            root = self.in_data("containerd").display(),
            state = self.file("containerd").display(),
            opt = self.in_data("opt").display(),
            socket = self.socket().display(),
            cni = self.file("cni").display(),
            certs = self.file("certs.d").display(),
        );
        fs::write(self.file("containerd.toml"), config)?;
        for registry in registries {
            let dir = self.file("certs.d").join(registry);
            fs::create_dir_all(&dir)?;
            fs::write(
                dir.join("hosts.toml"),
                format!("server = \"http://{registry}\"\n[host.\"http://{registry}\"]\n"),
            )?;
        }
        Ok(())
    }

    pub(super) fn write_network(&self) -> Result<()> {
        // The bridge and its firewall rules exist already; ipMasq would add rules for each pod that nobody needs.
        let config = json!({
            "cniVersion": "0.4.0",
            "name": NETWORK_NAME,
            "plugins": [{
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.in_data("addresses"),
                    "ranges": [[{ "subnet": POD_NETWORK }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        });
        fs::write(
            self.file("cni").join("10-testbed.conflist"),
            config.to_string(),
        )?;
        Ok(())
    }

    pub(super) fn write_kubelet(&self, authority: &Path) -> Result<()> {
        // JSON is YAML. The node is a small machine on which a full disk is nothing to evict pods for.
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failSwapOn": false,
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{CGROUP}"),
            "enforceNodeAllocatable": [],
            "authentication": {
                "x509": { "clientCAFile": authority },
                "anonymous": { "enabled": false },
                "webhook": { "enabled": false },
            },
            "authorization": { "mode": "AlwaysAllow" },
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "address": HOST_ADDRESS,
            "port": ports::KUBELET,
            "readOnlyPort": 0,
            "healthzPort": ports::KUBELET_HEALTH,
            "resolvConf": "/etc/resolv.conf",
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
            // What pods have in their volumes is measured each minute by default, and cases wait for who takes too much.
            "volumeStatsAggPeriod": "10s",
            "podLogsDir": self.in_data("pod-logs"),
            // The kubelet loses output to a reader that is behind at a rotation, whoever that is, and cases write 41 MB at once.
            "containerLogMaxSize": "128Mi",
            "volumePluginDir": self.in_data("volume-plugins"),
            "oomScoreAdj": 0,
            "serializeImagePulls": false,
        });
        fs::write(self.file("kubelet.yaml"), config.to_string())?;
        Ok(())
    }

    pub(super) fn write_proxy(&self) -> Result<()> {
        // Zeroes: the connection tracker's sizes are the machine's, not ours.
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "bindAddress": "0.0.0.0",
            "clusterCIDR": POD_NETWORK,
            "hostnameOverride": super::NODE,
            "healthzBindAddress": format!("127.0.0.1:{}", ports::PROXY_HEALTH),
            "metricsBindAddress": format!("127.0.0.1:{}", ports::PROXY_METRICS),
            "clientConnection": { "kubeconfig": self.file("admin.kubeconfig") },
            "iptables": { "localhostNodePorts": false, "minSyncPeriod": "0s", "syncPeriod": "30s" },
            "conntrack": {
                "maxPerCore": 0, "min": 0,
                "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
            },
        });
        fs::write(self.file("proxy.yaml"), config.to_string())?;
        Ok(())
    }
}
