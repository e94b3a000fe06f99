//! What pods are given: templates, overrides, and what tenants have of their own.

use super::*;

#[test]
fn a_pod_template_is_kept_as_it_stands() {
    let yaml = "\
kubernetes:
  podTemplate:
    metadata: {labels: {sidecar.istio.io/inject: null, one: '1'}}
    spec: {priority: 5, hostNetwork: true, tolerations: [{key: a}], nodeSelector: {}}
";
    let config = load(yaml, &[], &[]).unwrap();
    let expected = serde_json::json!({
        "metadata": {"labels": {"sidecar.istio.io/inject": null, "one": "1"}},
        "spec": {"priority": 5, "hostNetwork": true, "tolerations": [{"key": "a"}], "nodeSelector": {}},
    });
    let template = config.kubernetes.pod_template.content().clone();
    assert_eq!(serde_json::Value::Object(template), expected);
    let env = [(
        "PEITHO_COMPILE__POD_TEMPLATE",
        "{spec: {hostNetwork: true}}",
    )];
    let config = load("", &env, &[]).unwrap();
    assert_eq!(
        config.compile.pod_template.content()["spec"]["hostNetwork"],
        true
    );
}

#[test]
fn overrides_are_checked() {
    for (yaml, message) in [
        (
            "chaincode:\n  overrides:\n    - podTemplate: {}\n",
            "peitho.yml:3:7: chaincode.overrides[0] is \"for everything\"; accepted: language, label, or both; chaincode.podTemplate is for all chaincode",
        ),
        (
            "chaincode:\n  overrides:\n    - label: ''\n",
            "peitho.yml:3:7: chaincode.overrides[0].label is \"\"; accepted: a pattern such as asset_*",
        ),
        (
            "chaincode: {overrides: [{language: rust}]}",
            "peitho.yml:1:26: chaincode.overrides[0].language: unknown variant `rust`, expected one of `golang`, `node`, `java`",
        ),
        (
            "chaincode: {podTemplate: [a]}",
            "peitho.yml:1:26: chaincode.podTemplate is a list; accepted: a mapping",
        ),
        (
            "chaincode: {overrides: [{labels: a}]}",
            "peitho.yml:1:26: chaincode.overrides[0].labels is not a key; did you mean chaincode.overrides[0].label?",
        ),
    ] {
        assert_eq!(refused(yaml), message);
    }
}

#[test]
fn resources_of_builders_are_checked() {
    for (item, message) in [
        (
            "{limits: {memory: 8Gi}}",
            "peitho.yml:3:7: compile.overrides[0].image is \"\"; accepted: a pattern such as *fabric-javaenv*",
        ),
        (
            "{image: '*javaenv*'}",
            "peitho.yml:3:7: compile.overrides[0] is \"without resources\"; accepted: requests, limits, or both",
        ),
        (
            "{image: '*javaenv*', limits: {memory: 8gb}}",
            "peitho.yml:3:45: compile.overrides[0].limits.memory is \"8gb\"; accepted: a quantity such as 500m, 2 or 4Gi",
        ),
        // Against the limit that holds for all.
        (
            "{image: '*javaenv*', requests: {memory: 6Gi}}",
            "peitho.yml:3:47: compile.overrides[0].requests.memory is \"6Gi\"; accepted: at most its limit 4Gi",
        ),
        (
            "{images: '*javaenv*'}",
            "peitho.yml:3:8: compile.overrides[0].images is not a key; did you mean compile.overrides[0].image?",
        ),
    ] {
        let yaml = format!("compile:\n  overrides:\n    - {item}\n");
        assert_eq!(refused(&yaml), message);
    }
    let java = "{image: '*javaenv*', requests: {memory: 6Gi}, limits: {memory: 8Gi}}";
    let yaml = format!("compile: {{overrides: [{java}]}}");
    let config = load(&yaml, &[], &[]).unwrap();
    assert_eq!(
        load(&config.to_yaml(), &[], &[]).unwrap().to_yaml(),
        config.to_yaml()
    );
}

#[test]
fn what_a_tenant_has_of_its_own_is_checked_by_key() {
    let known = |item: &str| {
        format!("tenants:\n  trustPath: true\n  known:\n    - name: org0\n    - name: org1\n{item}")
    };
    let (told, expected): (Vec<String>, Vec<&str>) = [
        (
            "      namespace: Of_Org1\n",
            "peitho.yml:6:7: tenants.known[1].namespace is \"Of_Org1\"; accepted: a namespace: a-z, 0-9 and -, at most 63 characters; or nothing",
        ),
        (
            "      compile: {limits: {memory: much}}\n",
            "peitho.yml:6:34: tenants.known[1].compile.limits.memory is \"much\"; accepted: a quantity such as 500m, 2 or 4Gi",
        ),
        // Against the limit that holds for all.
        (
            "      compile: {requests: {memory: 8Gi}}\n",
            "peitho.yml:6:36: tenants.known[1].compile.requests.memory is \"8Gi\"; accepted: at most its limit 4Gi",
        ),
        (
            "      compile: {limits: {memory: 1Gi}, overrides: [{image: '*', requests: {memory: 2Gi}}]}\n",
            "peitho.yml:6:84: tenants.known[1].compile.overrides[0].requests.memory is \"2Gi\"; accepted: at most its limit 1Gi",
        ),
        (
            "      chaincode: {limits: {memory: 1Gi}}\n",
            "peitho.yml:6:19: tenants.known[1].chaincode.limits is not a key; did you mean compile.limits?",
        ),
        (
            "      chaincode: {overrides: [{podTemplate: {}}]}\n",
            "peitho.yml:6:31: tenants.known[1].chaincode.overrides[0] is \"for everything\"; accepted: language, label, or both; chaincode.podTemplate is for all chaincode",
        ),
        (
            "      namespaces: a\n",
            "peitho.yml:6:7: tenants.known[1].namespaces is not a key; did you mean tenants.known[1].namespace?",
        ),
    ]
    .map(|(item, message)| (refused(&known(item)), message))
    .into_iter()
    .unzip();
    assert_eq!(told, expected);
    let good =
        known("      namespace: of-org1\n      compile: {limits: {memory: 256Mi, cpu: 1}}\n");
    let config = load(&good, &[], &[]).unwrap();
    let namespaces: Vec<_> = config
        .tenants
        .known
        .iter()
        .map(KnownTenant::own_namespace)
        .collect();
    assert_eq!(namespaces, [None, Some("of-org1")]);
    assert_eq!(
        load(&config.to_yaml(), &[], &[]).unwrap().to_yaml(),
        config.to_yaml()
    );
}

#[test]
fn keys_of_tenants_that_have_no_effect_are_told() {
    let yaml = "
tenants:
  trustPath: true
  known:
    - {name: org0, compile: {limits: {cpu: 1}}}
    - {name: org1, namespace: a, compile: {requests: {cpu: 1}, podTemplate: {spec: {}}}, chaincode: {requests: {cpu: 1}}}
";
    let config = load(yaml, &[], &[]).unwrap();
    use RuntimeKind::{Docker, Kubernetes, Oci};
    let idle = |compile, chaincode| config.tenants.idle(Roles { compile, chaincode });
    assert_eq!(idle(Kubernetes, Kubernetes), Vec::<String>::new());
    let compiles = [
        "tenants.known[1].compile.requests has no effect: compile.runtime is not kubernetes",
        "tenants.known[1].compile.podTemplate has no effect: compile.runtime is not kubernetes",
    ];
    let launches = "tenants.known[1].chaincode has no effect: chaincode.runtime is not kubernetes";
    assert_eq!(idle(Docker, Kubernetes), compiles);
    assert_eq!(idle(Kubernetes, Oci), [launches]);
    let namespace = "tenants.known[1].namespace has no effect: neither compile.runtime nor chaincode.runtime is kubernetes";
    assert_eq!(
        idle(Oci, Oci),
        [namespace, compiles[0], compiles[1], launches]
    );
}
