//! What happens in and to an engine behind Peitho's back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, RemoveContainerOptions,
};
use futures::StreamExt as _;
use peitho::config;
use peitho::names::docker as names;
use peitho::registry::Registries;
use peitho::runtime::docker::Docker;
use peitho::runtime::{Error, Exit, Runtime, State, UploadedFile};
use secrecy::SecretBox;
use serde_json::json;
use testbed::Registry;

use crate::Case;
use crate::conformance::subject::{Order, Subject as _, collected, soon, start};
use crate::engine::{Engine, grants, settings};

pub(crate) const ALL: &[(&str, Case)] = &[
    ("a container that others remove was killed", |engine| {
        Box::pin(removed_behind_its_back(engine))
    }),
    ("a process that others kill was killed", |engine| {
        Box::pin(killed_behind_its_back(engine))
    }),
    ("a container of others is left alone", |engine| {
        Box::pin(foreign(engine))
    }),
    ("nothing half made is left behind", |engine| {
        Box::pin(no_drafts(engine))
    }),
    ("two instances have no contact", |engine| {
        Box::pin(two_instances(engine))
    }),
    (
        "a read-only root takes no files, and that is told",
        |engine| Box::pin(files_for_a_read_only_root(engine)),
    ),
    ("an engine that is not there is named", |engine| {
        Box::pin(nobody_there(engine))
    }),
];

pub(crate) const OF_THE_TESTBED: &[(&str, Case)] = &[
    ("an image behind a password is pulled", |engine| {
        Box::pin(private_image(engine))
    }),
    ("who waits outlives the engine", |engine| {
        Box::pin(engine_restarts(engine))
    }),
    ("orders wait for an engine that is away", |engine| {
        Box::pin(engine_away(engine))
    }),
    ("output goes on where the engine hangs", |engine| {
        Box::pin(engine_hangs(engine))
    }),
];

fn name_of(order: &Order) -> String {
    names::chaincode(&"peitho-test".parse().unwrap(), order.key())
}

async fn running(engine: &Engine) -> Order {
    let runtime = engine.runtime();
    let order = Order::script(engine, "trap 'exit 3' TERM; while :; do sleep 0.1; done").await;
    let order = order.launched(&runtime).await;
    soon(runtime.wait_running(order.key())).await.unwrap();
    order
}

/// Somebody waits for the end of `order`, and is there already.
async fn waiting(engine: &Engine, order: &Order) -> tokio::task::JoinHandle<Result<Exit, Error>> {
    let (runtime, key) = (engine.runtime(), order.key().clone());
    let waiting = tokio::spawn(async move { runtime.wait_exit(&key).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    waiting
}

async fn removed_behind_its_back(engine: &Engine) {
    let order = running(engine).await;
    let (waiting, name) = (waiting(engine, &order).await, name_of(&order));
    let options = RemoveContainerOptions {
        force: true,
        ..RemoveContainerOptions::default()
    };
    let removed = engine.docker.remove_container(&name, Some(options));
    removed.await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap(), Exit { code: 137 });
    let runtime = engine.runtime();
    assert!(runtime.find(order.key()).await.unwrap().is_none());
    assert!(matches!(
        runtime.remove(order.key()).await,
        Err(Error::NotFound(_))
    ));
}

async fn killed_behind_its_back(engine: &Engine) {
    let order = running(engine).await;
    let (waiting, name) = (waiting(engine, &order).await, name_of(&order));
    let options = KillContainerOptions {
        signal: "KILL".to_owned(),
    };
    let killed = engine.docker.kill_container(&name, Some(options));
    killed.await.unwrap();
    let exit = Exit { code: 137 };
    assert_eq!(soon(waiting).await.unwrap().unwrap(), exit);
    let runtime = engine.runtime();
    let found = runtime.find(order.key()).await.unwrap().unwrap();
    assert_eq!(found.state, State::Exited(exit));
    order.removed(&*runtime).await;
}

async fn foreign(engine: &Engine) {
    let runtime = engine.runtime();
    let order = Order::script(engine, "true").await;
    let name = name_of(&order);
    let options = CreateContainerOptions {
        name: Some(name.clone()),
        ..CreateContainerOptions::default()
    };
    let body = ContainerCreateBody {
        image: Some(engine.base().full()),
        cmd: Some(vec!["true".to_owned()]),
        labels: Some(HashMap::from([("whose".to_owned(), "mine".to_owned())])),
        ..ContainerCreateBody::default()
    };
    engine
        .docker
        .create_container(Some(options), body)
        .await
        .unwrap();
    assert!(matches!(
        runtime.create(&order.spec).await,
        Err(Error::Exists(_))
    ));
    for error in [
        runtime.find(order.key()).await.err(),
        start(&runtime, order.key()).await.err(),
        runtime.remove(order.key()).await.err(),
    ] {
        let error = error.unwrap();
        assert!(matches!(error, Error::Refused(_)), "{error:?}");
        assert!(
            error.to_string().contains("was not made by the Peitho"),
            "{error}"
        );
    }
    engine.docker.inspect_container(&name, None).await.unwrap();
    engine.docker.remove_container(&name, None).await.unwrap();
}

async fn no_drafts(engine: &Engine) {
    let runtime = engine.runtime();
    // The container is made before it is known that its layer is not there.
    let mut order = Order::script(engine, "true").await;
    order.spec.layer.blob.digest = peitho::names::Digest::of(b"not in the store");
    let error = runtime.create(&order.spec).await.unwrap_err().to_string();
    assert!(error.contains("the store does not have it"), "{error}");
    // A peer that hangs up does not stop what was begun.
    let order = Order::script(engine, "true").await;
    let create = runtime.create(&order.spec);
    let _ = tokio::time::timeout(Duration::from_millis(5), create).await;
    let made = async {
        while runtime.find(order.key()).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(made).await;
    order.removed(&*runtime).await;
    let left: Vec<_> = engine.names().await;
    assert!(!left.iter().any(|name| names::is_draft(name)), "{left:?}");
}

async fn two_instances(engine: &Engine) {
    let one = engine.runtime();
    let other = engine.connected_with(settings("peitho-other")).await;
    let order = running(engine).await;
    assert!(other.find(order.key()).await.unwrap().is_none());
    let tenant = &order.key().tenant;
    let by_id = other.find_id(tenant, &order.spec.id).await.unwrap();
    assert_eq!(by_id, None);
    other.create(&order.spec).await.unwrap();
    other.remove(order.key()).await.unwrap();
    let found = one.find(order.key()).await.unwrap().unwrap();
    assert_eq!(found.state, State::Running);
    order.removed(&*one).await;
}

async fn files_for_a_read_only_root(engine: &Engine) {
    let runtime = engine.runtime();
    let mut order = Order::script(engine, "true").await;
    order.spec.host.read_only_root = true;
    runtime.create(&order.spec).await.unwrap();
    let file = UploadedFile {
        path: "/etc/hyperledger/fabric/client.key".to_owned(),
        mode: 0o600,
        content: SecretBox::new(Box::new(b"the key".to_vec())),
    };
    let error = runtime
        .put_files(order.key(), vec![file])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("read-only"), "{error}");
    order.removed(&*runtime).await;
}

async fn nobody_there(engine: &Engine) {
    let section = config::Docker {
        endpoint: "unix:///nowhere/docker.sock".to_owned(),
        ..config::Docker::default()
    };
    let connecting = Docker::connect(
        &section,
        settings("peitho-test"),
        engine.store().clone(),
        grants(),
    );
    let patience = Duration::from_secs(90);
    let connected = tokio::time::timeout(patience, connecting).await.unwrap();
    let error = connected.err().expect("nobody is there");
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    let text = error.to_string();
    assert!(
        text.starts_with(
            "the Docker Engine at unix:///nowhere/docker.sock does not answer: asking its version"
        ) && text.contains("No such file"),
        "{text}"
    );
}

async fn private_image(engine: &Engine) {
    let testbed = engine.testbed();
    let registry = Registry::start_with_auth(&testbed.run, "me", "the-password").unwrap();
    let image = testbed.assets.images().unwrap().copybuilder;
    registry.push(&image).unwrap();
    let mut order = Order::script(engine, "echo pulled").await;
    order.spec.base = registry.reference(&image).parse().unwrap();
    let error = engine.runtime().create(&order.spec).await.unwrap_err();
    assert!(error.to_string().contains("pulling image"), "{error}");
    let mut settings = settings("peitho-test");
    // As `docker login` writes it.
    let auth = STANDARD.encode("me:the-password");
    let file = testbed.run.dir().join("docker-config.json");
    let logins = json!({"auths": {registry.address().to_string(): {"auth": auth}}});
    std::fs::write(&file, logins.to_string()).unwrap();
    let images = config::Images {
        docker_config_file: Some(file),
        ..config::Images::default()
    };
    let registries = Registries::of(&images, engine.store().clone())
        .await
        .unwrap();
    settings.logins = registries.logins().clone();
    let runtime = engine.connected_with(settings).await;
    let order = order.launched(&runtime).await;
    assert_eq!(order.output(&*runtime).await, "pulled\n");
    order.removed(&*runtime).await;
}

async fn engine_restarts(engine: &Engine) {
    let testbed = engine.testbed();
    let runtime = engine.runtime();
    let order = running(engine).await;
    let created = Order::script(engine, "exit 8").await;
    runtime.create(&created.spec).await.unwrap();
    let (ending, starting) = (
        waiting(engine, &order).await,
        waiting(engine, &created).await,
    );
    let logs = runtime.logs(order.key()).await.unwrap();
    let reading = tokio::spawn(collected(logs));
    {
        let mut dockerd = testbed.dockerd.lock().unwrap();
        // It ends what it runs.
        dockerd
            .process()
            .terminate(Duration::from_secs(60))
            .unwrap();
        dockerd.restart(&testbed.run).unwrap();
    }
    let exit = soon(ending).await.unwrap().unwrap();
    assert!([3, 137, 143].contains(&exit.code), "{exit:?}");
    soon(reading).await.unwrap();
    assert!(!starting.is_finished());
    soon(start(&runtime, created.key())).await.unwrap();
    assert_eq!(soon(starting).await.unwrap().unwrap(), Exit { code: 8 });
    let ready = async {
        while runtime.ready().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    soon(ready).await;
    created.removed(&*runtime).await;
    order.removed(&*runtime).await;
}

async fn engine_away(engine: &Engine) {
    let testbed = engine.testbed();
    let runtime = engine.runtime();
    let order = Order::script(engine, "exit 4").await;
    runtime.create(&order.spec).await.unwrap();
    testbed
        .dockerd
        .lock()
        .unwrap()
        .process()
        .kill_hard()
        .unwrap();
    let error = runtime.ready().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert!(
        error.to_string().contains("the Docker Engine at tcp://"),
        "{error}"
    );
    let starting = {
        let (runtime, key) = (Arc::clone(&runtime), order.key().clone());
        tokio::spawn(async move { start(&runtime, &key).await })
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!starting.is_finished());
    testbed
        .dockerd
        .lock()
        .unwrap()
        .restart(&testbed.run)
        .unwrap();
    soon(starting).await.unwrap().unwrap();
    assert_eq!(order.exit(&*runtime).await, 4);
    order.removed(&*runtime).await;
}

async fn engine_hangs(engine: &Engine) {
    let testbed = engine.testbed();
    let runtime = engine.runtime();
    let script = "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.5; done; exit 2";
    let order = Order::script(engine, script).await.launched(&runtime).await;
    let waiting = waiting(engine, &order).await;
    let mut logs = runtime.logs(order.key()).await.unwrap();
    let mut text = soon(logs.next()).await.unwrap().unwrap().to_vec();
    testbed.dockerd.lock().unwrap().process().pause().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    testbed.dockerd.lock().unwrap().process().resume().unwrap();
    text.extend(soon(collected(logs)).await);
    let expected: String = (1..9).map(|i| format!("line {i}\n")).collect();
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    assert_eq!(soon(waiting).await.unwrap().unwrap(), Exit { code: 2 });
    order.removed(&*runtime).await;
}
