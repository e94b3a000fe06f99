//! What keeps chaincode from starting, row by row of what Kubernetes can say: a stock peer's user hears it word for word, and the next
//! invoke works once the cause is gone.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use testbed::Steps;
use testbed::peitho::CHAINCODE_NAMESPACE;

use super::lifecycle::deployed;
use crate::faults::{Cause, Fault, SHARED, judge_launches};
use crate::world::Counterparts;

pub(super) const AT_ONCE: Duration = Duration::ZERO;
/// The kubelet pulls again 10 s after a first failure, and mounts again after 0.5, 1, 2 and 4 s.
pub(super) const SECOND_PULL: Duration = Duration::from_secs(13);
const REPEATED_MOUNT: Duration = Duration::from_secs(8);
/// It looks at a pod again after 10 to 15 s.
const SECOND_LOOK: Duration = Duration::from_secs(15);
/// `kubernetes.schedulingGraceSeconds` of the suite.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// Lays `template` over every chaincode pod.
fn template(config: &mut Value, template: Value) {
    config["chaincode"]["podTemplate"] = template;
}

/// Lays `container` over the chaincode's container.
fn container(config: &mut Value, mut container: Value) {
    container["name"] = json!("chaincode");
    template(config, json!({"spec": {"containers": [container]}}));
}

fn kubectl(c: &Counterparts, arguments: &[&str]) -> Result<()> {
    c.cluster.kubectl(arguments).map(drop)
}

pub(super) fn quota(c: &Counterparts) -> Result<()> {
    let create = [
        "create",
        "quota",
        "none",
        "--hard=pods=0",
        "--namespace",
        CHAINCODE_NAMESPACE,
    ];
    kubectl(c, &create)?;
    // The controller counts first; until then the quota lets everything pass.
    testbed::wait::until("the quota counts", Duration::from_secs(20), None, || {
        let counted = [
            "get",
            "quota",
            "none",
            "--namespace",
            CHAINCODE_NAMESPACE,
            "-o",
            "jsonpath={.status.hard.pods}",
        ];
        Ok((c.cluster.kubectl(&counted)? == "0").then_some(()))
    })
}

pub(super) fn no_quota(c: &Counterparts) -> Result<()> {
    let delete = [
        "delete",
        "quota",
        "none",
        "--ignore-not-found",
        "--namespace",
        CHAINCODE_NAMESPACE,
    ];
    kubectl(c, &delete)
}

pub(super) fn cordon(c: &Counterparts) -> Result<()> {
    kubectl(c, &["cordon", c.cluster.node()])
}

pub(super) fn uncordon(c: &Counterparts) -> Result<()> {
    kubectl(c, &["uncordon", c.cluster.node()])
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "image that its registry does not have",
        cause: Cause::Config(|c, config| {
            let image = format!("{}/none:1", c.registry.address());
            container(config, json!({"image": image}));
        }),
        says: &["Failed to pull image", "none:1: not found"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "image with an invalid name",
        cause: Cause::Config(|_, config| container(config, json!({"image": "two//slashes:1"}))),
        says: &["two//slashes:1", "invalid reference format"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "image with a name that only the runtime refuses",
        cause: Cause::Config(|_, config| container(config, json!({"image": "UPPER/case:1"}))),
        says: &["UPPER/case:1", "repository name must be lowercase"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "image that its registry denies",
        cause: Cause::Config(|c, config| {
            let image = format!("{}/private:1", c.closed_registry.address());
            container(config, json!({"image": image}));
        }),
        says: &["Failed to pull image", "401 Unauthorized"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "image whose registry is away",
        cause: Cause::Config(|_, config| {
            container(config, json!({"image": "10.88.0.1:5009/away:1"}));
        }),
        says: &["ErrImagePull", "connection refused"],
        known_after: SECOND_PULL,
    },
    Fault {
        name: "image that may not be pulled and is not there",
        cause: Cause::Config(|_, config| {
            let image = json!({"image": "example.com/absent:1", "imagePullPolicy": "Never"});
            container(config, image);
        }),
        says: &["is not present with pull policy of Never"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "no node takes the pod",
        cause: Cause::Outside(cordon, uncordon),
        says: &["Unschedulable", "node(s) were unschedulable"],
        known_after: GRACE,
    },
    Fault {
        name: "more CPU than any node has",
        cause: Cause::Config(|_, config| {
            container(config, json!({"resources": {"requests": {"cpu": "64"}}}));
        }),
        says: &["Unschedulable", "Insufficient cpu"],
        known_after: GRACE,
    },
    Fault {
        name: "no node has the label that the template asks for",
        cause: Cause::Config(|_, config| {
            template(config, json!({"spec": {"nodeSelector": {"disk": "fast"}}}));
        }),
        says: &["Unschedulable", "didn't match Pod's node affinity/selector"],
        known_after: GRACE,
    },
    Fault {
        name: "volume claim that does not exist",
        cause: Cause::Config(|_, config| {
            let claim = json!({"name": "absent", "persistentVolumeClaim": {"claimName": "absent"}});
            template(config, json!({"spec": {"volumes": [claim]}}));
        }),
        says: &[
            "Unschedulable",
            "persistentvolumeclaim \"absent\" not found",
        ],
        known_after: GRACE,
    },
    Fault {
        name: "quota of the namespace used up",
        cause: Cause::Outside(quota, no_quota),
        says: &["exceeded quota: none", "limited: pods=0"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "Pod Security refuses the pod",
        cause: Cause::Config(|_, config| template(config, json!({"spec": {"hostNetwork": true}}))),
        says: &["violates PodSecurity", "hostNetwork=true"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "service account that does not exist",
        cause: Cause::Config(|_, config| {
            template(config, json!({"spec": {"serviceAccountName": "nobody"}}));
        }),
        says: &["serviceaccount \"nobody\" not found"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "image of root",
        cause: Cause::Config(|c, config| {
            let image = c
                .assets
                .images()
                .map(|images| c.registry.reference(&images.runtime_1_4));
            let image = image.expect("the images are made before the suite begins");
            template(
                config,
                json!({"spec": {
                    "securityContext": {"runAsUser": null, "runAsGroup": null},
                    "containers": [{"name": "chaincode", "image": image}],
                    "initContainers": [{"name": "fetch", "securityContext": {"runAsUser": 500}}],
                }}),
            );
        }),
        says: &["runAsNonRoot and image will run as root"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "image whose user is a name",
        cause: Cause::Config(|_, config| {
            template(
                config,
                json!({"spec": {
                    "securityContext": {"runAsUser": null, "runAsGroup": null},
                    "initContainers": [{"name": "fetch", "securityContext": {"runAsUser": 500}}],
                }}),
            );
        }),
        says: &["image has non-numeric user (chaincode)"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "Secret of a variable that does not exist",
        cause: Cause::Config(|_, config| {
            let reference = json!({"secretKeyRef": {"name": "absent", "key": "x"}});
            container(
                config,
                json!({"env": [{"name": "ABSENT", "valueFrom": reference}]}),
            );
        }),
        says: &["CreateContainerConfigError", "secret \"absent\" not found"],
        known_after: SECOND_LOOK,
    },
    Fault {
        name: "Secret of a volume that does not exist",
        cause: Cause::Config(|_, config| {
            let volume = json!({"name": "absent", "secret": {"secretName": "absent"}});
            template(
                config,
                json!({"spec": {
                    "volumes": [volume],
                    "containers": [{"name": "chaincode", "volumeMounts": [{"name": "absent", "mountPath": "/absent"}]}],
                }}),
            );
        }),
        says: &["FailedMount", "secret \"absent\" not found"],
        known_after: REPEATED_MOUNT,
    },
    Fault {
        name: "sandbox that cannot be made",
        cause: Cause::Config(|_, config| {
            template(
                config,
                json!({"spec": {"runtimeClassName": null, "securityContext": {"runAsUser": null, "runAsGroup": 500}}}),
            );
        }),
        says: &["FailedCreatePodSandBox"],
        known_after: SECOND_PULL,
    },
    Fault {
        name: "command that does not exist",
        cause: Cause::Config(|_, config| container(config, json!({"command": ["/no/such"]}))),
        says: &["StartError", "/no/such", "no such file or directory"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "command that may not be executed",
        cause: Cause::Config(|_, config| container(config, json!({"command": ["/etc/passwd"]}))),
        says: &["StartError", "/etc/passwd", "permission denied"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "working directory that cannot be entered",
        cause: Cause::Config(|_, config| container(config, json!({"workingDir": "/bin/sh"}))),
        says: &["StartError", "not a directory"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "memory that does not suffice for the start",
        cause: Cause::Config(|_, config| {
            let memory = json!({"limits": {"memory": "12Mi"}, "requests": {"memory": "8Mi"}});
            container(
                config,
                json!({"command": ["/bin/sh", "-c", "tail /dev/zero"], "resources": memory}),
            );
        }),
        says: &["container exited with 137"],
        known_after: AT_ONCE,
    },
    Fault {
        name: "process that ends before it connects",
        cause: Cause::Config(|_, config| {
            container(config, json!({"command": ["/bin/sh", "-c", "exit 7"]}));
        }),
        says: &["container exited with 7"],
        known_after: AT_ONCE,
    },
];

/// The image that its registry denies runs once the node has the login: `kubernetes.imagePullSecrets`.
pub(super) fn pull_secret_opens_a_closed_registry(c: &Counterparts) -> Result<Option<Steps>> {
    deployed(c)?;
    let image = c.closed_registry.push(&c.assets.images()?.runtime)?;
    let login = c.closed_registry.docker_config()?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": login},
    });
    let namespace = ["--namespace", CHAINCODE_NAMESPACE];
    let apply = [&["apply", "-f", "-"][..], &namespace].concat();
    c.cluster.kubectl_stdin(&apply, &secret.to_string())?;
    let mut steps = Steps::new();
    let judged = (|| {
        SHARED.end(c)?;
        c.reconfigure(|config| {
            container(config, json!({"image": image}));
            config["kubernetes"]["imagePullSecrets"] = json!(["pull"]);
        })?;
        steps.time("first invoke", || SHARED.invoke(c, "pull secret"))?;
        SHARED.one_pod(c)
    })();
    c.cluster
        .kubectl(&[&["delete", "secret", "pull"][..], &namespace].concat())?;
    c.configure_as_before()?;
    judged.map(|()| Some(steps))
}

pub(super) fn launch_that_fails_tells_why(c: &Counterparts) -> Result<Option<Steps>> {
    deployed(c)?;
    judge_launches(c, FAULTS)
}
