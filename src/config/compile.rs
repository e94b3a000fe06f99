//! Section `compile`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::{Quantities, Quantity, quantities};
use super::{
    Pattern, PodTemplate, Problems, Proxy, Roles, RunAs, RuntimeChoice, RuntimeKind, joined,
};

/// Compile pods.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Compile {
    /// What runs the containers: `auto`, `kubernetes`, `oci` or `docker`. `auto` is `kubernetes` in a pod and where
    /// `kubernetes.kubeconfig` is set, and `oci` elsewhere.
    pub runtime: RuntimeChoice,
    /// How many compiles run at once; others wait in a queue.
    pub parallel: usize,
    /// Seconds after which a compile is ended.
    pub timeout_seconds: u64,
    /// The peers' `chaincode.installTimeout` in seconds; at 80 % of it the log gets a warning.
    pub install_timeout_seconds: u64,
    /// Seconds for which a compile goes on while nobody waits for it: time for a peer, or for a restarted Peitho's
    /// peers, to ask again.
    pub abandoned_after_seconds: u64,
    /// Environment added to each compile, for example `GOPROXY`. Whoever can read pods sees the values: passwords of
    /// proxies belong into `compile.proxy`.
    pub env: BTreeMap<String, String>,
    /// Resource requests of a compile pod.
    pub requests: Quantities,
    /// Resource limits of a compile pod.
    pub limits: Quantities,
    /// The numeric user (and group) where the builder image names none by number; `none` leaves them to the platform,
    /// as OpenShift wants it.
    pub run_as_user: RunAs,
    /// Patterns over full names of builder images, for example `docker.io/hyperledger/*`; `*` is any characters, `?`
    /// one. Empty: any image.
    pub allowed_images: Vec<Pattern>,
    /// A file of PEM certificates that compiles trust. Go, Node.js, git and curl are told of it, Java is not; some
    /// of them then trust no others, so it needs the public ones too where those are needed.
    pub ca_bundle: Option<PathBuf>,
    /// The way out of the cluster for compiles: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in capitals and in small
    /// letters. Tools of Java read none of them: they want `MAVEN_OPTS` or `GRADLE_OPTS` in `compile.env`.
    pub proxy: Proxy,
    /// How many pods are made ahead of need, of all tenants together: each waits for a compile such as its tenant's last one, which then needs
    /// not wait for a pod. They cost what compile pods cost. On Kubernetes only: see [their page](warm-pods.md).
    pub warm_pods: usize,
    /// Seconds for which a pod that was made ahead of need waits at the most.
    pub warm_pod_idle_seconds: u64,
    /// What compilers keep from one compile of a tenant to the next: see [its page](compile-caches.md).
    pub cache: CompileCache,
    /// A part of a pod that is laid over every compile pod, after `kubernetes.podTemplate`. Results are kept for
    /// the templates that they were made with.
    pub pod_template: PodTemplate,
    /// Requests and limits for some builder images, and so by language: those of each item whose image fits are laid over
    /// `compile.requests` and `compile.limits`, resource by resource, in this order.
    pub overrides: Vec<CompileOverride>,
}

/// Resources for compiles by some builder images.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CompileOverride {
    /// A pattern over names of builder images as in `compile.allowedImages`, for example `*fabric-javaenv*`.
    pub image: Pattern,
    /// Resource requests, each in place of that before it. One that exceeds its limit becomes it.
    #[serde(skip_serializing_if = "Quantities::is_empty")]
    pub requests: Quantities,
    /// Resource limits, each in place of that before it.
    #[serde(skip_serializing_if = "Quantities::is_empty")]
    pub limits: Quantities,
}

impl CompileOverride {
    /// `limits`: those that it is laid over.
    pub(super) fn check(&self, key: &str, limits: &Quantities, problems: &mut Problems) {
        if self.image.is_empty() {
            let accepted = "a pattern such as *fabric-javaenv*";
            problems.add(format!("{key}.image"), "", accepted);
        }
        if self.requests.is_empty() && self.limits.is_empty() {
            problems.add(key, "without resources", "requests, limits, or both");
        }
        let requests = format!("{key}.requests");
        problems.quantities(&requests, &self.requests);
        problems.quantities(&format!("{key}.limits"), &self.limits);
        problems.within_limits(&requests, &self.requests, &joined(limits, &self.limits));
    }
}

/// `compile.cache`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CompileCache {
    /// Whether it is kept. What is kept already stays in the store until it is wiped, or gives way to something else.
    pub enabled: bool,
    /// The most that is kept for one tenant and builder image, as a quantity such as `2Gi`. What was not changed for the longest time goes
    /// first.
    pub max_size: String,
}

impl Default for CompileCache {
    fn default() -> Self {
        Self {
            enabled: true,
            max_size: "2Gi".to_owned(),
        }
    }
}

impl CompileCache {
    /// [`CompileCache::max_size`] in bytes; `None` where nothing is kept.
    pub fn bytes(&self) -> Option<u64> {
        let checked = self.max_size.parse::<Quantity>();
        let bytes = checked.map_or(0, Quantity::whole);
        (self.enabled && bytes > 0).then_some(bytes)
    }
}

impl Default for Compile {
    fn default() -> Self {
        Self {
            runtime: RuntimeChoice::default(),
            parallel: 4,
            timeout_seconds: 30 * 60,
            install_timeout_seconds: 300,
            abandoned_after_seconds: 30,
            env: BTreeMap::new(),
            requests: quantities([("cpu", "200m"), ("memory", "512Mi")]),
            limits: quantities([("cpu", "4"), ("memory", "4Gi")]),
            run_as_user: RunAs::User(500),
            allowed_images: Vec::new(),
            ca_bundle: None,
            proxy: Proxy::default(),
            warm_pods: 0,
            warm_pod_idle_seconds: 30 * 60,
            cache: CompileCache::default(),
            pod_template: PodTemplate::default(),
            overrides: Vec::new(),
        }
    }
}

impl Compile {
    /// What is set and changes nothing with `roles`, told.
    pub fn idle(&self, roles: Roles) -> Option<String> {
        let is_idle = self.warm_pods > 0 && roles.compile != RuntimeKind::Kubernetes;
        is_idle
            .then(|| "compile.warmPods has no effect: compile.runtime is not kubernetes".to_owned())
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        problems.number("compile.parallel", self.parallel, 1..=1000);
        problems.number("compile.warmPods", self.warm_pods, 0..=100);
        let key = "compile.warmPodIdleSeconds";
        problems.number(key, self.warm_pod_idle_seconds, 10..=86_400);
        problems.number("compile.timeoutSeconds", self.timeout_seconds, 1..=86_400);
        let key = "compile.installTimeoutSeconds";
        problems.number(key, self.install_timeout_seconds, 1..=86_400);
        let key = "compile.abandonedAfterSeconds";
        problems.number(key, self.abandoned_after_seconds, 10..=86_400);
        for name in self.env.keys() {
            let mut bytes = name.bytes();
            let fits = bytes
                .next()
                .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
            if !fits {
                let accepted = "a name such as GOPROXY: letters, digits, _, - and .";
                problems.add(format!("compile.env.{name}"), name, accepted);
            }
        }
        problems.quantities("compile.requests", &self.requests);
        problems.quantities("compile.limits", &self.limits);
        problems.within_limits("compile.requests", &self.requests, &self.limits);
        for (index, it) in self.overrides.iter().enumerate() {
            it.check(
                &format!("compile.overrides[{index}]"),
                &self.limits,
                problems,
            );
        }
        problems.user("compile.runAsUser", self.run_as_user);
        self.proxy.check("compile.proxy", problems);
        if self.cache.max_size.parse::<Quantity>().is_err() {
            let accepted = "a quantity such as 500Mi or 2Gi";
            problems.add("compile.cache.maxSize", &self.cache.max_size, accepted);
        }
        for (index, pattern) in self.allowed_images.iter().enumerate() {
            if pattern.is_empty() {
                let key = format!("compile.allowedImages[{index}]");
                problems.add(key, pattern, "a pattern such as docker.io/hyperledger/*");
            }
        }
    }
}

/// Values of `env` may be secrets, for example the password in a proxy's address: names only.
impl fmt::Debug for Compile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compile")
            .field("runtime", &self.runtime)
            .field("parallel", &self.parallel)
            .field("timeout_seconds", &self.timeout_seconds)
            .field("install_timeout_seconds", &self.install_timeout_seconds)
            .field("abandoned_after_seconds", &self.abandoned_after_seconds)
            .field("env", &self.env.keys())
            .field("requests", &self.requests)
            .field("limits", &self.limits)
            .field("run_as_user", &self.run_as_user)
            .field("allowed_images", &self.allowed_images)
            .field("ca_bundle", &self.ca_bundle)
            .field("proxy", &self.proxy)
            .field("warm_pods", &self.warm_pods)
            .field("warm_pod_idle_seconds", &self.warm_pod_idle_seconds)
            .field("cache", &self.cache)
            .field("pod_template", &self.pod_template)
            .field("overrides", &self.overrides)
            .finish()
    }
}
