//! A real registry with a base image in it: Debian's `docker-registry`, and `skopeo` to push.

use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::builds::noise;
use crate::world::tar;

/// A registry of plain http.
pub(crate) struct Registry {
    pub(crate) host: String,
    directory: TempDir,
    process: Child,
}

/// Which types the documents of a base have.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Docker,
    Oci,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n",
            data.display()
        );
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let port: String = loop {
            let line = lines.next_line().await.unwrap().expect("it listens");
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                break rest.chars().take_while(char::is_ascii_digit).collect();
            }
        };
        // Or it would stop when the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            host: format!("127.0.0.1:{port}"),
            directory,
            process,
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
        let file = self.directory.path().join("base.tar");
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
        self.process.kill().await.unwrap();
    }
}
