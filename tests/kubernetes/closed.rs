//! Builders, bases and what is built in one registry that lets in nobody without a login, as Harbor holds them for many; by the
//! real program, in both modes. In the mode `registry` Peitho gives the nodes its own login, for each kind of pod; in the mode
//! `delivery` it has none to give, and the operator's is named. Each pod pulls what no other pulled before: a node asks for no
//! login for what it has.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::engine::{Engine, chaincode_body};
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::{HOST_ADDRESS, Process, wait};

use crate::world::{Counterparts, PASSWORD, USER};

/// Beside the runtime of the other cases, and an instance of its own.
const INSTANCE: &str = "closed";
/// What Peitho writes.
const OWN: &str = "closed-pull";
/// What the operator made.
const OPERATORS: &str = "closed-reader";
const ENGINE: &str = "127.0.0.1:28180";
const DELIVERY_PORT: u16 = 28181;
const ADMIN: &str = "127.0.0.1:29190";
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until it is told to end.
const SCRIPT: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nsleep 1000 & wait\n";

pub(crate) fn one_registry_for_all(c: &Counterparts) -> Result<()> {
    let [by_operator, by_peitho, whole] = ["by-operator", "by-peitho", "whole"];
    let delivering = Server::start(c, &delivery(c)?)?;
    let builder = push(c, "builder-of-delivery")?;
    // Its own login serves Peitho alone.
    let told = delivering.compile(&builder)?.text();
    ensure!(told.contains("401 Unauthorized"), "{told}");
    make_secret(c)?;
    delivering.compiles(&builder)?;
    delivering.build(by_operator, &push(c, "base-of-delivery")?)?;
    let pod = delivering.launch(c, by_operator)?;
    ensure!(pod["spec"].get("initContainers").is_some(), "{pod}");
    delivering.build(by_peitho, &push(c, "base-of-before")?)?;
    delivering.end()?;
    kubectl(c, &["delete", "secret", OPERATORS])?;

    let pushing = Server::start(c, &registry(c))?;
    ensure!(kubectl(c, &["get", "secret", OWN]).is_err(), "too early");
    pushing.compiles(&push(c, "builder-of-registry")?)?;
    let made = kubectl(c, &["get", "secret", OWN, "--output=json"])?;
    let made: Value = serde_json::from_str(&made)?;
    ensure!(made["type"] == "kubernetes.io/dockerconfigjson", "{made}");
    // Somebody deletes it: each pod that needs it has it written again.
    for (label, fetches) in [(by_peitho, true), (whole, false)] {
        kubectl(c, &["delete", "secret", OWN])?;
        if !fetches {
            pushing.build(label, &push(c, "base-of-registry")?)?;
        }
        let pod = pushing.launch(c, label)?;
        let spec = &pod["spec"];
        ensure!(spec.get("initContainers").is_some() == fetches, "{pod}");
        ensure!(spec["imagePullSecrets"] == json!([{"name": OWN}]), "{pod}");
    }
    pushing.end()?;

    // Nothing needs it any more.
    let delivering = Server::start(c, &delivery(c)?)?;
    wait::until("the login is gone", PATIENCE, None, || {
        Ok(kubectl(c, &["get", "secret", OWN]).is_err().then_some(()))
    })?;
    delivering.end()?;
    let instance = format!("{INSTANCE}-instance");
    kubectl(c, &["delete", "secret", &instance])?;
    Ok(())
}

/// An image with a shell, in a repository of its own.
fn push(c: &Counterparts, name: &str) -> Result<String> {
    let image = c.shell.called(&format!("mirror/{name}:1"));
    c.closed.push(&image)?;
    Ok(c.closed.reference(&image))
}

fn make_secret(c: &Counterparts) -> Result<()> {
    let [server, user, password] = [
        format!("--docker-server={}", c.closed.address()),
        format!("--docker-username={USER}"),
        format!("--docker-password={PASSWORD}"),
    ];
    let make = ["create", "secret", "docker-registry", OPERATORS];
    kubectl(c, &[&make[..], &[&server, &user, &password]].concat()).map(drop)
}

fn kubectl(c: &Counterparts, arguments: &[&str]) -> Result<String> {
    let place = ["--namespace", CHAINCODE_NAMESPACE];
    c.cluster.kubectl(&[arguments, &place].concat())
}

fn delivery(c: &Counterparts) -> Result<Value> {
    let file = c.run.dir().join("closed-password");
    std::fs::write(&file, PASSWORD)?;
    let closed = json!({
        "host": c.closed.address().to_string(), "scheme": "http", "username": USER, "passwordFile": file,
    });
    let images = json!({"registries": [closed]});
    Ok(config(c, images, &[OPERATORS]))
}

fn registry(c: &Counterparts) -> Value {
    let registry = json!({
        "address": c.closed.address().to_string(), "project": "closed", "scheme": "http",
        "username": USER, "password": PASSWORD,
    });
    config(c, json!({"mode": "registry", "registry": registry}), &[])
}

fn config(c: &Counterparts, images: Value, pull_secrets: &[&str]) -> Value {
    json!({
        "listen": {"engineApi": ENGINE, "delivery": format!("0.0.0.0:{DELIVERY_PORT}"), "admin": ADMIN},
        "store": {"directory": c.run.data().join("closed-store")},
        "images": images,
        "delivery": {"address": format!("https://{HOST_ADDRESS}:{DELIVERY_PORT}")},
        "kubernetes": {
            "kubeconfig": c.kubeconfig, "namespace": CHAINCODE_NAMESPACE, "instance": INSTANCE,
            "imagePullSecrets": pull_secrets,
        },
        "agent": {"image": c.build.image},
        "log": {"level": "info,peitho::runtime=debug", "color": "never"},
    })
}

struct Server {
    process: Process,
    engine: Engine,
}

impl Server {
    fn start(c: &Counterparts, config: &Value) -> Result<Self> {
        let process = c.serve("closed", config)?;
        let admin = Engine::new(ADMIN.parse()?);
        process.wait_until("is ready", PATIENCE, || {
            let answer = admin.send("GET", "/readyz", "text/plain", b"");
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        })?;
        let engine = Engine::new(ENGINE.parse()?);
        Ok(Self { process, engine })
    }

    /// What `wait` answers for a compile with `builder`.
    fn compile(&self, builder: &str) -> Result<testbed::engine::Answer> {
        // All builders are one image, and what was compiled by it once is not compiled again.
        let command = format!("echo compiled by {builder}");
        let body = json!({"Image": builder, "Cmd": ["/bin/sh", "-c", command]});
        let id = self.engine.create(None, &body)?;
        let start = format!("/containers/{id}/start");
        self.engine.order("POST", &start, &[204])?;
        let answer = self.engine.post(&format!("/containers/{id}/wait"))?;
        let remove = format!("/containers/{id}");
        self.engine.order("DELETE", &remove, &[204])?;
        Ok(answer)
    }

    fn compiles(&self, builder: &str) -> Result<()> {
        let answer = self.compile(builder)?;
        let code = answer.json()?["StatusCode"].as_i64();
        let told = answer.text();
        ensure!(code == Some(0), "{told}\n{}", self.process.log());
        Ok(())
    }

    fn build(&self, label: &str, base: &str) -> Result<()> {
        self.engine.build_script(&image(label), base, SCRIPT)
    }

    /// Its pod, while it runs; it is removed then.
    fn launch(&self, c: &Counterparts, label: &str) -> Result<Value> {
        let name = image(label);
        let package = format!("{label}:{}", "cd".repeat(32));
        let body = chaincode_body(&name, &package);
        self.engine.create(Some(&name), &body)?;
        let start = format!("/containers/{name}/start");
        self.engine.order("POST", &start, &[204])?;
        let selector = format!(
            "--selector=app.kubernetes.io/instance={INSTANCE},app.kubernetes.io/component=chaincode"
        );
        let what = format!("the chaincode {label} runs");
        let pod = wait::until(&what, PATIENCE, None, || {
            let list = kubectl(c, &["get", "pods", &selector, "--output=json"])?;
            let list: Value = serde_json::from_str(&list)?;
            let pod = list["items"].get(0).context("it has no pod")?.clone();
            Ok((pod["status"]["phase"] == "Running").then_some(pod))
        })?;
        let remove = format!("/containers/{name}?force=1");
        self.engine.order("DELETE", &remove, &[204])?;
        Ok(pod)
    }

    fn end(self) -> Result<()> {
        let status = self.process.terminate(PATIENCE)?;
        let log = self.process.log();
        ensure!(status.success(), "the end was {status}:\n{log}");
        Ok(())
    }
}

fn image(label: &str) -> String {
    format!("dev-peer0.org.example.com-{label}_1-{}", "cd".repeat(32))
}
