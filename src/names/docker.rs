//! Names and labels of containers in a Docker Engine that Peitho uses: the only place that makes one.
//!
//! A container is called as its counterpart in Kubernetes would be, since those names are stable, short and readable
//! too. Labels hold originals: Docker limits neither their length nor their characters.

use std::collections::HashMap;

use super::kubernetes;
use super::{CompileKey, ContainerId, ContainerKey, InstanceName, Tenant};

/// Label: which Peitho the container belongs to, an [`InstanceName`]. Every container of ours has it.
pub const INSTANCE: &str = "dev.peitho.instance";
/// Label: `chaincode` or `compile`.
pub const COMPONENT: &str = "dev.peitho.component";
/// Label: the tenant.
pub const TENANT: &str = "dev.peitho.tenant";
/// Label: the container's name as the peer spells it.
pub const NAME: &str = "dev.peitho.name";
/// Label: the id that Peitho gave to the peer.
pub const ID: &str = "dev.peitho.id";
/// Label: the whole order as JSON.
pub const SPEC: &str = "dev.peitho.spec";
/// Label: the key of a compile.
pub const COMPILE_KEY: &str = "dev.peitho.compile-key";

/// The value of [`COMPONENT`] on chaincode.
pub const CHAINCODE_COMPONENT: &str = "chaincode";
/// The value of [`COMPONENT`] on compiles.
pub const COMPILE_COMPONENT: &str = "compile";

/// What stands between a container's name and a number while the container is not complete: no other name has it.
const DRAFT: &str = "_draft_";

/// What a chaincode's container is called: stable for instance, tenant and container, so that the engine's 409
/// decides who of two creators wins.
pub fn chaincode(instance: &InstanceName, key: &ContainerKey) -> String {
    format!("peitho-{}", kubernetes::record(instance, key))
}

/// What a compile's container is called.
pub fn compile(instance: &InstanceName, key: &CompileKey) -> String {
    format!("peitho-{}", kubernetes::compile(instance, key))
}

/// A name for the container that shall be called `name`, until it is complete: nobody's but the caller's.
pub fn draft(name: &str) -> String {
    format!("{name}{DRAFT}{:016x}", rand::random::<u64>())
}

/// Whether `name` was made by [`draft`]; with or without the slash that the engine puts in front.
pub fn is_draft(name: &str) -> bool {
    name.contains(DRAFT) && name.trim_start_matches('/').starts_with("peitho-")
}

/// Labels of a chaincode's container, without [`SPEC`].
pub fn chaincode_labels(
    instance: &InstanceName,
    key: &ContainerKey,
    id: &ContainerId,
) -> HashMap<String, String> {
    labels([
        (INSTANCE, instance.to_string()),
        (COMPONENT, CHAINCODE_COMPONENT.to_owned()),
        (TENANT, key.tenant.to_string()),
        (NAME, key.name.to_string()),
        (ID, id.to_string()),
    ])
}

/// Labels of a compile's container.
pub fn compile_labels(
    instance: &InstanceName,
    tenant: &Tenant,
    key: &CompileKey,
) -> HashMap<String, String> {
    labels([
        (INSTANCE, instance.to_string()),
        (COMPONENT, COMPILE_COMPONENT.to_owned()),
        (TENANT, tenant.to_string()),
        (COMPILE_KEY, key.to_string()),
    ])
}

/// The filter for every container of one Peitho, as the engine takes it: `label=value`.
pub fn of_instance(instance: &InstanceName) -> String {
    format!("{INSTANCE}={instance}")
}

/// The filter for containers whose [`COMPONENT`] is `component`.
pub fn of_component(component: &str) -> String {
    format!("{COMPONENT}={component}")
}

/// The filters for the container of `tenant` with `id`.
pub fn of_id(tenant: &Tenant, id: &ContainerId) -> [String; 2] {
    [format!("{TENANT}={tenant}"), format!("{ID}={id}")]
}

/// The filters for all chaincode of `tenant`.
pub fn of_tenant(tenant: &Tenant) -> [String; 2] {
    [
        of_component(CHAINCODE_COMPONENT),
        format!("{TENANT}={tenant}"),
    ]
}

fn labels<const N: usize>(pairs: [(&str, String); N]) -> HashMap<String, String> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_told_from_what_is_complete() {
        let instance = InstanceName::default();
        let key = ContainerKey {
            tenant: Tenant::default_tenant(),
            name: "dev-peer0-a_draft_1".parse().unwrap(),
        };
        let name = chaincode(&instance, &key);
        assert!(!is_draft(&name), "{name}");
        let draft = draft(&name);
        assert!(is_draft(&draft) && is_draft(&format!("/{draft}")));
        assert!(!is_draft("/somebody_draft_1"));
        assert_ne!(draft, super::draft(&name));
    }

    #[test]
    fn names_are_accepted_by_the_engine() {
        let instance = InstanceName::default();
        for name in ["A", "a.b_c", &"x".repeat(500)] {
            let key = ContainerKey {
                tenant: Tenant::default_tenant(),
                name: name.parse().unwrap(),
            };
            let name = draft(&chaincode(&instance, &key));
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
                "{name}"
            );
        }
    }
}
