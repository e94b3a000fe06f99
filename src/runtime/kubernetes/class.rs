//! Which compiles a pod made ahead of need fits: those whose own pod would be the same. What may differ is not listed: the pod itself is compared, made
//! for no compile in particular. Pure; `spare` uses it.

use secrecy::SecretString;

use super::Settings;
use super::compile_pod::{Order, Purpose, pod, secret};
use crate::names::{CompileKey, Digest};
use crate::runtime::Error;

/// Digest of the namespace, the builder, and all that the pod of `spec` is made of but its purpose: a compile may have those made ahead of
/// need that have the same.
///
/// # Errors
/// As [`pod`].
pub(super) fn class(
    spec: &Order<'_>,
    settings: &Settings,
    builder: &Digest,
) -> Result<Digest, Error> {
    let neutral = Order {
        purpose: Purpose::Compile {
            key: &CompileKey::new(*builder),
            command: &[],
        },
        ..*spec
    };
    let owner = secret(&neutral, settings, &SecretString::default()).metadata;
    let pod = serde_json::to_string(&pod(&neutral, settings, &owner)?);
    let pod = pod.expect("a pod is strings and numbers, always JSON");
    // No namespace has a space.
    let text = format!("{} {pod}", settings.namespace);
    Ok(Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{provision, settings};
    use super::*;
    use crate::config::{ByTenant, Quantities};
    use crate::image_spec::ImageFacts;
    use crate::names::{SpareId, Tenant};
    use crate::runtime::kubernetes::Provision;
    use crate::runtime::{Resolution, SpareSpec};

    fn spec() -> SpareSpec {
        SpareSpec {
            id: SpareId::random(),
            tenant: Tenant::default_tenant(),
            image: "hyperledger/fabric-ccenv:2.5".parse().unwrap(),
            builder: Digest::of(b"builder"),
            facts: ImageFacts::default(),
            env: vec![("GOPROXY".to_owned(), "direct".to_owned())],
            working_dir: None,
            user: None,
            resolution: Resolution::default(),
        }
    }

    fn class_of(spec: &SpareSpec, settings: &Settings) -> Digest {
        class(&spec.into(), settings, &spec.builder).unwrap()
    }

    #[test]
    fn whatever_is_compiled_fits() {
        let (spare, settings) = (spec(), settings());
        let key = CompileKey::new(Digest::of(b"compile"));
        let command = ["go".to_owned(), "build".to_owned()];
        let compile = Order {
            purpose: Purpose::Compile {
                key: &key,
                command: &command,
            },
            ..Order::from(&spare)
        };
        let of_compile = class(&compile, &settings, &spare.builder).unwrap();
        assert_eq!(of_compile, class_of(&spec(), &settings));
    }

    #[test]
    fn all_else_counts() {
        let changes: [fn(&mut SpareSpec); 9] = [
            |it| it.tenant = "org1".parse().unwrap(),
            |it| it.image = "hyperledger/fabric-nodeenv:2.5".parse().unwrap(),
            |it| it.builder = Digest::of(b"another"),
            |it| it.facts.architecture = Some("arm64".parse().unwrap()),
            |it| it.env[0].1 = "off".to_owned(),
            |it| it.working_dir = Some("/tmp".to_owned()),
            |it| it.user = Some(7),
            |it| it.resolution.dns = vec!["10.0.0.1".to_owned()],
            |it| it.resolution.extra_hosts = vec![("a".to_owned(), "10.0.0.1".to_owned())],
        ];
        let mut classes = vec![class_of(&spec(), &settings())];
        for change in changes {
            let mut spec = spec();
            change(&mut spec);
            classes.push(class_of(&spec, &settings()));
        }
        let elsewhere = Settings {
            namespace: "of-org1".to_owned(),
            ..settings()
        };
        let smaller = Settings {
            provisions: ByTenant::from(Provision {
                compile_limits: Quantities::from([("memory".to_owned(), "1Gi".to_owned())]).into(),
                ..provision()
            }),
            ..settings()
        };
        for settings in [elsewhere, smaller] {
            classes.push(class_of(&spec(), &settings));
        }
        let count = classes.len();
        classes.sort_unstable();
        classes.dedup();
        assert_eq!(classes.len(), count);
    }
}
