//! What the tests stand on: a store, compiles, containers, a CA, a listener that can be torn down, and a
//! cluster in which nothing runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use peitho::compile::{Compiles, Input, Request, Run, Settings};
use peitho::config::ByTenant;
use peitho::container::{Containers, Policy};
use peitho::delivery::{self, Counters, Delivery};
use peitho::grant::{Grant, Grants};
use peitho::image::Images;
use peitho::image_spec::Layer;
use peitho::names::{CompileKey, ContainerId, ContainerKey, Digest, Tenant};
use peitho::registry::Registries;
use peitho::runtime::{self, ChaincodeSpec, Runtime};
use peitho::store::{Blob, Store};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::cluster::Cluster;

/// Longer than any test.
const PATIENT: Duration = Duration::from_secs(600);

/// One instance of Peitho, as far as pods see it.
pub(crate) struct World {
    pub(crate) directory: Arc<TempDir>,
    pub(crate) store: Store,
    pub(crate) compiles: Compiles,
    pub(crate) grants: Grants,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cluster: Arc<Cluster>,
    /// Where base images come from, beside what the store holds.
    pub(crate) bases: Vec<peitho::config::Registry>,
    started: mpsc::UnboundedReceiver<CompileKey>,
    authority: Arc<Authority>,
}

/// The CA of an instance, as PEM.
struct Authority {
    certificate: String,
    key: SecretString,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::keeping(Some(1 << 30)).await
    }

    /// With so many bytes for a compiler's cache.
    pub(crate) async fn keeping(cache: Option<u64>) -> Self {
        Self::of(TempDir::new().unwrap(), Authority::new(), cache, PATIENT).await
    }

    /// In which a compile that nobody waits for goes on for so long.
    pub(crate) async fn abandoning(grace: Duration) -> Self {
        let directory = TempDir::new().unwrap();
        Self::of(directory, Authority::new(), Some(1 << 30), grace).await
    }

    /// The same, on the volume of `place`.
    pub(crate) async fn in_directory(place: &Path, cache: Option<u64>) -> Self {
        let directory = TempDir::new_in(place).unwrap();
        Self::of(directory, Authority::new(), cache, PATIENT).await
    }

    /// The same instance started anew: what was in its memory is gone.
    pub(crate) async fn restarted(&self) -> Self {
        let (directory, authority) = (Arc::clone(&self.directory), Arc::clone(&self.authority));
        Self::of(directory, authority, Some(1 << 30), PATIENT).await
    }

    async fn of(
        directory: impl Into<Arc<TempDir>>,
        authority: impl Into<Arc<Authority>>,
        cache: Option<u64>,
        grace: Duration,
    ) -> Self {
        let (directory, authority) = (directory.into(), authority.into());
        let store = Store::open(&directory.path().join("store")).await.unwrap();
        let (sender, started) = mpsc::unbounded_channel();
        let cluster = Arc::new(Cluster::new(sender));
        let settings = Settings {
            parallel_of_tenant: None.into(),
            parallel: 4,
            timeout: PATIENT,
            install_timeout: PATIENT,
            abandon_grace: grace,
            env: std::collections::BTreeMap::new(),
            surroundings: ByTenant::default(),
            cache,
        };
        let compiles = Compiles::new(
            settings,
            Arc::clone(&cluster) as Arc<dyn Runtime>,
            store.clone(),
            TaskTracker::new(),
        );
        Self {
            directory,
            store,
            compiles,
            grants: Grants::new([7; 32]),
            counters: Arc::default(),
            cluster,
            bases: Vec::new(),
            started,
            authority,
        }
    }

    pub(crate) async fn registries(&self) -> Registries {
        // The registries' client takes the process's TLS library; another case may have set it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registries = Registries::new(&self.bases, self.store.clone()).await;
        registries.expect("no file is named")
    }

    pub(crate) async fn images(&self) -> Images {
        Images::new(self.store.clone(), self.registries().await)
    }

    /// The file with the authority that clients have to trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        let path = self.scratch("trusted").join("ca.crt");
        std::fs::write(&path, &self.authority.certificate).unwrap();
        path
    }

    pub(crate) async fn router(&self) -> Router {
        let images = self.images().await;
        let containers = Containers::new(
            images.clone(),
            self.compiles.clone(),
            Arc::clone(&self.cluster) as Arc<dyn Runtime>,
            self.store.clone(),
            Policy::default(),
        );
        delivery::router(Delivery {
            store: self.store.clone(),
            images,
            compiles: self.compiles.clone(),
            grants: self.grants.clone(),
            containers,
            counters: Arc::clone(&self.counters),
        })
    }

    /// Serves pods at `address` until the returned server is dropped.
    pub(crate) async fn serve(&self, address: SocketAddr) -> Server {
        self.serve_as(address, self.router().await).await
    }

    /// The same by another router.
    pub(crate) async fn serve_as(&self, address: SocketAddr, router: Router) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("https://{address}");
        let tls = delivery::tls::server_config(
            &self.authority.certificate,
            &self.authority.key,
            std::slice::from_ref(&url),
        )
        .unwrap();
        let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(tls), router));
        Server {
            address,
            url,
            accepting,
        }
    }

    /// A new directory for a test's files.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The directory that a pod gets from its Secret.
    pub(crate) fn credentials(&self, grant: &Grant) -> PathBuf {
        let path = self.scratch("credentials");
        std::fs::write(path.join("token"), self.grants.issue(grant).expose_secret()).unwrap();
        std::fs::write(path.join("ca.crt"), &self.authority.certificate).unwrap();
        path
    }

    pub(crate) async fn blob(&self, content: &[u8]) -> Blob {
        let mut ingest = self.store.ingest().await.unwrap();
        ingest.append(content).await.unwrap();
        self.store.commit(ingest).await.unwrap()
    }

    /// A container whose image has the layer `blob`, and what its pod may do.
    pub(crate) fn container(&self, blob: Blob) -> Grant {
        let container = ContainerKey {
            tenant: Tenant::default_tenant(),
            name: "dev-peer0-basic_1".parse().unwrap(),
        };
        let spec = ChaincodeSpec {
            key: container.clone(),
            id: ContainerId::random(),
            image: "dev-peer0-basic_1".parse().unwrap(),
            package_id: None,
            language: None,
            base: "busybox".parse().unwrap(),
            base_facts: Default::default(),
            layer: Layer {
                blob,
                diff_id: Digest::of(b"diff"),
                destination: "/usr/local/bin".to_owned(),
                entries: Vec::new(),
            },
            whole: None,
            entrypoint: None,
            args: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            user: None,
            host: runtime::HostSpec::default(),
        };
        self.cluster
            .containers
            .lock()
            .unwrap()
            .insert(container.clone(), spec);
        Grant::Layer {
            container,
            digest: blob.digest,
        }
    }

    /// Asks for a compile of `input`; gives its key once the cluster was told to run it.
    pub(crate) async fn compile(&mut self, input: Option<&[u8]>) -> (CompileKey, Run) {
        self.ordered(&Tenant::default_tenant(), None, input).await
    }

    /// The same for a tenant, by a builder that is known.
    pub(crate) async fn ordered(
        &mut self,
        tenant: &Tenant,
        builder: Option<Digest>,
        input: Option<&[u8]>,
    ) -> (CompileKey, Run) {
        let run = self.asked(tenant, builder, input).await;
        (self.started.recv().await.unwrap(), run)
    }

    /// The same for a run that may go on already.
    pub(crate) async fn asked(
        &self,
        tenant: &Tenant,
        builder: Option<Digest>,
        input: Option<&[u8]>,
    ) -> Run {
        let input = match input {
            Some(content) => {
                let mut archive = self.store.ingest().await.unwrap();
                archive.append(content).await.unwrap();
                Some(Input {
                    archive: archive.into(),
                    content: Digest::of(content),
                })
            }
            None => None,
        };
        let request = Request {
            tenant: tenant.clone(),
            image: "busybox".parse().unwrap(),
            builder,
            facts: Default::default(),
            manifest: None,
            command: vec!["sh".to_owned()],
            env: Vec::new(),
            working_dir: None,
            user: None,
            resolution: runtime::Resolution::default(),
            input,
        };
        self.compiles.run(request).await.unwrap()
    }
}

/// A listener of the delivery API; dropped, it and its connections are gone.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Ends it; its address is free when this returns.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.accepting.abort();
        let ended = (&mut self.accepting).await;
        assert!(ended.unwrap_err().is_cancelled());
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Any port of this machine.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
        connections.spawn(async move {
            // A client that does not trust us ends the handshake.
            if let Ok(stream) = tls.accept(stream).await {
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = parameters.self_signed(&key).unwrap().pem();
        let key_pem = key.serialize_pem();
        // What is handed over must be enough to sign with.
        Issuer::from_ca_cert_pem(&certificate, key).unwrap();
        Self {
            certificate,
            key: key_pem.into(),
        }
    }
}

/// A tar with `members`: path, mode, content.
pub(crate) fn tar(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The names in `directory`, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
