//! What every runtime must do, held against the one of this machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::FutureExt as _;
use peitho::config::ByTenant;
use peitho::grant::Grants;
use peitho::names::{ContainerKey, HostName, InstanceName};
use peitho::registry::{self, Registries};
use peitho::runtime::oci::{Oci, Settings};
use peitho::runtime::{Runtime, Surroundings};
use peitho::store::Store;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use secrecy::SecretString;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::conformance_cases::subject::BASE;
use crate::conformance_cases::{ALL, Subject};
use crate::world;

/// The runtime in a directory that goes with it.
pub(crate) struct Machine {
    /// One at a time: a directory is for one process.
    open: Mutex<Option<Arc<Oci>>>,
    store: Store,
    directory: TempDir,
    /// What supervises containers, and is their agent.
    program: PathBuf,
    pub(crate) delivery: Place,
}

/// Where agents find their Peitho, and by what they know it.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: String,
    pub(crate) key: SecretString,
}

impl Place {
    fn free() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: free.local_addr().unwrap(),
            certificate: parameters.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem().into(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

/// By what tokens are made.
pub(crate) fn grants() -> Grants {
    Grants::new([3; 32])
}

impl Machine {
    pub(crate) async fn start() -> Self {
        Self::running(world::program()).await
    }

    /// With a program that runs in containers: they have nothing that it could be linked to.
    pub(crate) async fn running(program: PathBuf) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = TempDir::new().unwrap();
        let store = Store::open(&directory.path().join("store")).await.unwrap();
        let archive = std::io::Cursor::new(image(&directory.path().join("busybox")));
        registry::import(&store, archive, None).await.unwrap();
        let machine = Self {
            open: Mutex::default(),
            store,
            directory,
            program,
            delivery: Place::free(),
        };
        machine.anew().await;
        machine
    }

    /// Whether the supervisor of a chaincode has begun.
    pub(crate) fn has_shim(&self, key: &ContainerKey) -> bool {
        let name = HostName::chaincode(&InstanceName::default(), key);
        let container = self.directory.path().join("oci/containers");
        container
            .join(name.as_str())
            .join("launch/shim.lock")
            .exists()
    }

    async fn opened(&self) -> Arc<Oci> {
        let settings = Settings {
            peitho: self.program.clone(),
            program: None,
            directory: self.directory.path().join("oci"),
            cgroup_parent: PathBuf::from("/"),
            instance: InstanceName::default(),
            delivery_address: self.delivery.url(),
            delivery_ca_pem: self.delivery.certificate.clone(),
            surroundings: Surroundings::default(),
            compile_limits: ByTenant::default(),
        };
        let store = self.store.clone();
        let registries = Registries::new(&[], store.clone()).await.unwrap();
        Oci::start(settings, store, registries, grants())
            .await
            .unwrap()
    }
}

#[async_trait]
impl Subject for Machine {
    fn runtime(&self) -> Arc<dyn Runtime> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(open.as_ref().unwrap()) as _
    }

    async fn anew(&self) -> Arc<dyn Runtime> {
        let swap = |runtime| {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *open, runtime)
        };
        drop(swap(None));
        swap(Some(self.opened().await));
        self.runtime()
    }

    async fn two(&self) -> [Arc<dyn Runtime>; 2] {
        [self.runtime(), self.runtime()]
    }

    fn store(&self) -> &Store {
        &self.store
    }
}

/// An archive as `docker save` writes it, of busybox with its applets.
fn image(root: &std::path::Path) -> Vec<u8> {
    world::busybox(root);
    let mut layer = tar::Builder::new(Vec::new());
    layer.follow_symlinks(false);
    layer.append_dir_all("", root).unwrap();
    let layer = layer.into_inner().unwrap();
    let diff_id = Sha256::digest(&layer);
    let diff_id: String = diff_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", _ => "arm64" },
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [BASE], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("layer.tar", layer),
        ("config.json", config.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_runtime_must() {
    let machine = Machine::start().await;
    let mut failed = Vec::new();
    for (name, case) in ALL {
        let case = std::panic::AssertUnwindSafe(case(&machine));
        if case.catch_unwind().await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
