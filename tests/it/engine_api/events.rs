//! `GET /events`: what is told, to whom, from when to when, and to whom it comes too fast.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use peitho::events::{Action, Event, KEPT, Kind};
use peitho::names::Tenant;
use peitho::runtime::{Exit, State};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bodies::{self, IMAGE};
use super::world::{Answer, SOON, World, header, read_head};
use crate::listeners::log::Log;
use crate::once::once;

/// One who listens.
struct Listener {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Listener {
    /// Listens as `target` says; the head of the answer has come when this returns.
    async fn begin(world: &World, target: &str) -> Self {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut stream = world.open(&request).await;
        let (head, received) = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(header(&head, "content-type"), Some("application/json"));
        assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
        Self { stream, received }
    }

    /// The next event; each comes in a chunk of its own.
    async fn next(&mut self) -> Value {
        loop {
            let text = String::from_utf8_lossy(&self.received).into_owned();
            if let Some((size, rest)) = text.split_once("\r\n") {
                let size = usize::from_str_radix(size, 16).unwrap();
                if rest.len() >= size + 2 {
                    self.received = rest.as_bytes()[size + 2..].to_vec();
                    let line = rest[..size].strip_suffix('\n').unwrap();
                    return serde_json::from_str(line).unwrap();
                }
            }
            let read = timeout(SOON, self.stream.read_buf(&mut self.received)).await;
            assert!(read.expect("an event comes").unwrap() > 0, "{text}");
        }
    }

    /// Action and attributes of the next event.
    async fn happens(&mut self) -> (String, Value) {
        let event = self.next().await;
        let action = event["Action"].as_str().unwrap().to_owned();
        (action, event["Actor"]["Attributes"].clone())
    }
}

/// The events that an answer has which is over.
fn all(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    // The answer is chunked, and lengths are no events.
    let lines = answer.body.lines().filter(|line| line.starts_with('{'));
    let event = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    let action = |event: Value| event["Action"].as_str().unwrap().to_owned();
    lines.map(|line| action(event(line))).collect()
}

/// As it stands in a query.
fn encoded(filters: &Value) -> String {
    let text = filters.to_string();
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn event(number: usize) -> Event {
    Event {
        kind: Kind::Container,
        action: Action::Create,
        id: number.to_string(),
        attributes: BTreeMap::from([("name".to_owned(), format!("n{number}"))]),
    }
}

impl World {
    async fn happened(&self, query: &str) -> Vec<String> {
        all(&self.ask("GET", &format!("/v1.44/events?{query}")).await)
    }

    /// The order of `cc`, which is there without being made.
    async fn order_cc(&self) {
        let build = format!("/build?t={IMAGE}");
        let built = self.send("POST", &build, &bodies::complete()).await;
        assert_eq!(built.status, 200, "{built:?}");
        let order = json!({
            "Image": IMAGE, "Cmd": ["chaincode", "-peer.address=peer0:7052"],
            "Env": ["CORE_CHAINCODE_ID_NAME=basic_1:ab"],
        });
        let body = order.to_string();
        let create = "/containers/create?name=cc";
        let created = self.send("POST", create, body.as_bytes()).await;
        assert_eq!(created.status, 409, "{created:?}");
    }
}

#[tokio::test]
async fn a_compile_is_told_from_its_order_to_its_removal() {
    let world = World::new().await;
    let mut listener = Listener::begin(&world, "/v1.44/events").await;
    let id = world.builder().await;
    let created = listener.next().await;
    let time = created["time"].as_i64().unwrap();
    let nanoseconds = created["timeNano"].as_i64().unwrap();
    assert_eq!(nanoseconds / 1_000_000_000, time);
    assert!((Timestamp::now().as_second() - time).abs() < 60);
    let image = "127.0.0.1:1/fabric-ccenv:2.5";
    let expected = json!({
        "status": "create", "id": id, "from": image,
        "Type": "container", "Action": "create", "scope": "local", "time": time, "timeNano": nanoseconds,
        "Actor": { "ID": id, "Attributes": {
            "image": image, "dev.peitho.role": "compile", "dev.peitho.tenant": "default",
        } },
    });
    assert_eq!(created, expected);

    let started = world
        .ask("POST", &format!("/containers/{id}/start"))
        .await
        .status;
    assert_eq!(started, 204);
    let (action, _) = listener.happens().await;
    assert_eq!(action, "start");
    let key = world.compile().await;
    world.compiles.exited(&key, 2).await.unwrap();
    let (action, attributes) = listener.happens().await;
    assert_eq!(
        (action.as_str(), &attributes["exitCode"]),
        ("die", &json!("2"))
    );
    let removed = world
        .ask("DELETE", &format!("/containers/{id}"))
        .await
        .status;
    assert_eq!(removed, 204);
    assert_eq!(listener.happens().await.0, "destroy");
}

#[tokio::test]
async fn a_compile_that_is_stopped_dies_before_it_is_gone() {
    let world = World::new().await;
    let filters = encoded(&json!({"type": ["container"]}));
    let mut listener = Listener::begin(&world, &format!("/events?filters={filters}")).await;
    let id = world.builder().await;
    world.ask("POST", &format!("/containers/{id}/start")).await;
    world.compile().await;
    let removed = world
        .ask("DELETE", &format!("/containers/{id}"))
        .await
        .status;
    assert_eq!(removed, 204);
    for expected in ["create", "start", "die", "destroy"] {
        assert_eq!(listener.happens().await.0, expected);
    }
}

/// Whoever waits, and also where nobody does: the log says it once, and so do the events.
#[tokio::test]
async fn the_end_of_chaincode_is_told_once_to_all_and_to_the_log() {
    for waiters in [0, 3] {
        let mut log = Log::begin();
        let world = World::new().await;
        world.order_cc().await;
        let mut listener = Listener::begin(&world, "/events").await;
        assert_eq!(world.ask("POST", "/containers/cc/start").await.status, 204);
        let (action, attributes) = listener.happens().await;
        assert_eq!(action, "start");
        for (label, value) in [
            ("name", "cc"),
            ("dev.peitho.package-id", "basic_1:ab"),
            ("dev.peitho.peer", "peer0:7052"),
        ] {
            assert_eq!(attributes[label], value, "{label}");
        }
        let wait = "POST /containers/cc/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut waiting = Vec::new();
        for _ in 0..waiters {
            let mut stream = world.open(wait).await;
            // It runs, so that the wait goes on behind its head.
            read_head(&mut stream).await;
            waiting.push(stream);
        }
        let exit = State::Exited(Exit { code: 7 });
        world.cluster.state.send_replace(exit);
        let (action, attributes) = listener.happens().await;
        assert_eq!(
            (action.as_str(), &attributes["exitCode"]),
            ("die", &json!("7"))
        );
        assert_eq!(attributes["dev.peitho.reason"], "the test said so");
        for mut stream in waiting {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("{\"StatusCode\":7"), "{answer}");
        }
        // Who comes later hears of it, and is no reason to tell it again.
        let waited = world.ask("POST", "/containers/cc/wait").await.body;
        assert!(waited.contains("{\"StatusCode\":7"), "{waited}");
        assert_eq!(world.ask("POST", "/containers/cc/start").await.status, 304);
        let line = log.wait_for("chaincode ended").await;
        assert!(
            line.contains("default/cc") && line.contains("the test said so"),
            "{line}"
        );
        assert_eq!(log.lines_with("chaincode ended").len(), 1);
        let now = Timestamp::now();
        let query = format!("until={}.{:09}", now.as_second(), now.subsec_nanosecond());
        assert_eq!(world.happened(&query).await, ["tag", "start", "die"]);
    }
}

/// Who waits before the start may see the process run before the order to start it was answered.
#[tokio::test]
async fn a_start_that_a_wait_has_seen_first_is_told_once() {
    let world = World::new().await;
    world.order_cc().await;
    let mut listener = Listener::begin(&world, "/events").await;
    world.cluster.held.send_replace(1);
    let wait = "POST /containers/cc/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut waiting = world.open(wait).await;
    let start = "POST /containers/cc/start HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut starting = world.open(start).await;
    read_head(&mut waiting).await;
    let mut sought = world.cluster.sought.subscribe();
    let once = sought.wait_for(|sought| *sought == 1);
    timeout(SOON, once).await.expect("it is followed").unwrap();
    world.cluster.held.send_replace(0);
    assert_eq!(Answer::read(&mut starting).await.status, 204);
    assert_eq!(listener.happens().await.0, "start");
    let exit = State::Exited(Exit { code: 0 });
    world.cluster.state.send_replace(exit);
    assert_eq!(listener.happens().await.0, "die");
    let until = Timestamp::now().as_second() + 1;
    let all = world.happened(&format!("since=0&until={until}")).await;
    assert_eq!(all, ["tag", "start", "die"]);
}

/// Peers do not depend on those who look on.
#[tokio::test]
async fn orders_are_answered_though_nobody_hears_of_the_end() {
    let world = World::new().await;
    world.order_cc().await;
    let mut listener = Listener::begin(&world, "/events").await;
    world.cluster.hears.send_replace(false);
    assert_eq!(world.ask("POST", "/containers/cc/start").await.status, 204);
    for (method, path, status) in [
        ("POST", "/containers/cc/stop", 204),
        ("POST", "/containers/cc/wait", 200),
        ("DELETE", "/containers/cc", 204),
    ] {
        let answered = timeout(SOON, world.ask(method, path)).await;
        assert_eq!(answered.expect("it is answered").status, status, "{path}");
    }
    for expected in ["kill", "stop", "destroy"] {
        assert_eq!(listener.happens().await.0, expected);
    }
    // Late, and still once.
    world.cluster.hears.send_replace(true);
    assert_eq!(listener.happens().await.0, "start");
    assert_eq!(listener.happens().await.0, "die");
}

#[tokio::test]
async fn a_start_that_is_refused_is_told_with_its_reason() {
    let world = World::new().await;
    world.order_cc().await;
    let mut listener = Listener::begin(&world, "/events").await;
    *world.cluster.refuses.lock().unwrap() = Some("exceeded quota: pods".to_owned());
    assert_eq!(world.ask("POST", "/containers/cc/start").await.status, 500);
    let (action, attributes) = listener.happens().await;
    assert_eq!(
        (action.as_str(), &attributes["exitCode"]),
        ("die", &json!("128"))
    );
    assert_eq!(attributes["dev.peitho.reason"], "exceeded quota: pods");
}

#[tokio::test]
async fn each_tenant_hears_of_its_own() {
    let world = World::new().await;
    let mut one = Listener::begin(&world, "/t/org1/events").await;
    let mut other = Listener::begin(&world, "/events").await;
    let events = world.state.containers.events();
    events.tell(&Tenant::default_tenant(), event(1));
    events.tell(&"org1".parse().unwrap(), event(2));
    assert_eq!(one.next().await["id"], "2");
    assert_eq!(other.next().await["id"], "1");
    // What is kept is its own as well.
    let until = Timestamp::now().as_second() + 1;
    let target = format!("/t/org1/v1.44/events?since=1&until={until}");
    assert_eq!(all(&world.ask("GET", &target).await).len(), 1);
}

#[tokio::test]
async fn filters_leave_out_the_rest() {
    let world = World::new().await;
    let id = world.builder().await;
    world.ask("POST", &format!("/containers/{id}/start")).await;
    world.order_cc().await;
    for (filters, expected) in [
        (json!({}), &["create", "start", "tag"][..]),
        (json!({"type": ["container"]}), &["create", "start"]),
        (json!({"type": {"image": true}}), &["tag"]),
        (
            json!({"type": ["image", "container"], "event": ["start", "die"]}),
            &["start"],
        ),
        (json!({"container": [&id[..12]]}), &["create", "start"]),
        (json!({"container": ["nobody"]}), &[]),
        (
            json!({"image": ["127.0.0.1:1/fabric-ccenv"]}),
            &["create", "start"],
        ),
        (
            json!({"image": ["127.0.0.1:1/fabric-ccenv:2.5"]}),
            &["create", "start"],
        ),
        (json!({"image": ["127.0.0.1:1/fabric"]}), &[]),
        (json!({"image": [IMAGE]}), &["tag"]),
        (
            json!({"label": ["dev.peitho.role=compile"]}),
            &["create", "start"],
        ),
        (json!({"label": ["dev.peitho.role=chaincode"]}), &[]),
        (
            json!({"label": ["dev.peitho.tenant"], "event": ["tag"]}),
            &["tag"],
        ),
        (json!({"network": ["bridge"]}), &[]),
        (json!({"scope": ["swarm"]}), &[]),
    ] {
        let query = encoded(&filters);
        let until = (Timestamp::now() + Duration::from_millis(1)).as_nanosecond();
        let (seconds, rest) = (until / 1_000_000_000, until % 1_000_000_000);
        let query = format!("until={seconds}.{rest:09}&filters={query}");
        assert_eq!(world.happened(&query).await, expected, "{filters}");
    }
}

#[tokio::test]
async fn an_end_to_come_ends_the_answer_then_and_a_past_one_at_once() {
    let world = World::new().await;
    let events = world.state.containers.events();
    let tenant = Tenant::default_tenant();
    events.tell(&tenant, event(1));
    let at =
        |moment: Timestamp| format!("{}.{:09}", moment.as_second(), moment.subsec_nanosecond());
    let middle = Timestamp::now();
    let past = format!("until={}", at(middle));
    assert_eq!(world.happened(&past).await, ["create"]);
    // As Docker has it, 0 is a time as any other.
    assert_eq!(world.happened("until=0").await, Vec::<String>::new());
    let all = format!("since=0&until={}", at(middle));
    assert_eq!(world.happened(&all).await, ["create"]);
    let none = format!("since={}&until={}", at(middle), at(Timestamp::now()));
    assert_eq!(world.happened(&none).await, Vec::<String>::new());

    let begun = Timestamp::now();
    let end = begun + Duration::from_millis(400);
    let target = format!("/events?since={}&until={}", at(middle), at(end));
    let mut listener = Listener::begin(&world, &target).await;
    events.tell(&tenant, event(2));
    assert_eq!(listener.next().await["id"], "2");
    let mut rest = Vec::new();
    let ended = timeout(SOON, async {
        // The last chunk.
        while !rest.ends_with(b"0\r\n\r\n") {
            listener.stream.read_buf(&mut rest).await.unwrap();
        }
    });
    ended.await.expect("the answer ends");
    assert!(Timestamp::now() >= end);
}

#[tokio::test]
async fn one_who_reads_too_slowly_is_told_and_goes_on() {
    let world = World::new().await;
    let events = world.state.containers.events();
    let tenant = Tenant::default_tenant();
    let mut listener = Listener::begin(&world, "/events").await;
    // The server shares this thread: it sends nothing meanwhile.
    for number in 0..1_000 {
        events.tell(&tenant, event(number));
    }
    let lost = listener.next().await;
    assert_eq!(lost["Type"], "daemon");
    assert_eq!(lost["Action"], "lost");
    let count = (1_000 - KEPT).to_string();
    assert_eq!(lost["Actor"]["Attributes"]["events"], count);
    for number in 1_000 - KEPT..1_000 {
        assert_eq!(listener.next().await["id"], number.to_string());
    }
    events.tell(&tenant, event(7));
    assert_eq!(listener.next().await["id"], "7");
}

#[tokio::test]
async fn nothing_is_left_behind_one_who_has_gone() {
    let world = World::new().await;
    let events = world.state.containers.events();
    let tenant = Tenant::default_tenant();
    let listener = Listener::begin(&world, "/events").await;
    assert_eq!(events.listeners(&tenant), 1);
    drop(listener);
    let gone = async || (events.listeners(&tenant) == 0).then_some(());
    once("it is noticed that the listener is gone", gone).await;
}
