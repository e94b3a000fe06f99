//! What a peer's HostConfig and the operator's templates make of pods, as the processes in them see it. The overrides
//! stand in the testbed's configuration of Peitho; their labels begin with `tmpl`.

use std::io::Read;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::peitho::{CHAINCODE_NAMESPACE, PROXY_PASSWORD};
use testbed::{HOST_ADDRESS, Steps};

use crate::world::Counterparts;

const IMAGE: &str = "test-templates-image";

/// Says what it sees, and ends.
const FACTS: &str = r#"#!/bin/sh
first() { cat "$@" 2>/dev/null | head -n 1; }
echo "args [$1] [$2]"
echo "text [$TEXT]"
echo "template [$FROM_TEMPLATE]"
echo "memory $(first /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max)"
echo "quota $(first /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max)"
echo "root $(awk '$2 == "/" { print $4 }' /proc/mounts | cut -d, -f1)"
echo "user $(id -u)"
cat /etc/hosts /etc/resolv.conf
"#;

/// Text that Kubernetes would expand, a shell too, and that has every sign which is split at.
const TEXT: &str = "$(PATH) $$(PATH) $PATH $$ `id` a=b=c 100%";

/// A chaincode container that ran to its end and was not removed.
struct Ran {
    output: String,
    pod: Value,
}

impl Ran {
    /// Launches the container `name` of the package `id` and hears it out.
    fn once(c: &Counterparts, name: &str, id: &str, host: &Value) -> Result<Ran> {
        let body = json!({
            "Env": [format!("CORE_CHAINCODE_ID_NAME={id}"), format!("TEXT={TEXT}")],
            "Cmd": ["chaincode", TEXT, "second"],
            "Image": IMAGE,
            "Entrypoint": null,
            "HostConfig": host,
        });
        c.engine.create(Some(name), &body)?;
        let mut attached = c.engine.attach(name, "/v1.44")?;
        c.engine
            .order("POST", &format!("/containers/{name}/start"), &[204])?;
        let code = c.engine.wait(name)?;
        let mut output = String::new();
        attached.read_to_string(&mut output)?;
        ensure!(code == 0, "{name} ended with {code}: {output}");
        Ok(Ran {
            output,
            pod: pod_of(c, name)?,
        })
    }

    fn says(&self, line: &str) -> Result<()> {
        let said = self
            .output
            .lines()
            .any(|said| said.split_whitespace().eq(line.split_whitespace()));
        ensure!(said, "{line:?} is not among\n{}", self.output);
        Ok(())
    }

    fn container(&self) -> &Value {
        &self.pod["spec"]["containers"][0]
    }
}

fn pod_of(c: &Counterparts, container: &str) -> Result<Value> {
    let selector = "app.kubernetes.io/component=chaincode";
    let list = c.cluster.kubectl(&[
        "get",
        "pods",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "--selector",
        selector,
        "-o",
        "json",
    ])?;
    let list: Value = serde_json::from_str(&list)?;
    let pods = list["items"].as_array().context("no list")?;
    let of_container =
        |pod: &&Value| pod["metadata"]["annotations"]["peitho.dev/container-name"] == container;
    pods.iter()
        .find(of_container)
        .cloned()
        .with_context(|| format!("{container} has no pod"))
}

fn build(c: &Counterparts) -> Result<()> {
    let base = c.registry.reference(&c.assets.images()?.runtime);
    c.engine.build_script(IMAGE, &base, FACTS)
}

fn remove(c: &Counterparts, name: &str) -> Result<()> {
    c.engine
        .order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    Ok(())
}

/// What of HostConfig, command and environment a peer sends reaches the process.
pub(super) fn templates_host_config_reaches_the_process(c: &Counterparts) -> Result<Option<Steps>> {
    build(c)?;
    let host = json!({
        "NetworkMode": "host",
        "Memory": 100 << 20,
        "CpuQuota": 50_000,
        "CpuPeriod": 100_000,
        "Dns": ["10.1.1.1"],
        "DnsSearch": ["fabric.example.com"],
        "ExtraHosts": ["orderer.example.com:10.0.0.7", "six.example.com:fd00::7"],
        "ReadonlyRootfs": true,
        "CapAdd": ["CAP_SYS_ADMIN"],
        "PidMode": "host",
    });
    let name = "test-host-config";
    let ran = Ran::once(c, name, "plain_1:ab", &host)?;
    for line in [
        &format!("args [{TEXT}] [second]"),
        &format!("text [{TEXT}]"),
        "template []",
        "memory 104857600",
        "root ro",
        "10.0.0.7 orderer.example.com",
        "fd00::7 six.example.com",
        "nameserver 10.1.1.1",
    ] {
        ran.says(line)?;
    }
    let says = |part: &str| ran.output.contains(part);
    ensure!(says("quota 50000"), "no limit of the CPU: {}", ran.output);
    let search = ran.output.lines().find(|line| line.starts_with("search "));
    ensure!(
        search.is_some_and(|line| line.contains("fabric.example.com")),
        "{search:?}"
    );
    let (container, spec) = (ran.container(), &ran.pod["spec"]);
    let expected = json!({
        "requests": {"cpu": "10m", "memory": "64Mi"},
        "limits": {"cpu": "500m", "memory": "100Mi"},
    });
    let limits = &container["resources"]["limits"];
    ensure!(
        container["resources"]["requests"] == expected["requests"]
            && limits["cpu"] == "500m"
            && (limits["memory"] == "104857600" || limits["memory"] == "100Mi"),
        "resources are {}",
        container["resources"]
    );
    ensure!(
        container["securityContext"]["capabilities"] == json!({"drop": ["ALL"]})
            && spec["hostPID"].is_null(),
        "privileges were given: {spec}"
    );
    remove(c, name)?;
    Ok(None)
}

/// An override changes the pods of its label, and no others.
pub(super) fn templates_change_the_pods_of_their_label(c: &Counterparts) -> Result<Option<Steps>> {
    build(c)?;
    let host = json!({"NetworkMode": "host", "Memory": 100 << 20});
    let ran = Ran::once(c, "test-tmpl", "tmpl_1:ab", &host)?;
    for line in [
        "template [of tmpl]",
        // Not the peer's 100 MiB.
        "memory 50331648",
        "10.0.0.8 tmpl.example.com",
        "user 501",
        &format!("text [{TEXT}]"),
    ] {
        ran.says(line)?;
    }
    let labels = &ran.pod["metadata"]["labels"];
    ensure!(labels["team"] == "tmpl", "labels are {labels}");
    ensure!(
        ran.pod["spec"]["nodeSelector"] == json!({"kubernetes.io/os": "linux"}),
        "{}",
        ran.pod["spec"]
    );
    remove(c, "test-tmpl")?;
    let other = Ran::once(c, "test-no-tmpl", "other_tmpl_1:ab", &host)?;
    for line in ["template []", "memory 104857600", "user 500"] {
        other.says(line)?;
    }
    remove(c, "test-no-tmpl")?;
    Ok(None)
}

/// Compiles get the operator's proxies and certificates; the agent beside them goes straight to Peitho, or nothing of this
/// would be heard: nobody listens at the proxy.
pub(super) fn templates_compiles_have_proxies_and_certificates(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    let image = c.registry.reference(&c.assets.images()?.copybuilder);
    let script = "echo \"proxy [$HTTP_PROXY] [$https_proxy]\"; echo \"direct [$NO_PROXY]\"; cat $SSL_CERT_FILE";
    let id = c.engine.create(
        None,
        &json!({"Cmd": ["/bin/sh", "-c", script], "Image": image}),
    )?;
    let mut attached = c.engine.attach(&id, "/v1.44")?;
    c.engine
        .order("POST", &format!("/containers/{id}/start"), &[204])?;
    let code = c.engine.wait(&id)?;
    let mut output = String::new();
    attached.read_to_string(&mut output)?;
    let proxy = format!("http://nobody:{PROXY_PASSWORD}@127.0.0.1:9");
    let direct = format!("direct [{}]", HOST_ADDRESS);
    ensure!(
        code == 0
            && output.contains(&format!("proxy [{proxy}] [{proxy}]"))
            && output.contains(&direct)
            && output.contains("BEGIN CERTIFICATE"),
        "code {code}: {output}"
    );
    remove(c, &id)?;
    Ok(None)
}

/// What would fail at a launch stands in the log from the start on, by the key that makes it so; and it fails with that
/// reason.
pub(super) fn templates_that_the_cluster_refuses_are_told_at_the_start(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    // Of a server that has its configuration from here on: others were there before with other templates.
    c.configure_as_before()?;
    let text = c.with_peitho(|peitho| {
        let over = "rehearsal: over";
        peitho
            .process()
            .wait_for_line(over, Duration::from_secs(20))?;
        Ok(peitho.process().log())
    })?;
    let told = |parts: &[&str]| {
        let line = text
            .lines()
            .find(|line| line.contains("WARN") && parts.iter().all(|part| line.contains(part)));
        ensure!(line.is_some(), "no line of the log has all of {parts:?}");
        Ok(())
    };
    told(&[
        "rehearsal: the cluster would not take",
        "violates PodSecurity",
        "hostNetwork",
    ])?;
    told(&[
        "rehearsal: the API server drops fields",
        "chaincode.overrides[2]",
        "spec.volumes",
    ])?;
    let wrong: Vec<_> = text
        .lines()
        .filter(|line| line.contains("rehearsal:") && line.contains("WARN"))
        .filter(|line| {
            line.contains("\"compile.podTemplate\"") || line.contains("\"chaincode.podTemplate\"")
        })
        .collect();
    ensure!(wrong.is_empty(), "the plain pods are refused: {wrong:?}");
    let log = c.with_peitho(|peitho| Ok(peitho.process().log_path().to_owned()))?;
    ensure!(
        !std::fs::read_to_string(log)?.contains(PROXY_PASSWORD),
        "the log has the password of the proxy"
    );

    build(c)?;
    let name = "test-tmpl-host";
    let body = json!({
        "Env": ["CORE_CHAINCODE_ID_NAME=tmpl-host:ab"], "Cmd": ["chaincode"], "Image": IMAGE,
    });
    c.engine.create(Some(name), &body)?;
    let answer = c.engine.post(&format!("/containers/{name}/start"))?;
    ensure!(
        answer.status == 500 && answer.text().contains("violates PodSecurity"),
        "start was answered with {} {}",
        answer.status,
        answer.text()
    );
    remove(c, name)?;
    Ok(None)
}
