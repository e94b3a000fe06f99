//! The keys of a server for a job beside it: what it made at its start is read where it lies, and never made here. `cli`
//! calls it.

use anyhow::Context as _;

use super::runtimes::INSTANCE_FILE;
use crate::config::{Config, RuntimeKind, Surrounding};
use crate::names::{self, InstanceName};
use crate::runtime::InstanceMaterial;
use crate::runtime::kubernetes;

/// Keys and certificate authority of the server that `config` describes: of its Secret where it runs pods, else of the file
/// beside its store.
///
/// # Errors
/// In one line: when there are none yet, or this user may not read them.
pub async fn instance(config: &Config) -> anyhow::Result<InstanceMaterial> {
    let surrounding = Surrounding::found();
    let (found, place) = if (config.roles(surrounding)).use_runtime(RuntimeKind::Kubernetes) {
        // The client takes the process's TLS library; nobody else has set one here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let instance: InstanceName = config.kubernetes.instance.parse()?;
        let connection = kubernetes::connect(&config.kubernetes).await?;
        let kubernetes::Connection {
            client, namespace, ..
        } = connection;
        let found = kubernetes::load(client, &namespace, &instance).await?;
        let secret = names::kubernetes::instance_secret(&instance);
        let place = format!("the Secret {secret} in namespace {namespace}");
        (found, place)
    } else {
        let path = config.store.place(surrounding).join(INSTANCE_FILE);
        let place = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || InstanceMaterial::in_file(&path));
        (read.await??, place)
    };
    found.with_context(|| {
        format!(
            "{place} is not there: a server makes it at its first start, by the same configuration"
        )
    })
}
