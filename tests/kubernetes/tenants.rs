//! Tenants on a cluster, by the real program: each has what is its own, and no two meet. org1 has a namespace of its own,
//! org2 and org3 share the general one, org2 with a template.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::engine::{Engine, chaincode_body};
use testbed::peitho::{CHAINCODE_NAMESPACE, project};
use testbed::{Cluster, HOST_ADDRESS, Process, wait};

use crate::world::Counterparts;

/// Namespace of org1, in `deploy/tenant.yaml`.
const OF_ORG1: &str = "chaincode-org1";
/// Beside the runtime of the other cases, and an instance of its own.
const INSTANCE: &str = "tenants";
/// The Secret with which nodes of that instance pull.
const LOGIN: &str = "tenants-pull";
const ENGINE: &str = "127.0.0.1:28080";
const DELIVERY_PORT: u16 = 28081;
const ADMIN: &str = "127.0.0.1:29090";
const PATIENCE: Duration = Duration::from_secs(60);

/// The same for all tenants, as two peers of one name have it.
const IMAGE: &str = "dev-peer0.org.example.com-same_1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PACKAGE: &str = "same_1:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Runs until it is told to end.
const SCRIPT: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nsleep 1000 & wait\n";

pub(crate) fn tenants(c: &Counterparts) -> Result<()> {
    without_rights(c)?;
    apply(c)?;
    leave_logins(c)?;
    let server = Server::start(c)?;
    logins_are_gone(c)?;
    let tenants = ["org1", "org2", "org3"].map(|it| (it, server.engine.of_tenant(it)));
    let mut ids = Vec::new();
    for (name, engine) in &tenants {
        engine.build_script(IMAGE, &c.base, SCRIPT)?;
        let id = engine.create(Some(IMAGE), &chaincode_body(IMAGE, PACKAGE))?;
        engine.order("POST", &format!("/containers/{IMAGE}/start"), &[204])?;
        let pod = running(&c.cluster, name, "chaincode")?;
        is_as_configured(name, &pod)?;
        ids.push(id);
    }
    sees_its_own(&tenants, &ids)?;
    compile(c, &server, &tenants[0].1)?;
    let server = server.killed_while_org1_compiles(c, &tenants[0].1)?;
    sees_its_own(&tenants, &ids)?;
    quota(c, &tenants)?;
    loses_its_rights(c, &tenants)?;

    // The end of one is nobody else's.
    let remove = format!("/containers/{IMAGE}?force=1");
    tenants[0].1.order("DELETE", &remove, &[204])?;
    ensure!(
        pods(&c.cluster, OF_ORG1, "org1", "chaincode")?.is_empty(),
        "org1 has a pod"
    );
    tenants[1].1.order("DELETE", &remove, &[204])?;
    sees_its_own(&tenants[2..], &ids[2..])?;
    let pod = running(&c.cluster, "org3", "chaincode")?;
    is_as_configured("org3", &pod)?;
    tenants[2].1.order("DELETE", &remove, &[204])?;
    server.end(c)
}

/// Before org1's namespace is there: the start says where what is missing.
fn without_rights(c: &Counterparts) -> Result<()> {
    let process = spawn(c)?;
    let status = process.wait(PATIENCE)?;
    let log = process.log();
    let expected = "error: missing rights in namespace chaincode-org1: get, list, watch, create, delete pods; get, list, \
                    watch, create, patch, delete secrets; bind the Role of the deployment (deploy/role.yaml) to Peitho's \
                    account there";
    ensure!(status.code() == Some(1), "it ended with {status}:\n{log}");
    ensure!(log.lines().last() == Some(expected), "it said\n{log}");
    Ok(())
}

/// As a Peitho of this instance left them that pushed what it built.
fn leave_logins(c: &Counterparts) -> Result<()> {
    for namespace in [CHAINCODE_NAMESPACE, OF_ORG1] {
        let labels = json!({
            "app.kubernetes.io/managed-by": "peitho", "app.kubernetes.io/instance": INSTANCE,
            "app.kubernetes.io/component": "instance",
        });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": LOGIN, "namespace": namespace, "labels": labels},
            "stringData": {".dockerconfigjson": json!({"auths": {}}).to_string()},
        });
        let create = ["create", "-f", "-"];
        c.cluster.kubectl_stdin(&create, &secret.to_string())?;
    }
    Ok(())
}

/// In each namespace: in the mode `delivery` nobody needs them.
fn logins_are_gone(c: &Counterparts) -> Result<()> {
    for namespace in [CHAINCODE_NAMESPACE, OF_ORG1] {
        let get = ["get", "secret", LOGIN, "--namespace", namespace];
        let what = format!("the login of the nodes is gone from {namespace}");
        wait::until(&what, PATIENCE, None, || {
            Ok(c.cluster.kubectl(&get).is_err().then_some(()))
        })?;
    }
    Ok(())
}

/// The server that serves all of them.
struct Server {
    process: Process,
    engine: Engine,
}

fn spawn(c: &Counterparts) -> Result<Process> {
    let limited = json!({"name": "chaincode", "resources": {"limits": {"memory": "48Mi"}}});
    let template = |tenant: &str| json!({"metadata": {"labels": {"paid-by": tenant}}});
    let mut of_org1 = template("org1");
    of_org1["spec"] = json!({"containers": [limited]});
    let config = json!({
        "listen": {"engineApi": ENGINE, "delivery": format!("0.0.0.0:{DELIVERY_PORT}"), "admin": ADMIN},
        "store": {"directory": c.run.data().join("tenants-store")},
        "images": {"registries": [{"host": c.registry.address().to_string(), "scheme": "http"}]},
        "delivery": {"address": format!("https://{HOST_ADDRESS}:{DELIVERY_PORT}")},
        "kubernetes": {"kubeconfig": c.kubeconfig, "namespace": CHAINCODE_NAMESPACE, "instance": INSTANCE},
        "agent": {"image": c.build.image},
        "compile": {"abandonedAfterSeconds": 10},
        "tenants": {"trustPath": true, "known": [
            {
                "name": "org1",
                "namespace": OF_ORG1,
                "compile": {
                    "requests": {"memory": "32Mi"},
                    "limits": {"memory": "256Mi"},
                    "podTemplate": template("org1"),
                },
                "chaincode": {
                    "requests": {"cpu": "7m"},
                    "podTemplate": of_org1,
                    "overrides": [{"label": "same_*", "podTemplate": {"metadata": {"labels": {"same": "org1"}}}}],
                },
            },
            {"name": "org2", "chaincode": {"podTemplate": template("org2")}},
            {"name": "org3"},
        ]},
        "log": {"level": "info,peitho::runtime=debug", "color": "never"},
    });
    c.serve("tenants", &config)
}

impl Server {
    fn start(c: &Counterparts) -> Result<Self> {
        let process = spawn(c)?;
        let admin = Engine::new(ADMIN.parse()?);
        let ready = "store: ok\nkubernetes: ok\nkubernetes/chaincode-org1: ok\n";
        process.wait_until("is ready", PATIENCE, || {
            let answer = admin.send("GET", "/readyz", "text/plain", b"");
            Ok(answer.is_ok_and(|answer| answer.status == 200 && answer.text() == ready))
        })?;
        // Pods of each namespace were asked for in advance, and all would be taken.
        for namespace in [CHAINCODE_NAMESPACE, OF_ORG1] {
            let over = format!("rehearsal: over namespace=\"{namespace}\"");
            process.wait_for_line(&over, PATIENCE)?;
        }
        let log = process.log();
        ensure!(
            !log.contains("rehearsal: the"),
            "it would not take a pod:\n{log}"
        );
        let engine = Engine::new(ENGINE.parse()?);
        Ok(Self { process, engine })
    }

    /// A compile that nobody asks for any more goes, in whichever namespace it is.
    fn killed_while_org1_compiles(self, c: &Counterparts, org1: &Engine) -> Result<Self> {
        begin_compile(c, org1, "sleep 1000; true")?;
        running(&c.cluster, "org1", "compile")?;
        self.process.kill_hard()?;
        let server = Self::start(c)?;
        gone(&c.cluster, "compile")?;
        Ok(server)
    }

    fn end(self, c: &Counterparts) -> Result<()> {
        let status = self.process.terminate(PATIENCE)?;
        ensure!(
            status.success(),
            "the end was {status}:\n{}",
            self.process.log()
        );
        let secret = format!("{INSTANCE}-instance");
        let place = ["--namespace", CHAINCODE_NAMESPACE];
        c.cluster
            .kubectl(&[&["delete", "secret", &secret], &place[..]].concat())?;
        let left = c.cluster.kubectl(&[
            "get",
            "pods,secrets",
            "--all-namespaces",
            "--output=name",
            "--selector",
            &format!("app.kubernetes.io/instance={INSTANCE}"),
        ])?;
        ensure!(left.is_empty(), "left in the cluster:\n{left}");
        Ok(())
    }
}

/// `docker ps -a` of each tenant has its own container and no other's.
fn sees_its_own(tenants: &[(&str, Engine)], ids: &[String]) -> Result<()> {
    for ((name, engine), id) in tenants.iter().zip(ids) {
        let listed = engine
            .send("GET", "/containers/json?all=1", "text/plain", b"")?
            .json()?;
        let listed = listed.as_array().context("no list")?;
        let found: Vec<_> = listed.iter().map(|it| (&it["Id"], &it["State"])).collect();
        ensure!(
            found == [(&json!(id), &json!("running"))],
            "{name} sees {found:?}"
        );
        let namespace = &listed[0]["Labels"]["dev.peitho.namespace"];
        ensure!(namespace == namespace_of(name), "{name} is in {namespace}");
    }
    for (name, engine) in tenants {
        for id in ids
            .iter()
            .zip(tenants)
            .filter(|(_, (owner, _))| owner != name)
            .map(|(id, _)| id)
        {
            engine.order("GET", &format!("/containers/{id}/json"), &[404])?;
        }
    }
    Ok(())
}

fn is_as_configured(tenant: &str, pod: &Value) -> Result<()> {
    let labels = &pod["metadata"]["labels"];
    let resources = &pod["spec"]["containers"][0]["resources"];
    let found = json!({
        "paid-by": labels["paid-by"], "same": labels["same"],
        "cpu": resources["requests"]["cpu"], "memory": resources["limits"]["memory"],
    });
    let expected = match tenant {
        "org1" => json!({"paid-by": "org1", "same": "org1", "cpu": "7m", "memory": "48Mi"}),
        "org2" => json!({"paid-by": "org2", "same": null, "cpu": "10m", "memory": "268435456"}),
        _ => json!({"paid-by": null, "same": null, "cpu": "10m", "memory": "268435456"}),
    };
    ensure!(found == expected, "the pod of {tenant} has {found}");
    Ok(())
}

/// One compile of org1 from its start to its end.
fn compile(c: &Counterparts, server: &Server, org1: &Engine) -> Result<()> {
    let id = begin_compile(c, org1, "sleep 3; echo compiled")?;
    let pod = running(&c.cluster, "org1", "compile")?;
    let containers = pod["spec"]["containers"].as_array();
    let mut containers = containers.into_iter().flatten();
    let compile = containers.find(|it| it["name"] == "compile");
    let resources = &compile.context("no container compile")?["resources"];
    let expected = json!({
        "requests": {"cpu": "200m", "memory": "32Mi"},
        "limits": {"cpu": "4", "memory": "256Mi"},
    });
    ensure!(*resources == expected, "the compile has {resources}");
    let label = &pod["metadata"]["labels"]["paid-by"];
    ensure!(label == "org1", "the compile is paid by {label}");
    let code = org1.wait(&id)?;
    ensure!(
        code == 0,
        "the compile ended with {code}:\n{}",
        server.process.log()
    );
    gone(&c.cluster, "compile")?;
    org1.order("DELETE", &format!("/containers/{id}"), &[204])?;
    Ok(())
}

fn begin_compile(c: &Counterparts, engine: &Engine, script: &str) -> Result<String> {
    let body = json!({"Image": c.base, "Cmd": ["/bin/sh", "-c", script]});
    let id = engine.create(None, &body)?;
    engine.order("POST", &format!("/containers/{id}/start"), &[204])?;
    Ok(id)
}

/// org1 has used up its quota; that is not org2's affair.
fn quota(c: &Counterparts, tenants: &[(&str, Engine)]) -> Result<()> {
    let full = json!({"spec": {"hard": {"pods": "1"}}}).to_string();
    c.cluster.kubectl(&[
        "patch",
        "resourcequota",
        "chaincode",
        "--namespace",
        OF_ORG1,
        "--patch",
        &full,
    ])?;
    let name = format!("other-{IMAGE}");
    let remove = format!("/containers/{name}?force=1");
    for (tenant, engine) in &tenants[..2] {
        engine.create(Some(&name), &chaincode_body(IMAGE, PACKAGE))?;
        let answer = engine.post(&format!("/containers/{name}/start"))?;
        let is_refused =
            answer.status == 500 && answer.text().contains("exceeded quota: chaincode");
        let is_right = if *tenant == "org1" {
            is_refused
        } else {
            answer.status == 204
        };
        ensure!(is_right, "{tenant}: {} {}", answer.status, answer.text());
        engine.order("DELETE", &remove, &[204])?;
    }
    Ok(())
}

/// Nobody lets Peitho into org1's namespace any more; org2 does not notice.
fn loses_its_rights(c: &Counterparts, tenants: &[(&str, Engine)]) -> Result<()> {
    let [(_, org1), (_, org2), ..] = tenants else {
        unreachable!("there are three")
    };
    let delete = ["delete", "rolebinding", "peitho", "--namespace", OF_ORG1];
    c.cluster.kubectl(&delete)?;
    let may = || {
        let account = "system:serviceaccount:peitho:peitho";
        let ask = [
            "auth",
            "can-i",
            "create",
            "secrets",
            "--namespace",
            OF_ORG1,
            "--as",
            account,
        ];
        // `no` is an exit code.
        c.cluster.kubectl(&ask).is_ok()
    };
    wait::until("the rights are gone", PATIENCE, None, || {
        Ok((!may()).then_some(()))
    })?;
    let name = format!("late-{IMAGE}");
    let refused = org1.create(Some(&name), &chaincode_body(IMAGE, PACKAGE));
    let said = refused.map_or_else(|error| error.to_string(), |id| format!("made as {id}"));
    ensure!(said.contains("is forbidden"), "org1 was told {said}");
    org2.create(Some(&name), &chaincode_body(IMAGE, PACKAGE))?;
    org2.order("POST", &format!("/containers/{name}/start"), &[204])?;
    Engine::new(ADMIN.parse()?).order("GET", "/readyz", &[200])?;
    org2.order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    apply(c)?;
    wait::until("the rights are back", PATIENCE, None, || {
        Ok(may().then_some(()))
    })
}

fn apply(c: &Counterparts) -> Result<()> {
    let manifest = project().join("deploy/tenant.yaml");
    let manifest = manifest.to_string_lossy();
    c.cluster.kubectl(&["apply", "-f", &manifest]).map(drop)
}

fn namespace_of(tenant: &str) -> &'static str {
    if tenant == "org1" {
        OF_ORG1
    } else {
        CHAINCODE_NAMESPACE
    }
}

/// The one pod of a tenant in its namespace, once it runs.
fn running(cluster: &Cluster, tenant: &str, component: &str) -> Result<Value> {
    let what = format!("the {component} of {tenant} runs");
    wait::until(&what, PATIENCE, None, || {
        let mut pods = pods(cluster, namespace_of(tenant), tenant, component)?;
        ensure!(pods.len() < 2, "{tenant} has {} pods", pods.len());
        Ok(pods.pop().filter(|pod| pod["status"]["phase"] == "Running"))
    })
}

/// Waits until no pod of org1 is left.
fn gone(cluster: &Cluster, component: &str) -> Result<()> {
    wait::until(&format!("the {component} is gone"), PATIENCE, None, || {
        let pods = pods(cluster, OF_ORG1, "org1", component)?;
        Ok(pods.is_empty().then_some(()))
    })
}

fn pods(cluster: &Cluster, namespace: &str, tenant: &str, component: &str) -> Result<Vec<Value>> {
    let selector = format!(
        "app.kubernetes.io/instance={INSTANCE},app.kubernetes.io/component={component},peitho.dev/tenant={tenant}"
    );
    let get = [
        "get",
        "pods",
        "--namespace",
        namespace,
        "--selector",
        &selector,
        "--output=json",
    ];
    let list: Value = serde_json::from_str(&cluster.kubectl(&get)?)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}
