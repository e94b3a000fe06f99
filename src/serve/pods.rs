//! The runtime on Kubernetes, put together: one for each namespace that tenants have, and all of them as one. `runtimes`
//! calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Bearing;
use crate::config::{self, ByTenant, Config, joined};
use crate::grant::Grants;
use crate::names::{Digest, InstanceName, Tenant};
use crate::registry::Registries;
use crate::runtime::kubernetes::{
    Connection, Kubernetes, Provision, PullSecret, Settings, Templates, check_access, connect,
};
use crate::runtime::{Error, InstanceMaterial, Namespaces, Runtime, Spares, Surroundings};
use crate::store::Store;

/// An API server that lets Peitho do all that it has to in each namespace.
pub(super) struct Access {
    pub(super) connection: Connection,
    places: Places,
}

/// The namespaces in use, with the tenants whose pods are there.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    /// That of those without one of their own.
    general: (String, Vec<Tenant>),
    /// Each once.
    others: Vec<(String, Vec<Tenant>)>,
}

/// What runs pods.
pub(super) struct Pods {
    /// All of it.
    pub(super) runtime: Arc<dyn Runtime>,
    /// By the names of their checks.
    pub(super) each: Vec<(String, Bearing, Arc<Kubernetes>)>,
    /// Digest of what is given to a tenant's compiles.
    pub(super) compile_digest: ByTenant<Option<Digest>>,
    /// For people.
    pub(super) found: String,
}

/// What pods need beside the configuration.
pub(super) struct Needs<'a> {
    pub(super) instance: &'a InstanceName,
    pub(super) material: &'a InstanceMaterial,
    pub(super) surroundings: &'a Surroundings,
    pub(super) store: &'a Store,
    pub(super) registries: &'a Registries,
    pub(super) grants: &'a Grants,
}

impl Access {
    /// Connects, and asks for the rights.
    ///
    /// # Errors
    /// In one line that says what is missing and how to get it.
    pub(super) async fn gain(config: &Config) -> anyhow::Result<Self> {
        let connection = connect(&config.kubernetes).await?;
        let places = Places::of(&connection.namespace, &config.tenants);
        check_access(&connection, &places.names()).await?;
        Ok(Self { connection, places })
    }

    /// Starts a runtime for each namespace.
    ///
    /// # Errors
    /// When the settings cannot serve.
    pub(super) async fn start(
        self,
        config: &Config,
        templates: &ByTenant<Templates>,
        needs: &Needs<'_>,
    ) -> Result<Pods, Error> {
        let Self { connection, places } = self;
        let Connection { client, server, .. } = connection;
        let pull_secret = pull_secret(config, needs.registries).await;
        let settings = settings(config, needs, provisions(config, templates), pull_secret);
        let start = async |(namespace, tenants): &(String, Vec<Tenant>)| {
            let settings = Settings {
                namespace: namespace.clone(),
                tenants: tenants.clone(),
                ..settings.clone()
            };
            let (store, grants) = (needs.store.clone(), needs.grants.clone());
            Kubernetes::start(client.clone(), settings, store, grants).await
        };
        let found = match &places.names()[..] {
            [one] => format!("namespace {one} of {server}"),
            all => format!("namespaces {} of {server}", all.join(", ")),
        };
        let general = start(&places.general).await?;
        let mut each = vec![(
            "kubernetes".to_owned(),
            Bearing::Everyone,
            Arc::clone(&general),
        )];
        let mut others: Vec<(Arc<dyn Runtime>, _)> = Vec::new();
        for place in places.others {
            let runtime = start(&place).await?;
            let (namespace, tenants) = place;
            let check = format!("kubernetes/{namespace}");
            each.push((check, Bearing::Some, Arc::clone(&runtime)));
            others.push((runtime, tenants));
        }
        Ok(Pods {
            runtime: Arc::new(Namespaces::new(general, others)),
            each,
            compile_digest: settings.compile_digest(),
            found,
        })
    }
}

impl Places {
    fn of(general: &str, tenants: &config::Tenants) -> Self {
        let own = tenants.each(general, |_, known| known.own_namespace());
        let all: BTreeSet<Tenant> = tenants.names().chain([Tenant::default_tenant()]).collect();
        let mut places = BTreeMap::from([(general, Vec::new())]);
        for tenant in all {
            let namespace = *own.of(&tenant);
            places.entry(namespace).or_default().push(tenant);
        }
        let theirs = places.remove(general).unwrap_or_default();
        let others = places.into_iter().map(|(name, it)| (name.to_owned(), it));
        Self {
            general: (general.to_owned(), theirs),
            others: others.collect(),
        }
    }

    fn names(&self) -> Vec<String> {
        let all = std::iter::once(&self.general).chain(&self.others);
        all.map(|(name, _)| name.clone()).collect()
    }
}

/// What each tenant's pods are given.
fn provisions(config: &Config, templates: &ByTenant<Templates>) -> ByTenant<Provision> {
    let (compile, chaincode) = (&config.compile, &config.chaincode);
    let general = Provision {
        compile_requests: compile.requests_by_builder(None),
        compile_limits: compile.limits_by_builder(None),
        chaincode_requests: chaincode.requests.clone(),
        templates: templates.general().clone(),
    };
    config.tenants.each(general, |_, known| {
        let tenant = known.tenant()?;
        let has_own = !known.compile.is_empty() || !known.chaincode.is_empty();
        has_own.then(|| Provision {
            compile_requests: compile.requests_by_builder(Some(&known.compile)),
            compile_limits: compile.limits_by_builder(Some(&known.compile)),
            chaincode_requests: joined(&chaincode.requests, &known.chaincode.requests),
            templates: templates.of(&tenant).clone(),
        })
    })
}

/// All but the place.
fn settings(
    config: &Config,
    needs: &Needs<'_>,
    provisions: ByTenant<Provision>,
    pull_secret: PullSecret,
) -> Settings {
    let Config {
        kubernetes,
        images,
        compile,
        chaincode,
        agent,
        delivery,
        ..
    } = config;
    Settings {
        namespace: String::new(),
        tenants: Vec::new(),
        instance: needs.instance.clone(),
        host_aliases: kubernetes.host_aliases.clone(),
        image_pull_secrets: kubernetes.image_pull_secrets.clone(),
        pull_secret,
        places: needs.registries.places().clone(),
        architecture: images.architecture.clone(),
        image_pull_policy: kubernetes.image_pull_policy,
        scheduling_grace: Duration::from_secs(kubernetes.scheduling_grace_seconds),
        agent_image: agent.image.clone(),
        delivery_address: delivery.for_pods().to_owned(),
        delivery_ca_pem: needs.material.ca_cert_pem.clone(),
        compile_run_as_user: compile.run_as_user,
        compile_timeout: Duration::from_secs(compile.timeout_seconds),
        spares: Spares::new(compile.warm_pods),
        spare_idle: Duration::from_secs(compile.warm_pod_idle_seconds),
        chaincode_run_as_user: chaincode.run_as_user,
        surroundings: needs.surroundings.clone(),
        provisions,
    }
}

/// For the registry that built images are pushed to.
async fn pull_secret(config: &Config, registries: &Registries) -> PullSecret {
    let Some(built) = config.images.pushed_to() else {
        return PullSecret::None;
    };
    let Some(repository) = built.repository() else {
        return PullSecret::None;
    };
    if let Some(name) = built.pull_secret.clone() {
        return PullSecret::Named { name, repository };
    }
    let logins = registries.logins().clone();
    // What a file of logins lacks today it may have tomorrow: then the push finds it, and nodes have to as well.
    let may_come = config.images.docker_config_file.is_some();
    match may_come || logins.of(&repository).await.is_some() {
        true => PullSecret::Own { repository, logins },
        false => PullSecret::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        Config::load(Some(file.path()), [], &[]).unwrap()
    }

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    #[test]
    fn each_namespace_is_there_once_with_its_tenants() {
        let config = config(
            "
tenants:
  trustPath: true
  known:
    - {name: org1, namespace: of-org1}
    - {name: org2}
    - {name: org3, namespace: of-org1}
    - {name: org4, namespace: general}
",
        );
        let names = |all: &[&str]| all.iter().map(|it| tenant(it)).collect();
        assert_eq!(
            Places::of("general", &config.tenants),
            Places {
                general: ("general".to_owned(), names(&["default", "org2", "org4"])),
                others: vec![("of-org1".to_owned(), names(&["org1", "org3"]))],
            }
        );
    }

    #[test]
    fn those_without_a_namespace_may_be_nobody() {
        let config = config("tenants: {trustPath: true, known: [{name: default, namespace: own}]}");
        let places = Places::of("general", &config.tenants);
        assert_eq!(places.names(), ["general", "own"]);
        assert_eq!(places.general.1, []);
    }

    #[test]
    fn a_tenants_quantities_take_the_place_of_the_general_ones() {
        let config = config(
            "
compile: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 2, memory: 2Gi}}
chaincode: {requests: {cpu: 5m}}
tenants:
  trustPath: true
  known:
    - {name: org1, compile: {limits: {memory: 32Mi, example.com/gpu: 1}}, chaincode: {requests: {cpu: 7m}}}
    - {name: org2, namespace: elsewhere}
",
        );
        let templates = ByTenant::default();
        let provisions = provisions(&config, &templates);
        let own: Vec<&Tenant> = provisions.own().map(|(tenant, _)| tenant).collect();
        assert_eq!(own, [&tenant("org1")]);
        let Provision {
            compile_requests,
            compile_limits,
            chaincode_requests,
            ..
        } = provisions.of(&tenant("org1"));
        let builder = "busybox".parse().unwrap();
        assert_eq!(compile_requests.of(&builder), config.compile.requests);
        let limits: Vec<_> = (compile_limits.of(&builder))
            .iter()
            .map(|(n, q)| format!("{n}={q}"))
            .collect();
        assert_eq!(limits, ["cpu=2", "example.com/gpu=1", "memory=32Mi"]);
        assert_eq!(chaincode_requests["cpu"], "7m");
        assert_eq!(
            provisions.of(&tenant("org2")).compile_limits.of(&builder),
            config.compile.limits
        );
    }
}
