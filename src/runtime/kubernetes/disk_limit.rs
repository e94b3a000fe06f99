//! How much of its node's disk a compile's pod may take: beyond a limit of its own the kubelet ends it, and the install fails. Read from the pod as
//! it would be sent, with the operator's templates over it. What a LimitRange adds on the way nobody here sees. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Settings;
use super::compile_pod::{Order, Purpose, pod};
use crate::config::Quantity;
use crate::image_spec::ImageFacts;
use crate::names::{CompileKey, Digest, ImageName, Tenant};
use crate::runtime::{Resolution, compile_agent};

/// The resource.
const DISK: &str = "ephemeral-storage";

/// The medium of a volume that takes nothing of it.
const MEMORY: &str = "Memory";

/// In bytes; `None` where the pod has no such limit.
pub(super) fn of(tenant: &Tenant, image: &ImageName, settings: &Settings) -> Option<u64> {
    let order = Order {
        purpose: Purpose::Compile {
            key: &CompileKey::new(Digest::of(b"")),
            command: &[],
        },
        tenant,
        image,
        facts: &ImageFacts::default(),
        env: &[],
        working_dir: None,
        user: None,
        resolution: &Resolution::default(),
    };
    // Templates that do not fit together are told where a pod is made of them.
    let pod = pod(&order, settings, &ObjectMeta::default()).ok()?;
    of_pod(&pod)
}

fn of_pod(pod: &Pod) -> Option<u64> {
    let spec = pod.spec.as_ref()?;
    let volumes = spec.volumes.iter().flatten();
    let mut home = volumes.filter(|it| it.name == compile_agent::HOME_VOLUME);
    // A claim is no disk of the node's.
    let home = home.next()?.empty_dir.as_ref()?;
    let own = home.size_limit.as_ref().and_then(|it| bytes(&it.0));
    if home.medium.as_deref() == Some(MEMORY) {
        return own;
    }
    // As the kubelet reckons it: those that have a limit together, or a greater one of what runs before them.
    let together = spec.containers.iter().filter_map(limit);
    let together = together.reduce(u64::saturating_add);
    let before = spec.init_containers.iter().flatten().filter_map(limit);
    let all = together.max(before.max());
    all.into_iter().chain(own).min()
}

fn limit(container: &Container) -> Option<u64> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    bytes(&limits.get(DISK)?.0)
}

fn bytes(quantity: &str) -> Option<u64> {
    quantity.parse().ok().map(Quantity::whole)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{provision, settings};
    use super::super::{Provision, Templates};
    use super::*;
    use serde_json::{Value, json};

    use crate::config::{ByTenant, Chaincode, Compile, Kubernetes, Quantities, Tenants};

    fn limit_of(limits: &[(&str, &str)], spec: serde_json::Value) -> Option<u64> {
        let template = serde_json::json!({"spec": spec});
        let compile = Compile {
            pod_template: serde_json::from_value(template).unwrap(),
            ..Compile::default()
        };
        let (kubernetes, chaincode) = (Kubernetes::default(), Chaincode::default());
        let templates = Templates::read(&kubernetes, &compile, &chaincode, &Tenants::default());
        let limits = limits.iter();
        let limits = limits.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings {
            provisions: ByTenant::from(Provision {
                compile_limits: limits.collect::<Quantities>().into(),
                templates: templates.unwrap().general().clone(),
                ..provision()
            }),
            ..settings()
        };
        let image = "hyperledger/fabric-ccenv:2.5".parse().unwrap();
        of(&Tenant::default_tenant(), &image, &settings)
    }

    #[test]
    fn the_limit_is_that_of_the_pod_as_it_is_sent() {
        let home = |volume: Value| json!({"volumes": [{"name": "home", "emptyDir": volume}]});
        assert_eq!(limit_of(&[("memory", "4Gi")], json!({})), None);
        let own = [(DISK, "3Gi")];
        assert_eq!(limit_of(&own, json!({})), Some(3 << 30));
        let limits = json!({"limits": {DISK: "1Gi"}});
        let over = json!({"containers": [{"name": "compile", "resources": limits}]});
        assert_eq!(limit_of(&own, over.clone()), Some(1 << 30));
        assert_eq!(limit_of(&[], over), Some(1 << 30));
        let small = json!({"sizeLimit": "512Mi"});
        assert_eq!(limit_of(&own, home(small)), Some(512 << 20));
        let memory = json!({"medium": "Memory"});
        assert_eq!(limit_of(&own, home(memory)), None);
        let memory = json!({"medium": "Memory", "sizeLimit": "1Gi"});
        assert_eq!(limit_of(&own, home(memory)), Some(1 << 30));
        let other = json!({"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "512Mi"}}]});
        assert_eq!(limit_of(&[], other), None);
        let claim = json!({"claimName": "cache"});
        let claim = json!({"volumes": [{"name": "home", "persistentVolumeClaim": claim}]});
        assert_eq!(limit_of(&own, claim), None);
    }
}
