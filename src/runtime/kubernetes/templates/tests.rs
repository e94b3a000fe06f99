use super::super::tests::{provision, record, settings};
use super::super::{Provision, Settings, pod};
use super::*;
use crate::config::Config;
use crate::names::Tenant;

/// Settings with the templates of a configuration.
pub(in super::super) fn with_templates(yaml: &str) -> Settings {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let Config {
        kubernetes,
        compile,
        chaincode,
        tenants,
        ..
    } = Config::load(Some(file.path()), [], &[]).unwrap();
    let templates = Templates::read(&kubernetes, &compile, &chaincode, &tenants).unwrap();
    let with = |templates: &Templates| Provision {
        templates: templates.clone(),
        ..provision()
    };
    let own = templates.own();
    Settings {
        tenants: std::iter::once(Tenant::default_tenant())
            .chain(tenants.names())
            .collect(),
        provisions: ByTenant::new(
            with(templates.general()),
            own.map(|(tenant, it)| (tenant.clone(), with(it))),
        ),
        ..settings()
    }
}

const LAYERS: &str = "
kubernetes:
  podTemplate:
    metadata: {labels: {from: all, all: yes-all}}
    spec:
      nodeSelector: {from: all}
      containers: [{name: compile, image: never}, {name: chaincode, env: [{name: FROM, value: all}]}]
compile:
  podTemplate:
    metadata: {labels: {from: compile}}
chaincode:
  overrides:
    - label: basic_*
      podTemplate: {metadata: {labels: {from: label, label: basic}}}
    - language: java
      podTemplate: {metadata: {labels: {from: language, language: java}}}
    - {language: golang, label: basic_1, podTemplate: {metadata: {labels: {both: golang-basic}}}}
    - {label: other, podTemplate: {metadata: {labels: {never: here}}}}
  podTemplate:
    metadata: {labels: {from: chaincode, chaincode: yes-chaincode}, annotations: {linkerd.io/inject: null}}
";

fn labels(package_id: Option<&str>, language: Option<Language>) -> Vec<String> {
    let mut record = record();
    record.spec.package_id = package_id.map(str::to_owned);
    record.spec.language = language;
    let pod = pod::pod(&record, &with_templates(LAYERS)).unwrap();
    let annotations = pod.metadata.annotations.unwrap();
    assert!(!annotations.contains_key("linkerd.io/inject"));
    assert!(annotations.contains_key("sidecar.istio.io/inject"));
    let spec = pod.spec.unwrap();
    assert_eq!(spec.containers.len(), 1);
    assert_eq!(spec.node_selector.unwrap()["from"], "all");
    let labels = pod.metadata.labels.unwrap();
    let labels = labels.into_iter().filter(|(name, _)| !name.contains('/'));
    labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[test]
fn the_narrower_template_wins() {
    let java = Some(Language::Java);
    for (package_id, language, expected) in [
        (
            Some("basic_1:ab"),
            java,
            vec![
                "all=yes-all",
                "chaincode=yes-chaincode",
                "from=label",
                "label=basic",
                "language=java",
            ],
        ),
        (
            Some("basic_1:ab"),
            Some(Language::Golang),
            vec![
                "all=yes-all",
                "both=golang-basic",
                "chaincode=yes-chaincode",
                "from=label",
                "label=basic",
            ],
        ),
        (
            Some("simple:1.0"),
            java,
            vec![
                "all=yes-all",
                "chaincode=yes-chaincode",
                "from=language",
                "language=java",
            ],
        ),
        (
            None,
            None,
            vec!["all=yes-all", "chaincode=yes-chaincode", "from=chaincode"],
        ),
    ] {
        assert_eq!(
            labels(package_id, language),
            expected,
            "{package_id:?} {language:?}"
        );
    }
}

#[test]
fn a_pod_with_a_template_for_its_label() {
    let settings = with_templates(
        "
chaincode:
  overrides:
    - label: basic_*
      podTemplate:
        metadata: {annotations: {team: assets}}
        spec:
          serviceAccountName: chaincode
          hostNetwork: true
          nodeSelector: {disk: fast}
          tolerations: [{key: chaincode, operator: Exists}]
          securityContext: {runAsUser: 1000, fsGroup: null}
          imagePullSecrets: [{name: other}]
          volumes: [{name: extra, secret: {secretName: missing}}]
          containers:
            - name: chaincode
              image: nowhere.example.com/other:1
              command: [/nowhere]
              resources: {limits: {memory: 8Mi, cpu: 1}}
              securityContext: {readOnlyRootFilesystem: true}
              env: [{name: PATH, value: /bin}, {name: MORE, value: $(PATH)}]
              volumeMounts: [{name: extra, mountPath: /extra}]
          initContainers: [{name: fetch, resources: {limits: {memory: 32Mi}}}]
",
    );
    insta::assert_yaml_snapshot!(pod::pod(&record(), &settings).unwrap());
}
