//! What the operator lets clients run, and with which privileges (design D16). `container` asks it at create.

use super::{CreateSpec, Error};
use crate::config::Pattern;
use crate::names::{ContainerKey, ImageName, Tenant};

/// `Memory` in the `core.yaml` of peers: nobody chose it, so its loss is not worth a log line at each install.
const PEERS_MEMORY: u64 = 2 << 30;

/// The default lets any image compile, and gives no privileges.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Patterns over full names of builder images; none: any image.
    pub allowed_images: Vec<Pattern>,
    /// Capabilities that chaincode may ask for, without `CAP_`.
    pub allowed_capabilities: Vec<String>,
}

impl Policy {
    /// Whether `image` may compile.
    pub(super) fn check_builder(&self, image: &ImageName) -> Result<(), Error> {
        let fits = |pattern: &Pattern| pattern.matches_image(image);
        if self.allowed_images.is_empty() || self.allowed_images.iter().any(fits) {
            Ok(())
        } else {
            Err(Error::ImageNotAllowed(image.clone()))
        }
    }

    /// Says what of the HostConfig of a builder has no effect: its resources are those of `compile`, and it gets no
    /// privileges.
    pub(super) fn tell_ignored(&self, tenant: &Tenant, image: &ImageName, spec: &CreateSpec) {
        let ignored = ignored_of_builder(spec);
        if !ignored.is_empty() {
            tracing::info!(
                %tenant, %image, settings = ?ignored,
                "container: HostConfig settings that a compile does not take are ignored; compile.limits, and on Kubernetes compile.podTemplate, give what there is for them"
            );
        }
    }

    /// Takes from `spec` what is not allowed, and says so: once, when the container is created.
    pub(super) fn restrict(&self, key: &ContainerKey, spec: &mut CreateSpec) {
        let asked = std::mem::take(&mut spec.host.added_capabilities);
        let (allowed, denied): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .partition(|name| self.allowed_capabilities.contains(name));
        spec.host.added_capabilities = allowed;
        if !denied.is_empty() {
            tracing::warn!(
                container = %key, capabilities = ?denied,
                "container: CapAdd is dropped; chaincode.allowedCapabilities would allow it"
            );
        }
        if !spec.privileges.is_empty() {
            tracing::warn!(
                container = %key, settings = ?spec.privileges,
                "container: HostConfig settings that ask for privileges are dropped; on Kubernetes a pod template (chaincode.podTemplate) can give what it has for them"
            );
        }
        if !spec.ignored.is_empty() {
            tracing::info!(
                container = %key, settings = ?spec.ignored,
                "container: HostConfig settings without a meaning here are ignored"
            );
        }
    }
}

/// What of HostConfig was given and has no effect on a compile.
fn ignored_of_builder(spec: &CreateSpec) -> Vec<&str> {
    let host = &spec.host;
    let named = [
        ("Memory", host.memory.is_some_and(|it| it != PEERS_MEMORY)),
        ("CpuQuota or NanoCpus", host.cpu_millis.is_some()),
        ("ReadonlyRootfs", host.read_only_root),
        ("CapAdd", !host.added_capabilities.is_empty()),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name));
    let others = spec.privileges.iter().chain(&spec.ignored);
    named.chain(others.map(String::as_str)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_allowed_by_either_name() {
        let policy = |patterns: &[&str]| Policy {
            allowed_images: patterns.iter().map(|it| Pattern::from(*it)).collect(),
            ..Policy::default()
        };
        for (patterns, image, allowed) in [
            (&[][..], "evil.example.com/x", true),
            (
                &["docker.io/hyperledger/*"],
                "hyperledger/fabric-ccenv:2.5",
                true,
            ),
            (
                &["hyperledger/fabric-*"],
                "docker.io/hyperledger/fabric-ccenv:2.5",
                true,
            ),
            (
                &["hyperledger/*"],
                "evil.example.com/hyperledger/fabric-ccenv",
                false,
            ),
            (
                &["docker.io/hyperledger/*:2.5"],
                "hyperledger/fabric-ccenv:2.4",
                false,
            ),
            (
                &["a.example.com/*", "b.example.com/*"],
                "b.example.com/x/y:1",
                true,
            ),
            (&["b.example.com/*"], "b.example.com.evil.org/x:1", false),
        ] {
            let checked = policy(patterns).check_builder(&image.parse().unwrap());
            assert_eq!(checked.is_ok(), allowed, "{patterns:?} {image}");
        }
    }

    #[test]
    fn what_a_compile_does_not_take_is_named() {
        let mut spec = CreateSpec::default();
        spec.host.memory = Some(PEERS_MEMORY);
        spec.host.dns = vec!["10.1.1.1".to_owned()];
        spec.host.extra_hosts = vec![("a".to_owned(), "10.0.0.1".to_owned())];
        assert_eq!(ignored_of_builder(&spec), Vec::<&str>::new());
        spec.host.memory = Some(1 << 30);
        spec.host.read_only_root = true;
        spec.privileges = vec!["PidMode".to_owned()];
        spec.ignored = vec!["Ulimits".to_owned()];
        let named = ["Memory", "ReadonlyRootfs", "PidMode", "Ulimits"];
        assert_eq!(ignored_of_builder(&spec), named);
    }

    #[test]
    fn only_allowed_capabilities_remain() {
        let policy = Policy {
            allowed_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
            ..Policy::default()
        };
        let key = ContainerKey {
            tenant: Tenant::default_tenant(),
            name: "cc".parse().unwrap(),
        };
        let mut spec = CreateSpec::default();
        spec.host.added_capabilities = ["SYS_ADMIN", "NET_BIND_SERVICE", "ALL"]
            .map(str::to_owned)
            .into();
        policy.restrict(&key, &mut spec);
        assert_eq!(spec.host.added_capabilities, ["NET_BIND_SERVICE"]);
    }
}
