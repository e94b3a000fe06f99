//! The configuration as one typed struct (design §7): sections are handed on one by one, never the whole.
//! `cli` loads it; every layer may name its own section's type. It knows none of them.
//!
//! Order: defaults < file < `PEITHO_SECTION__KEY` < flags. Unknown keys are refused with the nearest known
//! one. The JSON schema of [`Config`] is the single list of what can be set: from it come the keys that are
//! accepted, the names of the variables and `docs/config.md`.

use std::io::ErrorKind;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod agent;
mod by_builder;
mod by_tenant;
mod chaincode;
mod check;
mod compile;
mod delivery;
mod docker;
mod document;
mod draft;
mod environment;
mod error;
mod images;
mod keys;
mod kubernetes;
mod legacy;
mod listen;
mod log;
mod oci;
mod pattern;
mod pod_template;
mod proxy;
mod quantity;
mod reference;
mod role;
mod run_as;
mod s3;
mod store;
mod tenant_pods;
mod tenants;

pub use agent::Agent;
pub use by_builder::ByBuilder;
pub use by_tenant::ByTenant;
pub use chaincode::Chaincode;
pub use check::Problems;
pub use compile::{Compile, CompileCache, CompileOverride};
pub use delivery::Delivery;
pub use docker::{Docker, DockerAddress, DockerTls};
pub use error::{Error, Notice, Origin, Problem};
pub use images::{BuiltRegistry, ImageMode, Images, Password, Registry, Scheme};
pub use kubernetes::{HostAlias, Kubernetes, PullPolicy};
pub use listen::{Addresses, Listen, ListenTls, TcpAddress};
pub use log::{Log, LogColor, LogFormat};
pub use oci::Oci;
pub use pattern::Pattern;
pub use pod_template::{Override, PodTemplate};
pub use proxy::Proxy;
pub use quantity::{Quantities, Quantity};
pub use reference::reference;
pub use role::{Reach, Roles, RuntimeChoice, RuntimeKind, Surrounding};
pub use run_as::RunAs;
pub use s3::{Addressing, S3};
pub use store::Store;
pub use tenant_pods::{TenantChaincode, TenantCompile, joined};
pub use tenants::{Clients, KnownTenant, Tenants};

pub use draft::Origins;
pub use environment::Setting;

/// Where a file is looked for when none is named, in this order.
pub const DEFAULT_FILES: [&str; 2] = ["./peitho.yml", "/etc/peitho/peitho.yml"];

/// Everything that can be set, in the spelling of `peitho.yml` (camelCase).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Where the three listeners wait.
    pub listen: Listen,
    /// Several organisations on one server, kept apart.
    pub tenants: Tenants,
    /// Where blobs and image records are kept.
    pub store: Store,
    /// How images reach the pods.
    pub images: Images,
    /// The address at which pods reach Peitho.
    pub delivery: Delivery,
    /// The cluster and namespace in which chaincode runs.
    pub kubernetes: Kubernetes,
    /// Containers on this machine, where no cluster runs them.
    pub oci: Oci,
    /// An existing Docker Engine, for the roles whose runtime is `docker`: see [its page](docker.md). Whoever reaches it is root
    /// on its host.
    pub docker: Docker,
    /// The image of Peitho's own program in pods.
    pub agent: Agent,
    /// How chaincode is compiled.
    pub compile: Compile,
    /// How chaincode runs.
    pub chaincode: Chaincode,
    /// What Peitho says of itself.
    pub log: Log,
}

impl Config {
    /// Reads `path`, or else the first of [`DEFAULT_FILES`] that exists, or none; lays the variables `env`
    /// and then `overrides` over it, and checks the whole.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem that was found, by file, line and key; [`Error::Read`],
    /// [`Error::NotText`] and [`Error::Syntax`] for the file itself.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[Setting],
    ) -> Result<Self, Error> {
        Self::load_with_origins(path, env, overrides).map(|(config, _)| config)
    }

    /// As [`Config::load`], and says where each value that is set comes from, and what to know of the file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with_origins(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[Setting],
    ) -> Result<(Self, Origins), Error> {
        let found = match path {
            Some(path) => Some(path),
            // What is there and no file, or not for us to see, is a mistake to tell.
            None => DEFAULT_FILES.iter().map(Path::new).find(|path| {
                !matches!(path.symlink_metadata(), Err(e) if e.kind() == ErrorKind::NotFound)
            }),
        };
        let keys = keys::Keys::of_config();
        let mut draft = draft::Draft::new(&keys);
        if let Some(path) = found {
            draft.add_file(path, &read(path)?)?;
        }
        draft.add_environment(env);
        draft.add_settings(overrides);
        draft.finish()
    }

    /// What is wrong with values that have the right type, in the order of the sections.
    pub fn check(&self) -> Problems {
        let mut problems = Problems::default();
        self.listen.check(&mut problems);
        let tls = &self.listen.tls;
        self.tenants.check(tls, &self.compile, &mut problems);
        self.store.check(&mut problems);
        let instance = &self.kubernetes.instance;
        self.images.check(instance, &mut problems);
        self.delivery.check(&mut problems);
        self.kubernetes.check(&mut problems);
        self.oci.check(&mut problems);
        self.docker.check(&mut problems);
        self.agent.check(&mut problems);
        self.compile.check(&mut problems);
        self.chaincode.check(&mut problems);
        self.log.check(&mut problems);
        problems
    }

    /// The configuration as YAML for people: complete, without anything that may be a secret.
    ///
    /// # Panics
    /// Never: the struct has string keys only.
    pub fn to_yaml(&self) -> String {
        let mut shown = self.clone();
        for value in shown.compile.env.values_mut() {
            "(hidden)".clone_into(value);
        }
        shown.compile.proxy = shown.compile.proxy.shown();
        let templates = [
            &mut shown.kubernetes.pod_template,
            &mut shown.compile.pod_template,
            &mut shown.chaincode.pod_template,
        ];
        let overrides = shown.chaincode.overrides.iter_mut();
        let of_tenants = shown.tenants.known.iter_mut();
        let of_tenants = of_tenants.flat_map(|known| {
            let overrides = known.chaincode.overrides.iter_mut();
            let overrides = overrides.map(|it| &mut it.pod_template);
            [
                &mut known.compile.pod_template,
                &mut known.chaincode.pod_template,
            ]
            .into_iter()
            .chain(overrides)
        });
        for template in templates
            .into_iter()
            .chain(overrides.map(|it| &mut it.pod_template))
            .chain(of_tenants)
        {
            *template = template.shown();
        }
        serde_saphyr::to_string(&shown)
            .expect("string keys and plain values always have a YAML form")
    }

    /// The JSON schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Config).to_value()
    }
}

/// The text of the file at `path`.
fn read(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let text = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let text = String::from_utf8_lossy(text);
        let line = text.rsplit('\n').next().unwrap_or_default();
        Error::NotText {
            origin: Origin::File {
                path: path.to_owned(),
                line: text.matches('\n').count() as u64 + 1,
                column: line.chars().count() as u64 + 1,
            },
        }
    })
}

#[cfg(test)]
mod tests;
