//! What the operator does not allow, and what nobody gets: refused at create, with what to do.

use peitho::config::Pattern;
use peitho::container::Policy;
use peitho::names::Language;
use peitho::runtime::HostSpec;
use serde_json::json;

use super::bodies;
use super::world::{Answer, World};

async fn create(world: &World, name: &str, body: serde_json::Value) -> Answer {
    let target = format!("/v1.44/containers/create{name}");
    world
        .send("POST", &target, body.to_string().as_bytes())
        .await
}

#[tokio::test]
async fn a_builder_image_that_is_not_allowed_is_refused_with_the_setting() {
    let world = World::allowing(Policy {
        allowed_images: vec![Pattern::from("127.0.0.1:1/fabric-*")],
        ..Policy::default()
    })
    .await;
    let body = |image: &str| json!({ "Image": image, "Cmd": ["true"] });
    let answer = create(&world, "", body("127.0.0.1:1/evil:1")).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let message = answer.message();
    assert!(
        message.contains("image 127.0.0.1:1/evil:1 may not be used")
            && message.contains("compile.allowedImages"),
        "{message}"
    );
    let answer = create(&world, "", body("127.0.0.1:1/fabric-ccenv:2.5")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Protocol rule 4: the first words decide what peers do; what to do comes after them.
#[tokio::test]
async fn chaincode_runs_only_what_was_built_here() {
    let world = World::new().await;
    for image in ["busybox", "dev-peer0-basic_1"] {
        let answer = create(&world, "?name=dev-peer0-basic_1", json!({ "Image": image })).await;
        assert_eq!(answer.status, 404, "{answer:?}");
        let message = answer.message();
        let first = format!("No such image: {image}:latest");
        assert!(
            message.starts_with(&first) && message.contains("install the package again"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn what_asks_for_the_machine_is_refused_and_other_privileges_are_dropped() {
    let world = World::allowing(Policy {
        allowed_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        ..Policy::default()
    })
    .await;
    let dockerfile = b"FROM 127.0.0.1:1/fabric-baseos:2.5\nADD binpackage.tar /usr/local/bin\n\
        LABEL org.hyperledger.fabric.chaincode.type=\"GOLANG\"";
    let built = world
        .send(
            "POST",
            "/build?t=policy",
            &bodies::packed(dockerfile, &bodies::tar(&[("chaincode", b"program")])),
        )
        .await;
    assert_eq!(built.status, 200, "{built:?}");
    let body = |host: serde_json::Value| json!({ "Image": "policy", "Env": ["CORE_CHAINCODE_ID_NAME=basic_1:ab"], "HostConfig": host });
    for name in ["", "?name=policy"] {
        let answer = create(&world, name, body(json!({ "Binds": ["/:/host"] }))).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        let message = answer.message();
        assert!(
            message.contains("HostConfig.Binds asks for the machine"),
            "{message}"
        );
    }
    let host = json!({
        "CapAdd": ["CAP_SYS_ADMIN", "CAP_NET_BIND_SERVICE"],
        "PidMode": "host", "IpcMode": "host", "SecurityOpt": ["seccomp=unconfined"],
    });
    // The cluster of these tests makes none.
    let answer = create(&world, "?name=policy", body(host)).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    let orders = world.cluster.orders.lock().unwrap();
    let order = orders.last().unwrap();
    let expected = HostSpec {
        added_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        ..HostSpec::default()
    };
    assert_eq!(order.host, expected);
    assert_eq!(
        (order.language, order.label()),
        (Some(Language::Golang), Some("basic_1"))
    );
}
