//! Names, labels and annotations of Kubernetes objects: the only place that makes one (design D13).
//!
//! A name is `<prefix>-<slug>-<hash>[-<nonce>]` and at most 63 characters, whatever peers call their
//! containers. The slug is for people; the hash identifies. Originals live in annotations.

use std::collections::BTreeMap;

use super::{CompileKey, ContainerId, ContainerKey, Digest, InstanceName, SpareId, Tenant};

/// Label: which program manages the object. Its value is [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] on every object of ours.
pub const MANAGER: &str = "peitho";
/// Label: which Peitho it belongs to, an [`InstanceName`].
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: `chaincode`, `compile` or `instance`.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label: the tenant.
pub const TENANT: &str = "peitho.dev/tenant";
/// Label: hash of tenant and container name, 16 hexadecimal digits; equal on record and pods.
pub const CONTAINER: &str = "peitho.dev/container";
/// Label: the container's id, its first 32 hexadecimal digits.
pub const CONTAINER_ID: &str = "peitho.dev/container-id";
/// Label: the compile key, its first 32 hexadecimal digits.
pub const COMPILE: &str = "peitho.dev/compile";
/// Label: the id of a container that was made ahead of need.
pub const SPARE: &str = "peitho.dev/spare";
/// Annotation: on a compile's Secret, the name of the pod and Secret that were made ahead of need and became its own.
pub const SPARE_NAME: &str = "peitho.dev/spare-name";
/// Annotation: on a compile's Secret, that the agent in that pod has heard of this compile.
pub const SPARE_HEARD: &str = "peitho.dev/spare-heard";
/// Annotation: the container name as the peer spells it.
pub const CONTAINER_NAME: &str = "peitho.dev/container-name";
/// Annotation: `CORE_CHAINCODE_ID_NAME`, the one true name of the chaincode.
pub const PACKAGE_ID: &str = "peitho.dev/package-id";
/// Annotation: the image as the peer names it.
pub const IMAGE: &str = "peitho.dev/image";
/// Annotation: how the last launch ended, where its pod is gone: JSON, written by the runtime.
pub const OUTCOME: &str = "peitho.dev/outcome";
/// Annotation: a random number of the order that made the object: after a lost reply it tells one's own
/// object from another's.
pub const ORDER: &str = "peitho.dev/order";
/// Annotation: the whole compile key.
pub const COMPILE_KEY: &str = "peitho.dev/compile-key";
/// Annotation: renewed on a compile's Secret by each process that waits for the compile; its value is for people.
pub const HELD: &str = "peitho.dev/held";
/// Annotation: what an object is for, in a sentence for people who find it.
pub const DESCRIPTION: &str = "peitho.dev/description";

/// The value of [`COMPONENT`] on records and pods of chaincode.
pub const CHAINCODE_COMPONENT: &str = "chaincode";
/// The value of [`COMPONENT`] on Secrets and pods of compiles.
pub const COMPILE_COMPONENT: &str = "compile";
/// The value of [`COMPONENT`] on what all replicas share.
pub const INSTANCE_COMPONENT: &str = "instance";

/// Labels of a chaincode's record and pods.
pub fn chaincode_labels(
    instance: &InstanceName,
    key: &ContainerKey,
    id: &ContainerId,
) -> BTreeMap<String, String> {
    let mut labels = common_labels(instance, CHAINCODE_COMPONENT);
    labels.insert(TENANT.to_owned(), tenant_label(&key.tenant));
    labels.insert(CONTAINER.to_owned(), container_hash(instance, key));
    labels.insert(CONTAINER_ID.to_owned(), id_label(id));
    labels
}

/// Labels of a compile's Secret and pod.
pub fn compile_labels(
    instance: &InstanceName,
    tenant: &Tenant,
    key: &CompileKey,
) -> BTreeMap<String, String> {
    let mut labels = common_labels(instance, COMPILE_COMPONENT);
    labels.insert(TENANT.to_owned(), tenant_label(tenant));
    labels.insert(COMPILE.to_owned(), key.digest().hex()[..32].to_owned());
    labels
}

/// Labels of the Secret and the pod of a container that was made ahead of need.
pub fn spare_labels(
    instance: &InstanceName,
    tenant: &Tenant,
    id: &SpareId,
) -> BTreeMap<String, String> {
    let mut labels = common_labels(instance, COMPILE_COMPONENT);
    labels.insert(TENANT.to_owned(), tenant_label(tenant));
    labels.insert(SPARE.to_owned(), id.to_string());
    labels
}

/// Labels of what all replicas of one instance share.
pub fn instance_labels(instance: &InstanceName) -> BTreeMap<String, String> {
    common_labels(instance, INSTANCE_COMPONENT)
}

/// Selects every object of one Peitho.
pub fn selector(instance: &InstanceName) -> String {
    format!("{MANAGED_BY}={MANAGER},{INSTANCE}={instance}")
}

/// Selects the records and pods of all chaincode of one Peitho.
pub fn chaincode_selector(instance: &InstanceName) -> String {
    format!("{},{COMPONENT}={CHAINCODE_COMPONENT}", selector(instance))
}

/// Selects the record and the pods of one container.
pub fn container_selector(instance: &InstanceName, key: &ContainerKey) -> String {
    format!(
        "{},{CONTAINER}={}",
        chaincode_selector(instance),
        container_hash(instance, key)
    )
}

/// Selects the record of the container of `tenant` with `id`. Labels are hashes: compare what is found.
pub fn id_selector(instance: &InstanceName, tenant: &Tenant, id: &ContainerId) -> String {
    format!(
        "{},{TENANT}={},{CONTAINER_ID}={}",
        chaincode_selector(instance),
        tenant_label(tenant),
        id_label(id)
    )
}

/// Selects the records and pods of all chaincode of `tenant`. The label is a hash for some: compare what is found.
pub fn tenant_selector(instance: &InstanceName, tenant: &Tenant) -> String {
    format!(
        "{},{TENANT}={}",
        chaincode_selector(instance),
        tenant_label(tenant)
    )
}

/// Selects the Secrets and pods of all compiles of one Peitho, those made ahead of need among them.
pub fn all_compiles_selector(instance: &InstanceName) -> String {
    format!("{},{COMPONENT}={COMPILE_COMPONENT}", selector(instance))
}

/// The key in a record's `data` of the file that is put at `path`: keys may not hold `/`.
pub fn file_key(path: &str) -> String {
    format!("f-{}", &Digest::of(path.as_bytes()).hex()[..32])
}

/// Whether a label or annotation is one of those that are made here.
pub fn is_own(name: &str) -> bool {
    [MANAGED_BY, INSTANCE, COMPONENT].contains(&name) || name.starts_with("peitho.dev/")
}

fn common_labels(instance: &InstanceName, component: &str) -> BTreeMap<String, String> {
    [
        (MANAGED_BY, MANAGER),
        (INSTANCE, instance.as_str()),
        (COMPONENT, component),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A tenant may begin or end with `-`, a label's value may not: then its hash stands there, in a form
/// that no tenant's own name has.
fn tenant_label(tenant: &Tenant) -> String {
    let name = tenant.as_str();
    if name.starts_with('-') || name.ends_with('-') {
        format!("hash_{}", &Digest::of(name.as_bytes()).hex()[..32])
    } else {
        name.to_owned()
    }
}

fn id_label(id: &ContainerId) -> String {
    let mut text = id.to_string();
    text.truncate(32);
    text
}

/// What a chaincode's record is called: stable for instance, tenant and container, so that the API
/// server's 409 decides who of two creators wins.
pub fn record(instance: &InstanceName, key: &ContainerKey) -> String {
    format!(
        "cc-{}-{}",
        slug(key.name.as_str()),
        container_hash(instance, key)
    )
}

/// What the pod of one launch is called: the record's name and eight digits of the record's UID. One
/// record is launched at most once under one name, so a second `start` meets the API server's 409.
pub fn pod(record: &str, record_uid: &str) -> String {
    format!("{record}-{}", &Digest::of(record_uid.as_bytes()).hex()[..8])
}

/// Whether a pod of ours may be called `name`: a first sieve, which others' pods may pass.
pub fn may_be_pod(name: &str) -> bool {
    name.starts_with("cc-") || name.starts_with("compile-")
}

/// What the Secret and the pod of a compile are called: a second replica, or Peitho after a restart,
/// finds the run that goes on.
pub fn compile(instance: &InstanceName, key: &CompileKey) -> String {
    let hash = Digest::of(format!("{instance}\0{key}").as_bytes()).hex();
    format!("compile-{}", &hash[..32])
}

/// What the Secret and the pod of a container that was made ahead of need are called.
pub fn spare(id: &SpareId) -> String {
    format!("compile-spare-{id}")
}

/// The id in such a name.
pub fn spare_of(name: &str) -> Option<SpareId> {
    name.strip_prefix("compile-spare-")?.parse().ok()
}

/// The Secret with what all replicas of one instance share.
pub fn instance_secret(instance: &InstanceName) -> String {
    format!("{instance}-instance")
}

/// The Secret with which nodes pull what was built.
pub fn pull_secret(instance: &InstanceName) -> String {
    format!("{instance}-pull")
}

/// The value of [`CONTAINER`].
pub fn container_hash(instance: &InstanceName, key: &ContainerKey) -> String {
    let text = format!("{instance}\0{}\0{}", key.tenant, key.name);
    Digest::of(text.as_bytes()).hex()[..16].to_owned()
}

/// The readable part: what stands between the peer's prefix and the package hash where the name is a
/// peer's, in the characters of a DNS label, at most 24 of them.
fn slug(name: &str) -> String {
    let named = match name.rsplit_once(['-', '.', '_']) {
        Some((front, hash)) if hash.len() == 64 => front,
        _ => name,
    };
    let clean: String = named
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let mut tail = clean.as_str();
    if clean.len() > 24 {
        let cut = &clean[clean.len() - 24..];
        tail = cut
            .split_once('-')
            .map_or(cut, |(_half_a_word, whole)| whole);
    }
    let slug = tail.trim_matches('-');
    if slug.is_empty() {
        "x".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ContainerKey {
        ContainerKey {
            tenant: crate::names::Tenant::default_tenant(),
            name: name.parse().unwrap(),
        }
    }

    #[test]
    fn names_fit_kubernetes_whatever_the_peer_says() {
        let long = format!("net-peer0.org1.example.com-simple_1-{}", "ab".repeat(32));
        let instance = InstanceName::default();
        for name in [&long, "A", &"x_".repeat(200), "a.b.c--"] {
            let record = record(&instance, &key(name));
            let pod = pod(&record, "0b5f5a5c-1111-2222-3333-444455556666");
            assert!(pod.len() <= 63, "{pod}");
            assert!(
                pod.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{pod}"
            );
        }
        assert!(
            record(&instance, &key(&long)).starts_with("cc-example-com-simple-1-"),
            "{}",
            record(&instance, &key(&long))
        );
    }

    #[test]
    fn label_values_are_valid_for_every_tenant() {
        for tenant in ["default", "-", "-a", "a-", "0"] {
            let value = tenant_label(&tenant.parse().unwrap());
            let ends = [value.chars().next(), value.chars().next_back()];
            assert!(
                value.len() <= 63 && ends.iter().all(|c| c.unwrap().is_ascii_alphanumeric()),
                "{tenant}: {value}"
            );
        }
        assert_ne!(
            tenant_label(&"-a".parse().unwrap()),
            tenant_label(&"a-".parse().unwrap())
        );
    }

    #[test]
    fn a_spare_is_known_by_its_name_and_no_compile_is_taken_for_one() {
        let id = SpareId::random();
        assert_eq!(spare_of(&spare(&id)), Some(id));
        assert!(may_be_pod(&spare(&id)));
        let key = CompileKey::new(Digest::of(b"compile"));
        assert_eq!(spare_of(&compile(&InstanceName::default(), &key)), None);
    }

    #[test]
    fn equal_slugs_do_not_make_equal_names() {
        let instance = InstanceName::default();
        assert_ne!(
            record(&instance, &key("a_b")),
            record(&instance, &key("a-b"))
        );
    }
}
