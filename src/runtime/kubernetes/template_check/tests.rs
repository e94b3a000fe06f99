use super::*;

/// The problems of `yaml` as a template for `place`, without their common beginning.
fn problems(place: Place, yaml: &str) -> Vec<String> {
    let template: Map<String, Value> = serde_saphyr::from_str(yaml).unwrap();
    let mut problems = Problems::default();
    check("t", &template, place, &mut problems);
    problems
        .iter()
        .map(|(key, message)| {
            assert!(message.starts_with(key), "{key}: {message}");
            message.to_owned()
        })
        .collect()
}

#[test]
fn what_operators_want_is_taken() {
    let yaml = "
metadata:
  labels: {team: assets, sidecar.istio.io/inject: null}
  annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: 'false'}
spec:
  nodeSelector: {disk: fast}
  tolerations: [{key: chaincode, operator: Exists}]
  priorityClassName: high
  serviceAccountName: chaincode
  hostNetwork: true
  runtimeClassName: gvisor
  dnsConfig: {options: [{name: ndots, value: '1'}]}
  imagePullSecrets: [{name: other}]
  hostAliases: [{ip: 10.0.0.1, hostnames: [a]}]
  securityContext: {runAsUser: 1000, seccompProfile: {type: Localhost, localhostProfile: p}, sysctls: [{name: a, value: b}]}
  topologySpreadConstraints: [{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]
  volumes:
    - {name: home, persistentVolumeClaim: {claimName: cache}}
    - {name: extra, secret: {secretName: extra}}
  containers:
    - name: chaincode
      image: other:1
      command: [/nowhere]
      resources: {limits: {memory: 8Mi, cpu: 1}}
      securityContext: {runAsUser: null, capabilities: {add: [NET_BIND_SERVICE]}}
      env: [{name: A, value: '1'}, {name: B, valueFrom: {secretKeyRef: {name: s, key: k}}}]
      volumeMounts: [{mountPath: /extra, name: extra}]
    - name: compile
      resources: {limits: {ephemeral-storage: 4Gi}}
    - name: agent
      imagePullPolicy: Always
  initContainers:
    - name: fetch
      resources: {limits: {memory: 512Mi}}
";
    assert_eq!(problems(Place::All, yaml), Vec::<String>::new());
    assert_eq!(problems(Place::All, "{}"), Vec::<String>::new());
}

#[test]
fn what_peitho_stands_on_is_refused_by_key() {
    for (yaml, message) in [
        (
            "kind: Pod",
            "t.kind is not for a pod template: it has metadata and spec",
        ),
        ("spec: [a]", "t.spec is no mapping"),
        (
            "metadata: {name: x}",
            "t.metadata.name is not for templates: names, owners",
        ),
        (
            "metadata: {ownerReferences: []}",
            "t.metadata.ownerReferences is not for",
        ),
        (
            "metadata: {labels: null}",
            "t.metadata.labels is no mapping",
        ),
        (
            "metadata: {labels: {app.kubernetes.io/managed-by: me}}",
            "t.metadata.labels.app.kubernetes.io/managed-by is not for templates: Peitho finds",
        ),
        (
            "metadata: {annotations: {peitho.dev/order: x}}",
            "t.metadata.annotations.peitho.dev/order is not for templates",
        ),
        (
            "spec: {restartPolicy: Always}",
            "t.spec.restartPolicy is not for templates: a process",
        ),
        (
            "spec: {terminationGracePeriodSeconds: 30}",
            "t.spec.terminationGracePeriodSeconds is not for templates: peers wait",
        ),
        (
            "spec: {containers: [{name: chaincode, restartPolicy: Always}]}",
            "t.spec.containers[0].restartPolicy is not for templates",
        ),
        (
            "spec: {containers: null}",
            "t.spec.containers is merged item by item: null",
        ),
        (
            "spec: {containers: [{name: chaincode, volumeMounts: null}]}",
            "t.spec.containers[0].volumeMounts is merged item by item: null",
        ),
        (
            "spec: {containers: [{name: proxy}]}",
            "t.spec.containers[0].name is none of Peitho's; here a template changes chaincode, and adds none",
        ),
        (
            "spec: {containers: [{name: fetch}]}",
            "t.spec.containers[0].name is none of Peitho's; here a template changes chaincode",
        ),
        (
            "spec: {initContainers: [{name: agent}]}",
            "t.spec.initContainers[0].name is none of Peitho's; here a template changes fetch",
        ),
        (
            "spec: {volumes: [{name: credentials, emptyDir: {}}]}",
            "t.spec.volumes[0] is not for templates: it carries",
        ),
        (
            "spec: {volumes: [{name: files}]}",
            "t.spec.volumes[0] is not for templates: it carries",
        ),
        (
            "spec: {containers: [{name: chaincode, volumeMounts: [{mountPath: /x, name: credentials}]}]}",
            "t.spec.containers[0].volumeMounts[0] is not for templates: it carries",
        ),
        (
            "spec: {initContainers: [{name: fetch, volumeMounts: [{mountPath: /run/peitho/credentials/token, name: x}]}]}",
            "t.spec.initContainers[0].volumeMounts[0] is not for templates: it carries",
        ),
    ] {
        let found = problems(Place::Chaincode, yaml);
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
        assert!(found[0].starts_with(message), "{yaml}: {found:?}");
    }
}

#[test]
fn an_init_container_of_compiles_is_sought_where_it_is_now() {
    let yaml = "spec: {initContainers: [{name: agent}]}";
    let told = "t.spec.initContainers[0].name is none of Peitho's: pods of compiles have no init container; agent and compile are in containers";
    for place in [Place::Compile, Place::All] {
        assert_eq!(problems(place, yaml), [told]);
    }
}

#[test]
fn what_kubernetes_would_not_read_or_silently_drop_is_refused_by_key() {
    for (yaml, message) in [
        (
            "spec: {nodeSelektor: {a: b}}",
            "t.spec.nodeSelektor is no field of a pod that Peitho knows",
        ),
        (
            "spec: {containers: [{name: chaincode, resources: {limit: {cpu: 1}}}]}",
            "t.spec.containers[0].resources.limit is no field of a pod that Peitho knows",
        ),
        (
            "spec: {containers: [{name: chaincode, $patch: delete}]}",
            "t.spec.containers[0].$patch is no field of a pod that Peitho knows",
        ),
        (
            "spec: {hostNetwork: 'yes'}",
            "t.spec.hostNetwork is not of the type that it has in a pod: invalid type: string",
        ),
        (
            "metadata: {labels: {version: 1}}",
            "t.metadata.labels.version is not of the type that it has in a pod: invalid type: integer",
        ),
        (
            "spec: {containers: {name: chaincode}}",
            "t.spec.containers is not of the type that it has in a pod",
        ),
        (
            "spec: {hostAliases: [{hostnames: [a]}]}",
            "t.spec.hostAliases[0] needs ip: it says which item is meant",
        ),
        (
            "spec: {containers: [{name: chaincode, env: [{name: A, value: 1234}]}]}",
            "t.spec.containers[0].env[0].value is not of the type that it has in a pod",
        ),
        (
            "spec: {containers: [{name: chaincode, env: 'TOKEN=1234'}]}",
            "t.spec.containers[0].env is not of the type that it has in a pod",
        ),
        (
            "spec: {initContainers: [{name: fetch, args: '--token=1234'}]}",
            "t.spec.initContainers[0].args is not of the type that it has in a pod",
        ),
    ] {
        let found = problems(Place::Chaincode, yaml);
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
        assert!(found[0].starts_with(message), "{yaml}: {found:?}");
        assert!(!found[0].contains("1234"), "{found:?}");
    }
}
