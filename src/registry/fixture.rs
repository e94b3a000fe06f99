//! A real registry for tests: the one that Debian packages (`docker-registry`), on a port of its own.

use std::io::Write as _;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::process::Child;

use super::*;
use crate::config::Scheme;

mod debian;
mod line;
mod tokens;

pub(crate) use line::{Line, Manner};
pub(crate) use tokens::Tokens;

/// The htpasswd line of `reader` with the password `s3cret`.
const HTPASSWD: &str = "reader:$2y$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG";

pub(crate) struct Registry {
    pub(crate) host: String,
    directory: tempfile::TempDir,
    pub(crate) process: Child,
}

impl Registry {
    /// A registry of plain http with `auth`, a part of its configuration.
    pub(crate) async fn start(auth: &str) -> Self {
        Self::start_with(auth, "", "").await
    }

    /// A registry that takes nothing.
    pub(crate) async fn start_read_only() -> Self {
        let storage = ", maintenance: {readonly: {enabled: true}}";
        Self::start_with("", storage, "").await
    }

    /// A registry of https with a certificate of an authority of its own, which lies in `ca.pem`.
    pub(crate) async fn start_tls() -> Self {
        let tls = ", tls: {certificate: DIRECTORY/cert.pem, key: DIRECTORY/key.pem}";
        Self::start_with("", "", tls).await
    }

    /// With further parts of its `storage` and `http`, in which `DIRECTORY` is its own.
    async fn start_with(auth: &str, storage: &str, http: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join("htpasswd"), HTPASSWD).unwrap();
        write_certificates(path);
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: DIRECTORY/data}}{storage}}}\n\
             http: {{addr: '127.0.0.1:0'{http}}}\n{auth}",
        );
        let config = config.replace("DIRECTORY", path.to_str().unwrap());
        std::fs::write(path.join("config.yml"), config).unwrap();
        let (process, address) = debian::serve(&path.join("config.yml")).await;
        Self {
            host: address.to_string(),
            directory,
            process,
        }
    }

    /// A registry that lets in who has a token of a service that knows `reader`.
    pub(crate) async fn start_with_tokens(manner: Tokens) -> Self {
        let service = tokens::Service::bind().await;
        let registry = Self::start(&service.auth()).await;
        service.serve(&registry, manner);
        registry
    }

    /// The same by https, its token service without.
    pub(crate) async fn start_tls_with_tokens_in_the_open() -> Self {
        let service = tokens::Service::bind().await;
        let tls = ", tls: {certificate: DIRECTORY/cert.pem, key: DIRECTORY/key.pem}";
        let registry = Self::start_with(&service.auth(), "", tls).await;
        service.serve(&registry, Tokens::Good);
        registry
    }

    /// A file of its own.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn name(&self, rest: &str) -> ImageName {
        format!("{}/{rest}", self.host).parse().unwrap()
    }

    /// Where it keeps what was pushed.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.file("data")
    }

    /// Where it keeps the content of a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> std::path::PathBuf {
        let hex = digest.hex();
        let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.data().join(path)
    }

    pub(crate) fn config(&self) -> config::Registry {
        config::Registry {
            host: self.host.clone(),
            scheme: Scheme::Http,
            ..config::Registry::default()
        }
    }

    /// What is built is pushed here, to `fabric/chaincode`.
    pub(crate) fn built(&self) -> config::Images {
        let registry = config::BuiltRegistry {
            address: self.host.clone(),
            project: "fabric".to_owned(),
            scheme: Scheme::Http,
            ..config::BuiltRegistry::default()
        };
        config::Images {
            mode: config::ImageMode::Registry,
            registry,
            ..config::Images::default()
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

    /// A store that goes with the registry.
    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.directory.path().join("store"))
            .await
            .unwrap()
    }

    pub(crate) async fn registries(&self) -> Registries {
        self.registries_over(&self.store().await).await
    }

    pub(crate) async fn registries_over(&self, store: &Store) -> Registries {
        let config = [self.config()];
        Registries::new(&config, store.clone()).await.unwrap()
    }
}

/// Pushes an image without layers and, under `index`, an index that leads to it; gives the manifest's digest.
pub(crate) async fn push(registries: &Registries, image: &ImageName, index: &ImageName) -> Digest {
    let manifest = push_layers(registries, image, &[]).await;
    let entry = json!({
        "mediaType": manifest["mediaType"], "digest": Digest::of(manifest.to_string().as_bytes()),
        "size": manifest.to_string().len(),
        "platform": {"os": "linux", "architecture": Architecture::of_this_machine()},
    });
    let list = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
    });
    put(registries, index, &list).await;
    Digest::of(manifest.to_string().as_bytes())
}

/// `ca.pem`, and `cert.pem` and `key.pem` of a server on the loopback.
fn write_certificates(directory: &std::path::Path) {
    let key = KeyPair::generate().unwrap();
    let mut of_authority = CertificateParams::default();
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = of_authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(of_authority, key);
    let key = KeyPair::generate().unwrap();
    let of_server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = of_server.signed_by(&key, &issuer).unwrap();
    for (name, pem) in [
        ("ca.pem", authority.pem()),
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        std::fs::write(directory.join(name), pem).unwrap();
    }
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(seed: &str, len: usize) -> Vec<u8> {
    let block = |n: usize| Digest::of(format!("{seed}{n}").as_bytes()).hex();
    let mut bytes: Vec<u8> = (0..len.div_ceil(64)).map(block).collect::<String>().into();
    bytes.truncate(len);
    bytes
}

pub(crate) fn plain(bytes: Vec<u8>) -> PushedLayer {
    PushedLayer {
        kind: "",
        diff_id: Digest::of(&bytes),
        bytes,
    }
}

pub(crate) fn zipped(bytes: &[u8]) -> PushedLayer {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(bytes).unwrap();
    PushedLayer {
        kind: "+gzip",
        diff_id: Digest::of(bytes),
        bytes: zip.finish().unwrap(),
    }
}

/// A layer: its type after `tar`, the bytes as they are pushed, and the digest of what is in them.
pub(crate) struct PushedLayer {
    pub(crate) kind: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) diff_id: Digest,
}

/// Pushes an image with `layers`; gives its manifest.
pub(crate) async fn push_layers(
    registries: &Registries,
    image: &ImageName,
    layers: &[PushedLayer],
) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    let config = json!({
        "architecture": Architecture::of_this_machine(), "os": "linux",
        "config": {"User": "500", "Env": ["PATH=/bin"], "Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config_type = "application/vnd.oci.image.config.v1+json";
    let config = push_blob(
        registries,
        image,
        config_type,
        config.to_string().into_bytes(),
    )
    .await;
    let mut pushed = Vec::new();
    for layer in layers {
        let kind = format!("application/vnd.oci.image.layer.v1.tar{}", layer.kind);
        pushed.push(push_blob(registries, image, &kind, layer.bytes.clone()).await);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "layers": pushed, "config": config,
    });
    put(registries, image, &manifest).await;
    manifest
}

/// Pushes a blob; gives its descriptor.
async fn push_blob(
    registries: &Registries,
    image: &ImageName,
    media_type: &str,
    bytes: Vec<u8>,
) -> Value {
    let reference = reference(image);
    let auth = match registries.0.logins.of(image).await {
        Some(login) => {
            RegistryAuth::Basic(login.username, login.password.expose_secret().to_owned())
        }
        None => RegistryAuth::Anonymous,
    };
    let (client, push) = (&registries.0.reader.client, RegistryOperation::Push);
    client.auth(&reference, &auth, push).await.unwrap();
    let (digest, size) = (Digest::of(&bytes).to_string(), bytes.len());
    let pushed = client.push_blob(&reference, bytes, &digest);
    pushed.await.unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

pub(crate) async fn put(registries: &Registries, name: &ImageName, manifest: &Value) {
    let bytes = manifest.to_string().into_bytes();
    let media_type = manifest["mediaType"].as_str().unwrap().parse().unwrap();
    let client = &registries.0.reader.client;
    client
        .push_manifest_raw(&reference(name), bytes, media_type)
        .await
        .unwrap();
}
