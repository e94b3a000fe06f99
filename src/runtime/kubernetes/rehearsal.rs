//! Would the cluster take the pods? Asked once after the start by a dry run of a Pod for each role and each override
//! (design D15): the first install should not be the one to meet a quota, a policy, or a field that this API server
//! drops without a word. A Job would not do, it is accepted whatever its pod is (k8s-measurements §8). What the
//! cluster says may be different tomorrow, so the answers are warnings. `serve` orders it and does not wait.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::PostParams;
use serde_json::Value;

use super::overlay::vanished;
use super::record::{self, Record};
use super::{Kubernetes, Settings, compile_pod, pod};
use crate::config::Override;
use crate::image_spec::{ImageFacts, Layer, TopEntry, TopKind};
use crate::names::{CompileKey, ContainerId, ContainerKey, Digest, ImageName, Tenant};
use crate::runtime::{ChaincodeSpec, Error, HostSpec, Resolution};
use crate::store::Blob;

/// The owner of a pod that will not be: any UID does, but an empty one.
const UID: &str = "00000000-0000-4000-8000-000000000000";

impl Kubernetes {
    /// Asks for each kind of pod, and logs what would not work.
    pub async fn rehearse(&self) {
        let pods = match samples(&self.settings) {
            Ok(pods) => pods,
            Err(error) => return tracing::warn!(%error, "rehearsal: pods cannot be made"),
        };
        let count = pods.len();
        let namespace = &self.settings.namespace;
        for (key, pod) in pods {
            match self.rehearse_one(&pod).await {
                Ok(lost) if lost.is_empty() => {}
                Ok(lost) => tracing::warn!(
                    key, namespace, fields = ?lost,
                    "rehearsal: the API server drops fields of this pod, as of a feature that it does not have; the pod would run without them"
                ),
                Err(Error::Unavailable(cause)) => {
                    return tracing::warn!(
                        key,
                        namespace,
                        cause,
                        "rehearsal: given up, the API server is away"
                    );
                }
                Err(error) => tracing::warn!(
                    key, namespace, %error,
                    "rehearsal: the cluster would not take this pod now"
                ),
            }
        }
        tracing::debug!(namespace, pods = count, "rehearsal: over");
    }

    /// The fields of `pod` that the API server would drop.
    async fn rehearse_one(&self, pod: &Pod) -> Result<Vec<String>, Error> {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let echo = self
            .requests
            .call(|| self.pods.create(&params, pod))
            .await
            .map_err(|failure| failure.into_error("dry run"))?;
        Ok(vanished(&to_value(pod), &to_value(&echo)))
    }
}

fn to_value(pod: &Pod) -> Value {
    serde_json::to_value(pod).expect("a pod is an object with string keys")
}

/// A pod of each kind, with the key that makes it what it is, of each tenant whose pods are not those of others.
fn samples(settings: &Settings) -> Result<Vec<(String, Pod)>, Error> {
    let provisions = &settings.provisions;
    let own: Vec<&Tenant> = provisions.own().map(|(tenant, _)| tenant).collect();
    let (distinct, alike): (Vec<&Tenant>, Vec<&Tenant>) =
        (settings.tenants.iter()).partition(|tenant| own.contains(tenant));
    let mut samples = Vec::new();
    for tenant in alike.into_iter().take(1).chain(distinct) {
        let templates = &provisions.of(tenant).templates;
        let plain = Override::default();
        samples.push((
            templates.compile_key().to_owned(),
            compile(settings, tenant)?,
        ));
        let all = std::iter::once((templates.chaincode_key(), &plain));
        for (key, it) in all.chain(templates.overrides()) {
            samples.push((key.to_owned(), chaincode(settings, tenant, it)?));
        }
    }
    Ok(samples)
}

/// The one image that is known to be allowed.
fn image(settings: &Settings) -> Result<ImageName, Error> {
    settings
        .agent_image
        .parse()
        .map_err(|error| Error::Refused(format!("agent.image: {error}")))
}

fn compile(settings: &Settings, tenant: &Tenant) -> Result<Pod, Error> {
    let spec = compile_pod::Order {
        purpose: compile_pod::Purpose::Compile {
            key: &CompileKey::new(Digest::of(b"rehearsal")),
            command: &["rehearsal".to_owned()],
        },
        tenant,
        image: &image(settings)?,
        facts: &ImageFacts::default(),
        env: &[],
        working_dir: None,
        user: None,
        resolution: &Resolution::default(),
    };
    let secret = owned(compile_pod::secret(&spec, settings, &"rehearsal".into()));
    compile_pod::pod(&spec, settings, &secret.metadata)
}

/// A pod of chaincode that `it` is for.
fn chaincode(settings: &Settings, tenant: &Tenant, it: &Override) -> Result<Pod, Error> {
    let label = it.label.as_ref().map(|label| label.example());
    let spec = ChaincodeSpec {
        key: ContainerKey {
            tenant: tenant.clone(),
            name: "rehearsal"
                .parse()
                .map_err(|error| Error::Refused(format!("{error}")))?,
        },
        id: ContainerId::random(),
        image: image(settings)?,
        package_id: label.map(|label| format!("{label}:0")),
        language: it.language,
        base: image(settings)?,
        base_facts: ImageFacts::default(),
        layer: Layer {
            blob: Blob {
                digest: Digest::of(b"rehearsal"),
                size: 0,
            },
            diff_id: Digest::of(b"rehearsal"),
            destination: "/usr/local/bin".to_owned(),
            entries: vec![TopEntry {
                name: "chaincode".to_owned(),
                kind: TopKind::File,
            }],
        },
        whole: None,
        entrypoint: None,
        args: vec!["chaincode".to_owned()],
        env: Vec::new(),
        working_dir: None,
        user: None,
        host: HostSpec::default(),
    };
    let secret = record::secret(&spec, settings, &"rehearsal".into())?;
    pod::pod(&Record::read(owned(secret))?, settings)
}

fn owned(mut secret: Secret) -> Secret {
    secret.metadata.uid = Some(UID.to_owned());
    secret
}

#[cfg(test)]
mod tests {
    use super::super::templates::tests::with_templates;
    use super::*;

    #[test]
    fn each_override_has_a_pod_that_it_is_laid_over() {
        let settings = with_templates(
            "
chaincode:
  overrides:
    - {label: 'asset_*', podTemplate: {metadata: {labels: {one: a}}}}
    - {language: node, podTemplate: {metadata: {labels: {two: b}}}}
    - {language: java, label: 'x?z*', podTemplate: {metadata: {labels: {three: c}}}}
compile: {podTemplate: {metadata: {labels: {four: d}}}}
",
        );
        let samples = samples(&settings).unwrap();
        let found: Vec<_> = samples
            .iter()
            .map(|(key, pod)| {
                let labels = pod.metadata.labels.as_ref().unwrap().keys();
                let label = labels.map(String::as_str).find(|name| !name.contains('/'));
                (key.as_str(), label)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("compile.podTemplate", Some("four")),
                ("chaincode.podTemplate", None),
                ("chaincode.overrides[1]", Some("two")),
                ("chaincode.overrides[0]", Some("one")),
                ("chaincode.overrides[2]", Some("three")),
            ]
        );
    }

    #[test]
    fn tenants_with_pods_of_their_own_are_asked_for_and_the_others_once() {
        let mut settings = with_templates(
            "
chaincode: {overrides: [{label: a, podTemplate: {metadata: {labels: {one: a}}}}]}
tenants:
  trustPath: true
  known:
    - {name: org1, chaincode: {overrides: [{label: b, podTemplate: {metadata: {labels: {two: b}}}}]}}
    - {name: org2}
    - {name: org3}
",
        );
        let keys = |settings: &Settings| -> Vec<String> {
            let samples = samples(settings).unwrap().into_iter();
            samples.map(|(key, _)| key).collect()
        };
        let general = [
            "compile.podTemplate",
            "chaincode.podTemplate",
            "chaincode.overrides[0]",
        ];
        let of_org1 = [
            "tenants.known[0].compile.podTemplate",
            "tenants.known[0].chaincode.podTemplate",
            "chaincode.overrides[0]",
            "tenants.known[0].chaincode.overrides[0]",
        ];
        assert_eq!(keys(&settings), [&general[..], &of_org1].concat());
        settings.tenants = vec!["org1".parse().unwrap()];
        assert_eq!(keys(&settings), of_org1);
        settings.tenants.clear();
        assert!(keys(&settings).is_empty());
    }
}
