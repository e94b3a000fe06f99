//! The configuration as one typed struct (design §7): sections are handed on one by one, never the whole.
//! Order: defaults < file < `PEITHO_SECTION__KEY` < flags. Unknown keys are refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that can be set, in the spelling of `peitho.yml` (camelCase).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Where the three listeners wait.
    pub listen: Listen,
    /// Where blobs and image records are kept.
    pub store: Store,
    /// How images reach the pods.
    pub images: Images,
    /// The address at which pods reach Peitho.
    pub delivery: Delivery,
    /// The cluster and namespace in which chaincode runs.
    pub kubernetes: Kubernetes,
    /// The image of Peitho's own program in pods.
    pub agent: Agent,
    /// How chaincode is compiled.
    pub compile: Compile,
    /// How chaincode runs.
    pub chaincode: Chaincode,
    /// What Peitho says of itself.
    pub log: Log,
}

/// The three listeners (design D17): they can be firewalled apart.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// The Engine API, for peers.
    pub engine_api: SocketAddr,
    /// The pull API and the uploads, for pods; always TLS.
    pub delivery: SocketAddr,
    /// Health, metrics, pages, for operators.
    pub admin: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0u16; 8], port));
        Self {
            engine_api: any(8080),
            delivery: any(8081),
            admin: any(9090),
        }
    }
}

/// The content-addressed store (design D4).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Store {
    /// A directory on a volume that outlives Peitho.
    pub directory: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/peitho"),
        }
    }
}

/// Images and the registries they come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Images {
    /// How the built program reaches its pod.
    pub mode: ImageMode,
    /// Registries that need more than an anonymous request over https.
    pub registries: Vec<Registry>,
}

/// How the built program reaches its pod (design D5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ImageMode {
    /// No registry: the pod runs the base image and fetches the new layer from Peitho.
    #[default]
    Delivery,
}

/// One registry, by the host that image names carry.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// Host and port as in image names, for example `registry.example.com:5000`.
    pub host: String,
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: Scheme,
    /// The user, where the registry wants one.
    #[serde(default)]
    pub username: Option<String>,
    /// A file that holds the password and nothing else; a line end at its end is ignored.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// The protocol of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    #[default]
    Https,
}

/// What pods talk to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delivery {
    /// `https://host:port` of the delivery listener as pods reach it. The host stands in the listener's
    /// certificate.
    pub address: String,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            address: "https://peitho:8081".to_owned(),
        }
    }
}

/// The cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Namespace of chaincode and compile pods. Empty: that of Peitho's own pod, or of the kubeconfig.
    pub namespace: String,
    /// A kubeconfig file. Empty: the service account of the pod, else `KUBECONFIG`, else the default file.
    pub kubeconfig: Option<PathBuf>,
    /// Tells several Peithos in one namespace apart; part of every object's labels.
    pub instance: String,
    /// Lines added to `/etc/hosts` of chaincode pods.
    pub host_aliases: Vec<HostAlias>,
    /// Names of Secrets with which the node pulls images.
    pub image_pull_secrets: Vec<String>,
    /// Seconds that a pod may stay unschedulable before the launch fails (autoscalers need time).
    pub scheduling_grace_seconds: u64,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            kubeconfig: None,
            instance: "peitho".to_owned(),
            host_aliases: Vec::new(),
            image_pull_secrets: Vec::new(),
            scheduling_grace_seconds: 120,
        }
    }
}

/// One line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostAlias {
    /// The address, IPv4 or IPv6.
    pub ip: std::net::IpAddr,
    /// The names that resolve to it.
    pub hostnames: Vec<String>,
}

/// Peitho's own program in pods (design D5, D6).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Agent {
    /// The image that holds the program, normally the one that the server itself runs.
    pub image: String,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            image: format!("peitho:{}", env!("CARGO_PKG_VERSION")),
        }
    }
}

/// Requests and limits in Kubernetes' quantities, for example `cpu: 500m`, `memory: 2Gi`.
pub type Quantities = BTreeMap<String, String>;

/// Compile pods.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Compile {
    /// How many compiles run at once; others wait in a queue.
    pub parallel: usize,
    /// Seconds after which a compile is ended.
    pub timeout_seconds: u64,
    /// The peers' `chaincode.installTimeout` in seconds; at 80 % of it the log gets a warning.
    pub install_timeout_seconds: u64,
    /// Environment added to each compile, for example `GOPROXY`.
    pub env: BTreeMap<String, String>,
    /// Resource requests of a compile pod.
    pub requests: Quantities,
    /// Resource limits of a compile pod.
    pub limits: Quantities,
    /// The numeric user (and group) where the builder image names none by number.
    pub run_as_user: i64,
}

impl Default for Compile {
    fn default() -> Self {
        Self {
            parallel: 4,
            timeout_seconds: 30 * 60,
            install_timeout_seconds: 300,
            env: BTreeMap::new(),
            requests: quantities([("cpu", "200m"), ("memory", "512Mi")]),
            limits: quantities([("cpu", "4"), ("memory", "4Gi")]),
            run_as_user: 500,
        }
    }
}

/// Chaincode pods.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Chaincode {
    /// Resource requests of a chaincode pod: small, or idle chaincode fills a node.
    pub requests: Quantities,
    /// The numeric user (and group) where the runtime image names none by number.
    pub run_as_user: i64,
}

impl Default for Chaincode {
    fn default() -> Self {
        Self {
            requests: quantities([("cpu", "10m"), ("memory", "64Mi")]),
            run_as_user: 500,
        }
    }
}

fn quantities<const N: usize>(pairs: [(&str, &str); N]) -> Quantities {
    pairs
        .into_iter()
        .map(|(name, quantity)| (name.to_owned(), quantity.to_owned()))
        .collect()
}

/// The log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,peitho::runtime=trace`.
    pub level: String,
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// Colours in the `text` format.
    pub color: LogColor,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
            color: LogColor::Auto,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogColor {
    /// When the log is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
