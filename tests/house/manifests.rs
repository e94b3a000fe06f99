//! The manifests fit the program, and ask for no more than it needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use peitho::config::{Config, Surrounding};
use peitho::runtime::kubernetes::RIGHTS;
use serde_json::{Value, json};

use super::{read, root};

fn manifests(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(&format!("deploy/{file}")))
        .unwrap_or_else(|error| panic!("deploy/{file}: {error}"))
}

fn manifest(file: &str, kind: &str) -> Value {
    let of_kind = manifests(file)
        .into_iter()
        .find(|object| object["kind"] == kind);
    of_kind.unwrap_or_else(|| panic!("deploy/{file} has no {kind}"))
}

#[test]
fn the_kustomization_lists_every_manifest() {
    let listed: BTreeSet<String> = serde_json::from_value(
        manifest("kustomization.yaml", "Kustomization")["resources"].clone(),
    )
    .unwrap();
    let present = fs::read_dir(root().join("deploy")).unwrap();
    let present: BTreeSet<String> = present
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // One for each tenant that gets a namespace; it is applied by itself.
        .filter(|name| !["kustomization.yaml", "tenant.yaml"].contains(&name.as_str()))
        .collect();
    assert_eq!(listed, present);
}

#[test]
fn both_namespaces_enforce_the_strictest_standard() {
    for namespace in manifests("namespace.yaml") {
        let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(level, "restricted", "{namespace}");
    }
}

/// The whole of Peitho's rights. More of them is a decision, not an edit.
#[test]
fn the_role_is_no_wider_than_this() {
    assert_eq!(
        manifest("role.yaml", "Role")["rules"],
        json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create", "delete"]},
            {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch"]},
        ])
    );
    // What the server asks for at start is that, too.
    let used = RIGHTS.map(
        |right| json!({"apiGroups": [""], "resources": [right.resource], "verbs": right.verbs}),
    );
    assert_eq!(manifest("role.yaml", "Role")["rules"], json!(used));
    for kind in ["Role", "RoleBinding"] {
        let mut of_tenant = manifest("tenant.yaml", kind);
        of_tenant["metadata"]["namespace"] = json!("chaincode");
        assert_eq!(
            of_tenant,
            manifest("role.yaml", kind),
            "the same in each namespace"
        );
    }
    for file in fs::read_dir(root().join("deploy")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(
            !text.contains("kind: ClusterRole"),
            "no right beyond a namespace"
        );
    }
}

#[test]
fn the_deployment_fits_the_program() {
    let deployment = manifest("deployment.yaml", "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let image = concat!("peitho:", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], image);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let security = &container["securityContext"];
    assert_eq!(
        security,
        &json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );

    let yaml = &manifest("configmap.yaml", "ConfigMap")["data"]["peitho.yml"];
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), yaml.as_str().unwrap()).unwrap();
    let config = Config::load(Some(file.path()), [], &[]).unwrap();
    assert_eq!(
        config.agent.image, image,
        "pods must run the image of the server"
    );
    assert_eq!(config.kubernetes.namespace, "chaincode");

    let ports = |list: &Value, key: &str| -> Vec<(String, u64)> {
        let list = list.as_array().unwrap().iter();
        list.map(|port| {
            (
                port["name"].as_str().unwrap().to_owned(),
                port[key].as_u64().unwrap(),
            )
        })
        .collect()
    };
    let listen =
        (config.listen).addresses(config.roles(Surrounding::Cluster).reach(), config.clients());
    let listen = [
        (
            "engine".to_owned(),
            listen.engine_api.unwrap().port().into(),
        ),
        ("delivery".to_owned(), listen.delivery.port().into()),
        ("admin".to_owned(), listen.admin.port().into()),
    ];
    assert_eq!(ports(&container["ports"], "containerPort"), listen);
    assert_eq!(
        ports(
            &manifest("service.yaml", "Service")["spec"]["ports"],
            "port"
        ),
        listen
    );
    let store = container["volumeMounts"].as_array().unwrap().iter();
    let mut paths = store.map(|mount| mount["mountPath"].as_str().unwrap());
    assert!(paths.any(|path| Path::new(path) == config.store.place(Surrounding::Cluster)));
}
