//! A real registry for tests: the one that Debian packages (`docker-registry`), on a port of its own.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::*;

/// The htpasswd line of `reader` with the password `s3cret`.
const HTPASSWD: &str = "reader:$2y$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG";

pub(crate) struct Registry {
    pub(crate) host: String,
    directory: tempfile::TempDir,
    pub(crate) process: Child,
}

impl Registry {
    pub(crate) async fn start(auth: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join("htpasswd"), HTPASSWD).unwrap();
        let auth = auth.replace("HTPASSWD", path.join("htpasswd").to_str().unwrap());
        let data = path.join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n{auth}",
            data.display()
        );
        std::fs::write(path.join("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(path.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry (Debian's package of that name) is installed");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("it listens");
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                break rest
                    .chars()
                    .take_while(char::is_ascii_digit)
                    .collect::<String>();
            }
        };
        // Or the registry would stop when the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            host: format!("127.0.0.1:{port}"),
            directory,
            process,
        }
    }

    pub(crate) fn name(&self, rest: &str) -> ImageName {
        format!("{}/{rest}", self.host).parse().unwrap()
    }

    pub(crate) fn config(&self) -> config::Registry {
        config::Registry {
            host: self.host.clone(),
            scheme: Scheme::Http,
            username: None,
            password_file: None,
        }
    }

    pub(crate) fn config_with_login(&self, password: &str) -> config::Registry {
        let file = self.directory.path().join("password");
        let mut written = std::fs::File::create(&file).unwrap();
        writeln!(written, "{password}").unwrap();
        config::Registry {
            username: Some("reader".to_owned()),
            password_file: Some(file),
            ..self.config()
        }
    }

    pub(crate) async fn registries(&self) -> Registries {
        Registries::new(&[self.config()]).await.unwrap()
    }
}

/// Pushes an image without layers and, under `index`, an index that leads to it; gives the manifest's digest.
pub(crate) async fn push(registries: &Registries, image: &ImageName, index: &ImageName) -> Digest {
    let client = &registries.0.client;
    let reference_of_image = reference(image);
    let auth = registries.auth(image);
    client
        .auth(&reference_of_image, &auth, RegistryOperation::Push)
        .await
        .unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"User": "500", "Env": ["PATH=/bin"], "Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let config = config.to_string().into_bytes();
    let digest = Digest::of(&config).to_string();
    let size = config.len();
    client
        .push_blob(&reference_of_image, config, &digest)
        .await
        .unwrap();
    let config_type = "application/vnd.oci.image.config.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": {"mediaType": config_type, "size": size, "digest": digest},
    });
    let pushed = put(registries, image, &manifest).await;
    let entry = json!({
        "mediaType": manifest["mediaType"], "digest": pushed, "size": manifest.to_string().len(),
        "platform": {"os": "linux", "architecture": answer::architecture()},
    });
    let list = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
    });
    put(registries, index, &list).await;
    pushed
}

async fn put(registries: &Registries, name: &ImageName, manifest: &Value) -> Digest {
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    let media_type = manifest["mediaType"].as_str().unwrap().parse().unwrap();
    let client = &registries.0.client;
    client
        .push_manifest_raw(&reference(name), bytes, media_type)
        .await
        .unwrap();
    digest
}
