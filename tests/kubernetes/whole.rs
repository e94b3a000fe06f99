//! Images that a registry has whole: built in the mode `registry`, and run by the node from a registry that lets in only who
//! has the login.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use peitho::names::ImageName;
use peitho::runtime::Outcome;
use peitho::runtime::Runtime as _;
use peitho::runtime::kubernetes::PullSecret;
use serde_json::{Value, json};
use testbed::peitho::CHAINCODE_NAMESPACE;

use crate::conformance::Subject as _;
use crate::conformance::subject::{Order, collected};
use crate::pods::Pods;
use crate::world::{PASSWORD, USER, World};

type Case = fn(&World) -> Result<()>;

pub(crate) const ALL: &[(&str, Case)] = &[
    (
        "what was built runs from a registry with a login",
        built_pushed_and_run,
    ),
    (
        "nodes pull with a login of their own",
        pulled_with_a_named_secret,
    ),
];

/// Longer than any launch here takes: the node pulls.
const LAUNCH: Duration = Duration::from_secs(60);

fn built_pushed_and_run(world: &World) -> Result<()> {
    let pods = world.pods()?;
    let (order, whole) = world.block_on(ordered(pods))?;
    let runtime = pods.runtime();
    world.block_on(runtime.create(&order.spec))?;
    leaves_what_others_wrote(world, pods, &order)?;
    world.block_on(async {
        ensure!(Arc::clone(&runtime).start(order.key()).await?.outcome == Outcome::Done);
        let exit = tokio::time::timeout(LAUNCH, runtime.wait_exit(order.key())).await??;
        let output = String::from_utf8(collected(runtime.logs(order.key()).await?).await)?;
        ensure!(exit.code == 7, "{exit:?}: {output}");
        // Not root, and the program of the layer beside those of the base.
        ensure!(output == "500\nfrom the layer\n", "{output:?}");
        Ok(())
    })?;
    let kubectl = |arguments: &[&str]| -> Result<Value> {
        let place = ["--namespace", CHAINCODE_NAMESPACE, "--output=json"];
        Ok(serde_json::from_str(
            &world.kubectl(&[arguments, &place].concat())?,
        )?)
    };
    let id = order.spec.id.to_string();
    let label = format!("peitho.dev/container-id={}", &id[..32]);
    let found = kubectl(&["get", "pods", "--selector", &label])?;
    let spec = &found["items"][0]["spec"];
    ensure!(spec["containers"][0]["image"] == whole.full(), "{spec}");
    ensure!(spec.get("initContainers").is_none(), "{spec}");
    let secret = &spec["imagePullSecrets"][0]["name"];
    ensure!(secret == "peitho-pull", "{spec}");
    let wanted =
        &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    ensure!(wanted.to_string().contains("kubernetes.io/arch"), "{spec}");
    login_appears_nowhere(world)?;

    // Somebody deletes the login: the next launch writes it again.
    world.kubectl(&[
        "delete",
        "secret",
        "peitho-pull",
        "--namespace",
        CHAINCODE_NAMESPACE,
    ])?;
    world.block_on(async {
        ensure!(Arc::clone(&runtime).start(order.key()).await?.outcome == Outcome::Done);
        let exit = tokio::time::timeout(LAUNCH, runtime.wait_exit(order.key())).await??;
        ensure!(exit.code == 7, "{exit:?}");
        order.removed(&*runtime).await;
        Ok(())
    })?;
    let secret = kubectl(&["get", "secret", "peitho-pull"])?;
    ensure!(
        secret["type"] == "kubernetes.io/dockerconfigjson",
        "the pull secret is gone"
    );
    removed_by_who_needs_none(world, pods)
}

/// A Secret of that name which Peitho did not write is somebody's, and the launch says so.
fn leaves_what_others_wrote(world: &World, pods: &Pods, order: &Order) -> Result<()> {
    let place = ["--namespace", CHAINCODE_NAMESPACE];
    let kubectl = |arguments: &[&str]| world.kubectl(&[arguments, &place].concat());
    let mine = "--from-literal=a=b";
    kubectl(&["create", "secret", "generic", "peitho-pull", mine])?;
    let started = world.block_on(pods.runtime().start(order.key()));
    let told = started.err().map(|error| error.to_string());
    let told = told.unwrap_or_default();
    ensure!(told.contains("was written by somebody else"), "{told}");
    let secret = kubectl(&["get", "secret", "peitho-pull", "--output=json"])?;
    let secret: Value = serde_json::from_str(&secret)?;
    ensure!(secret["data"] == json!({"a": "Yg=="}), "{secret}");
    kubectl(&["delete", "secret", "peitho-pull"]).map(drop)
}

/// And nobody else's.
fn removed_by_who_needs_none(world: &World, pods: &Pods) -> Result<()> {
    let runtime = world.block_on(pods.connected_with(PullSecret::None));
    let place = ["--namespace", CHAINCODE_NAMESPACE];
    let kubectl = |arguments: &[&str]| world.kubectl(&[arguments, &place].concat());
    let label = |value: &str| {
        let label = format!("app.kubernetes.io/managed-by={value}");
        kubectl(&["label", "--overwrite", "secret", "peitho-pull", &label])
    };
    label("somebody")?;
    world.block_on(runtime.remove_idle_pull_secret());
    label("peitho")?;
    world.block_on(runtime.remove_idle_pull_secret());
    ensure!(label("peitho").is_err(), "it is still there");
    Ok(())
}

/// Not by what is on the node already: each script is an image of its own.
fn pulled_with_a_named_secret(world: &World) -> Result<()> {
    const NAME: &str = "of-the-operator";
    let pods = world.pods()?;
    let place = ["--namespace", CHAINCODE_NAMESPACE];
    let kubectl = |arguments: &[&str]| world.kubectl(&[arguments, &place].concat());
    let (order, whole) = world.block_on(ordered_by(pods, "named"))?;
    let server = format!("--docker-server={}", whole.registry());
    let secret = || -> Result<()> {
        let (user, password) = (
            format!("--docker-username={USER}"),
            format!("--docker-password={PASSWORD}"),
        );
        let make = ["create", "secret", "docker-registry", NAME];
        kubectl(&[&make[..], &[&server, &user, &password]].concat())?;
        Ok(())
    };
    let named = PullSecret::Named {
        name: NAME.to_owned(),
        repository: whole.clone(),
    };
    let runtime = world.block_on(pods.connected_with(named));
    let started = world.block_on(async {
        runtime.create(&order.spec).await?;
        Arc::clone(&runtime).start(order.key()).await
    });
    let told = started
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    ensure!(
        told.contains("secret of-the-operator, with which nodes pull from")
            && told.contains("is not in namespace"),
        "{told}"
    );
    secret()?;
    let ran = world.block_on(async {
        ensure!(Arc::clone(&runtime).start(order.key()).await?.outcome == Outcome::Done);
        let exit = tokio::time::timeout(LAUNCH, runtime.wait_exit(order.key())).await??;
        ensure!(exit.code == 7, "{exit:?}");
        order.removed(&*runtime).await;
        Ok(())
    });
    kubectl(&["delete", "secret", NAME])?;
    ran
}

/// Outside of its Secret, in no spelling.
fn login_appears_nowhere(world: &World) -> Result<()> {
    let both = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let all = ["--all-namespaces", "--output=json"];
    for kind in ["pods", "events", "configmaps"] {
        let text = world.kubectl(&[&["get", kind], &all[..]].concat())?;
        for spelling in [PASSWORD, &STANDARD.encode(PASSWORD), &both] {
            ensure!(!text.contains(spelling), "the login stands in {kind}");
        }
    }
    Ok(())
}

/// A container of an image that was built now.
async fn ordered(pods: &Pods) -> Result<(Order, ImageName)> {
    ordered_by(pods, "the layer").await
}

/// The same, of a program that prints `text`.
async fn ordered_by(pods: &Pods, text: &str) -> Result<(Order, ImageName)> {
    let mut order = Order::script(pods, "id -u; from-the-layer").await;
    let mut ingest = pods.store().ingest().await?;
    ingest.append(&context(&pods.base(), text)?).await?;
    let tenant = order.key_tenant().clone();
    let image = pods
        .images()
        .build(&tenant, &order.spec.image, ingest)
        .await?;
    let whole = pods.images().whole(&image).expect("it was pushed");
    order.spec.whole = Some(whole.clone());
    order.spec.layer = image.layer;
    order.spec.base_facts = image.base.facts;
    Ok((order, whole))
}

/// What a peer sends to `/build`, with a script for a program.
fn context(base: &ImageName, text: &str) -> Result<Vec<u8>> {
    let program = format!("#!/bin/sh\necho from {text}\nexit 7\n");
    let layer = archive(&[("from-the-layer", program.as_bytes())])?;
    let dockerfile = format!("FROM {base}\nADD binpackage.tar /usr/local/bin\n");
    archive(&[
        ("Dockerfile", dockerfile.as_bytes()),
        ("binpackage.tar", &layer),
    ])
}

fn archive(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content)?;
    }
    Ok(tar.into_inner()?)
}
