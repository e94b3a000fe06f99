//! The start of the server against a real API server: what it may not do, who it is not, and that the original's
//! configuration serves. What needs no cluster is in `tests/startup`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use peitho::runtime::kubernetes::RIGHTS;
use serde_json::{Value, json};
use testbed::peitho::{CHAINCODE_NAMESPACE, NAMESPACE, project};
use testbed::{Process, Steps};

use crate::world::Counterparts;
use testbed::engine::Engine;

/// Beside the server that the other cases use.
const ADMIN: &str = "127.0.0.1:29090";
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts another server, of an instance of its own, with these settings over its file, if it has one.
fn start(c: &Counterparts, file: Option<&Path>, settings: &[(&str, &str)]) -> Result<Process> {
    let store = c.run.data().join("startup-store");
    let mut command = Command::new(&c.build.program);
    command.arg("serve").current_dir(c.run.dir());
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    command
        .env("PEITHO_LISTEN__ENGINE_API", "127.0.0.1:28080")
        .env("PEITHO_LISTEN__DELIVERY", "127.0.0.1:28081")
        .env("PEITHO_LISTEN__ADMIN", ADMIN)
        .env("PEITHO_STORE__DIRECTORY", store)
        .env("PEITHO_KUBERNETES__INSTANCE", "startup")
        .env("NO_COLOR", "1")
        // What the run lies beside is not its configuration.
        .env_remove("KUBECONFIG");
    command.envs(settings.iter().copied());
    Process::spawn(&c.run, "startup", command)
}

/// Waits until the server gave up, which must be at once; its last line.
fn last_words(process: &Process) -> Result<String> {
    let status = process.wait(PATIENCE)?;
    let log = process.log();
    ensure!(status.code() == Some(1), "it ended with {status}:\n{log}");
    ensure!(
        log.matches("error: ").count() == 1,
        "it did not end with one error:\n{log}"
    );
    Ok(log.lines().last().unwrap_or_default().to_owned())
}

fn wait_until_ready(process: &Process) -> Result<()> {
    let admin = Engine::new(ADMIN.parse::<SocketAddr>()?);
    process.wait_until("is ready", PATIENCE, || {
        let answer = admin.send("GET", "/readyz", "text/plain", b"");
        Ok(answer.is_ok_and(|answer| answer.status == 200))
    })
}

/// Ends a server that serves, as Kubernetes does, and removes what it made.
fn end(c: &Counterparts, process: &Process, namespace: &str) -> Result<()> {
    let status = process.terminate(PATIENCE)?;
    ensure!(status.success(), "the end was {status}:\n{}", process.log());
    c.cluster.kubectl(&[
        "delete",
        "secret",
        "startup-instance",
        "--namespace",
        namespace,
    ])?;
    Ok(())
}

/// Applies objects that are gone with [`remove`].
fn apply(c: &Counterparts, items: &[Value]) -> Result<String> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    c.cluster.kubectl_stdin(&["apply", "-f", "-"], &list)?;
    Ok(list)
}

fn remove(c: &Counterparts, list: &str) -> Result<()> {
    c.cluster.kubectl_stdin(&["delete", "-f", "-"], list)?;
    Ok(())
}

fn service_account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}})
}

/// A role in `namespace` with these rules, bound to an account in Peitho's own.
fn role(namespace: &str, account: &str, rules: &Value) -> [Value; 2] {
    let metadata = json!({"name": account, "namespace": namespace});
    let version = "rbac.authorization.k8s.io/v1";
    let role = json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules});
    let binding = json!({
        "apiVersion": version,
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    });
    [role, binding]
}

/// The rules of the committed Role but for these resources.
fn rules_without(resources: &[&str]) -> Value {
    let kept = RIGHTS
        .iter()
        .filter(|right| !resources.contains(&right.resource));
    let rule = |right: &peitho::runtime::kubernetes::Right| json!({"apiGroups": [""], "resources": [right.resource], "verbs": right.verbs});
    Value::Array(kept.map(rule).collect())
}

/// A copy of the kubeconfig at `path`, changed.
fn changed(path: &Path, change: impl FnOnce(String) -> String) -> Result<PathBuf> {
    let copy = path.with_extension("changed");
    fs::write(&copy, change(fs::read_to_string(path)?))?;
    Ok(copy)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of the run is not text")
}

/// The value of `server` in a kubeconfig of the testbed.
fn server_of(kubeconfig: &Path) -> Result<String> {
    let text = fs::read_to_string(kubeconfig)?;
    let server = text.split("server: '").nth(1);
    let server = server.and_then(|rest| rest.split('\'').next());
    Ok(server.context("no server in the kubeconfig")?.to_owned())
}

pub(super) fn startup_without_the_role_names_the_missing_rights(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let made = apply(c, &[service_account("without-role")])?;
    let kubeconfig = c.cluster.kubeconfig_for(NAMESPACE, "without-role")?;
    let settings = [
        ("PEITHO_KUBERNETES__KUBECONFIG", text(&kubeconfig)?),
        ("PEITHO_KUBERNETES__NAMESPACE", CHAINCODE_NAMESPACE),
    ];
    let words = last_words(&start(c, None, &settings)?)?;
    let expected = "error: missing rights in namespace chaincode: get, list, watch, create, delete pods; get, list, watch, \
                    create, patch, delete secrets; bind the Role of the deployment (deploy/role.yaml) to Peitho's account there";
    ensure!(words == expected, "it said {words}");
    remove(c, &made)?;
    Ok(None)
}

pub(super) fn startup_without_events_warns_once_and_serves(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let account = "without-events";
    let rules = rules_without(&["events", "pods/log"]);
    let [role, binding] = role(CHAINCODE_NAMESPACE, account, &rules);
    let made = apply(c, &[service_account(account), role, binding])?;
    let kubeconfig = c.cluster.kubeconfig_for(NAMESPACE, account)?;
    let settings = [
        ("PEITHO_KUBERNETES__KUBECONFIG", text(&kubeconfig)?),
        ("PEITHO_KUBERNETES__NAMESPACE", CHAINCODE_NAMESPACE),
        ("PEITHO_LOG__LEVEL", "info,peitho::runtime=debug"),
    ];
    let process = start(c, None, &settings)?;
    wait_until_ready(&process)?;
    // The watch of events is refused, tried again, and refused in the same words.
    process.wait_for_line("a watch is still interrupted", PATIENCE)?;
    let log = process.log();
    for warning in [
        "missing rights in namespace chaincode: get pods/log: a peer that attaches to chaincode sees no output; bind the Role",
        "missing rights in namespace chaincode: get, list, watch events: some launches that fail end late and without their \
         reason; bind the Role",
    ] {
        ensure!(
            log.matches(warning).count() == 1,
            "no {warning:?} in\n{log}"
        );
    }
    end(c, &process, CHAINCODE_NAMESPACE)?;
    let log = process.log();
    let interrupted = log.matches("a watch was interrupted").count();
    ensure!(interrupted == 1, "told {interrupted} times:\n{log}");
    remove(c, &made)?;
    Ok(None)
}

pub(super) fn startup_with_a_wrong_token_is_refused_at_once(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let kubeconfig = c.cluster.kubeconfig_for(NAMESPACE, "peitho")?;
    // The signature no longer fits.
    let wrong = changed(&kubeconfig, |text| text.replace("token: ey", "token: eyX"))?;
    let server = server_of(&wrong)?;
    let settings = [
        ("PEITHO_KUBERNETES__KUBECONFIG", text(&wrong)?),
        ("PEITHO_KUBERNETES__NAMESPACE", CHAINCODE_NAMESPACE),
    ];
    let begun = Instant::now();
    let words = last_words(&start(c, None, &settings)?)?;
    let expected = format!(
        "error: asking {server}: Unauthorized; see whether the service account's token is valid"
    );
    ensure!(words == expected, "it said {words}");
    ensure!(begun.elapsed() < Duration::from_secs(10), "it waited");
    Ok(None)
}

pub(super) fn startup_in_a_namespace_that_does_not_exist_names_it(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    // Only an administrator is told: the Role of another namespace gives no rights in one that is not there.
    let kubeconfig = c.cluster.kubeconfig();
    let settings = [
        ("PEITHO_KUBERNETES__KUBECONFIG", text(&kubeconfig)?),
        ("PEITHO_KUBERNETES__NAMESPACE", "nowhere"),
    ];
    let words = last_words(&start(c, None, &settings)?)?;
    let expected = "error: creating secret nowhere/startup-instance: namespaces \"nowhere\" not found; see whether the \
                    namespace exists";
    ensure!(words == expected, "it said {words}");
    Ok(None)
}

pub(super) fn startup_with_the_configuration_of_the_original(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fabric"}});
    let [role, binding] = role("fabric", "peitho", &rules_without(&[]));
    let made = apply(c, &[namespace, role, binding])?;
    let kubeconfig = c.cluster.kubeconfig_for(NAMESPACE, "peitho")?;
    let sample = project().join("tests/fixtures/original-peitho.yml");
    // The paths and ports of this machine; all else is the file's.
    let settings = [("PEITHO_KUBERNETES__KUBECONFIG", text(&kubeconfig)?)];
    let process = start(c, Some(&sample), &settings)?;
    wait_until_ready(&process)?;
    let log = process.log();
    for told in [
        "k8s.namespace is called kubernetes.namespace now",
        "k8s.kubeconfig is called kubernetes.kubeconfig now",
        "k8s.dns is called kubernetes.hostAliases now",
        "peitho.pullerAccessAddress is called delivery.address now, with the value https://peitho:8081",
        "docker.registry.password is called images.registry.password now",
    ] {
        ensure!(log.matches(told).count() == 1, "not once {told:?}:\n{log}");
    }
    ensure!(
        !log.contains("a-password-in-the-open"),
        "the log has the password"
    );
    end(c, &process, "fabric")?;
    remove(c, &made)?;
    Ok(None)
}
