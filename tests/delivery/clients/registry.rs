//! A real registry with a base image in it: Debian's `docker-registry`, and `skopeo` to push.

use serde_json::json;
use tokio::process::Command;

use crate::builds::noise;
use crate::docker_registry::DockerRegistry;
use crate::world::tar;

/// A registry of plain http.
pub(crate) struct Registry {
    pub(crate) host: String,
    server: DockerRegistry,
}

/// Which types the documents of a base have.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Docker,
    Oci,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let server = DockerRegistry::start().await;
        Self {
            host: server.address.to_string(),
            server,
        }
    }

    /// How Peitho reaches it.
    pub(crate) fn config(&self) -> peitho::config::Registry {
        serde_json::from_value(json!({"host": self.host, "scheme": "http"})).unwrap()
    }

    /// Pushes a base of two layers; gives its name.
    pub(crate) async fn push_base(&self, form: Form) -> String {
        let layers = [noise("lower", 3_000_000), noise("upper", 200_000)];
        let layers = layers.map(|content| tar(&[("data", 0o644, &content)]));
        let diff_ids = layers
            .each_ref()
            .map(|layer| peitho::names::Digest::of(layer).to_string());
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"User": "500", "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let manifest = json!([{"Config": "c.json", "RepoTags": [], "Layers": ["0.tar", "1.tar"]}]);
        let archive = tar(&[
            ("c.json", 0o644, config.to_string().as_bytes()),
            ("0.tar", 0o644, &layers[0]),
            ("1.tar", 0o644, &layers[1]),
            ("manifest.json", 0o644, manifest.to_string().as_bytes()),
        ]);
        let file = self.server.directory.path().join("base.tar");
        std::fs::write(&file, archive).unwrap();
        let name = format!("{}/fabric/baseos:2.5", self.host);
        let form = match form {
            Form::Docker => "v2s2",
            Form::Oci => "oci",
        };
        let pushed = Command::new("skopeo")
            .args([
                "copy",
                "--quiet",
                "--insecure-policy",
                "--dest-tls-verify=false",
            ])
            .args(["--format", form])
            .arg(format!("docker-archive:{}", file.display()))
            .arg(format!("docker://{name}"))
            .output()
            .await
            .unwrap();
        assert!(pushed.status.success(), "{pushed:?}");
        name
    }

    /// Changes the last byte of a blob where it lies.
    pub(crate) fn damage(&self, digest: &str) {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self
            .server
            .directory
            .path()
            .join("data/docker/registry/v2/blobs/sha256");
        let file = blobs.join(&hex[..2]).join(hex).join("data");
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(file, bytes).unwrap();
    }

    /// Ends it.
    pub(crate) async fn stop(&mut self) {
        self.server.process.kill().await.unwrap();
    }
}
