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

const OF_TENANTS: &str = "
kubernetes: {podTemplate: {metadata: {labels: {from: all}}}}
compile: {podTemplate: {metadata: {labels: {from: compile}}}}
chaincode:
  podTemplate: {metadata: {labels: {from: chaincode, chaincode: set}}}
  overrides: [{label: basic_*, podTemplate: {metadata: {labels: {from: label, label: set}}}}]
tenants:
  trustPath: true
  known:
    - name: org1
      compile: {podTemplate: {metadata: {labels: {from: org1-compile}}}}
      chaincode:
        podTemplate: {metadata: {labels: {from: org1, org1: set, label: null}}}
    - name: org2
      chaincode:
        overrides:
          - {label: basic_1, podTemplate: {metadata: {labels: {from: org2-label}}}}
          - {language: java, podTemplate: {metadata: {labels: {from: org2-language}}}}
    - {name: org3}
";

#[test]
fn a_tenants_templates_are_the_narrowest() {
    let settings = with_templates(OF_TENANTS);
    let labels = |tenant: &str| {
        let mut record = record();
        record.spec.key.tenant = tenant.parse().unwrap();
        record.spec.language = Some(Language::Java);
        let labels = pod::pod(&record, &settings).unwrap().metadata.labels;
        let labels = labels.unwrap().into_iter();
        let own = labels.filter(|(name, _)| !name.contains('/'));
        own.map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(labels("org1"), ["chaincode=set", "from=org1", "org1=set"]);
    assert_eq!(
        labels("org2"),
        ["chaincode=set", "from=org2-label", "label=set"]
    );
    for other in ["org3", "default"] {
        assert_eq!(labels(other), ["chaincode=set", "from=label", "label=set"]);
    }
}

#[test]
fn results_depend_on_a_tenants_own_template_for_compiles_and_on_no_other() {
    let digests = with_templates(OF_TENANTS).compile_digest();
    let of = |tenant: &str| *digests.of(&tenant.parse().unwrap());
    assert!(of("default").is_some());
    assert_eq!(of("org3"), of("default"));
    // What it was before tenants had their own.
    assert_eq!(of("org2"), of("default"));
    assert_ne!(of("org1"), of("default"));
    let only = "tenants: {trustPath: true, known: [{name: org1, compile: {podTemplate: {spec: {priority: 1}}}}]}";
    let digests = with_templates(only).compile_digest();
    assert_eq!(*digests.general(), None);
    assert!(digests.of(&"org1".parse().unwrap()).is_some());
}

#[test]
fn a_tenants_template_that_cannot_be_laid_over_a_pod_is_told_by_its_key() {
    let yaml = "
tenants:
  trustPath: true
  known:
    - name: org1
      compile: {podTemplate: {spec: {restartPolicy: Always}}}
      chaincode: {overrides: [{label: a, podTemplate: {spec: {hostNetwrk: true}}}]}
";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let config = Config::load(Some(file.path()), [], &[]).unwrap();
    let (kubernetes, tenants) = (&config.kubernetes, &config.tenants);
    let problems = Templates::read(kubernetes, &config.compile, &config.chaincode, tenants);
    let problems = problems.unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "tenants.known[0].compile.podTemplate.spec.restartPolicy",
            "tenants.known[0].chaincode.overrides[0].podTemplate.spec.hostNetwrk",
        ]
    );
}
