//! What is told of containers of this machine, from the process to the wire: ends that nobody waits for, and those of chaincode
//! that an earlier process of Peitho started.

use peitho::names::{ContainerKey, Tenant};
use peitho::runtime::Outcome;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Client, read_head};
use crate::conformance::Machine;
use crate::conformance_cases::Subject as _;
use crate::conformance_cases::subject::Order;
use crate::tenants::{PATIENT, Peer, serve};

/// One who listens to a tenant's events.
struct Listener {
    stream: TcpStream,
    text: String,
}

impl Listener {
    async fn begin(client: Client, tenant: &str) -> Self {
        let request = format!("GET /t/{tenant}/v1.44/events HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut stream = client.open(&request).await;
        let (head, rest) = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let text = String::from_utf8(rest).unwrap();
        Self { stream, text }
    }

    /// The next event of a container. Lines that are no event are the lengths of chunks.
    async fn next(&mut self) -> Value {
        loop {
            while let Some((line, rest)) = self.text.split_once('\n') {
                let event = line.starts_with('{').then(|| line.to_owned());
                self.text = rest.to_owned();
                let event: Option<Value> = event.map(|line| serde_json::from_str(&line).unwrap());
                if let Some(event) = event.filter(|event| event["Type"] == "container") {
                    return event;
                }
            }
            let mut bytes = Vec::new();
            let read = timeout(PATIENT, self.stream.read_buf(&mut bytes)).await;
            assert!(read.expect("an event comes").unwrap() > 0, "{}", self.text);
            self.text.push_str(&String::from_utf8(bytes).unwrap());
        }
    }

    async fn happens(&mut self, action: &str) -> Value {
        let event = self.next().await;
        assert_eq!(event["Action"], action, "{event}");
        event["Actor"]["Attributes"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_nobody_waits_for_is_told_to_its_tenant() {
    let machine = Machine::start().await;
    let (address, _) = serve(&machine).await;
    let client = Client(address);
    let [one, two] = ["org1", "org2"].map(|tenant| Peer { client, tenant });
    let mut heard = Listener::begin(client, "org1").await;
    let mut heard_by_other = Listener::begin(client, "org2").await;
    one.build().await;
    assert_eq!(one.create_running("exit 5").await, 201);
    heard.happens("create").await;
    assert_eq!(one.of_container("POST", "/start").await, 204);
    let started = heard.happens("start").await;
    assert!(started["dev.peitho.process"].is_string(), "{started}");
    let ended = heard.happens("die").await;
    assert_eq!(ended["exitCode"], "5");
    assert_eq!(ended["dev.peitho.package-id"], "same:1.0");

    assert_eq!(one.of_container("POST", "/start").await, 204);
    heard.happens("start").await;
    heard.happens("die").await;
    assert_eq!(one.of_container("DELETE", "").await, 204);
    heard.happens("destroy").await;

    two.build().await;
    assert_eq!(two.create_running("nothing-of-this-name").await, 201);
    assert_eq!(
        heard_by_other.happens("create").await["dev.peitho.tenant"],
        "org2"
    );
    assert_eq!(two.of_container("DELETE", "").await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_process_started_is_told_of_when_it_ends() {
    let machine = Machine::start().await;
    let tenant: Tenant = "org1".parse().unwrap();
    // No server knows of it.
    let mut order = Order::script(&machine, "exec sleep 1000").await;
    order.spec.key = ContainerKey {
        tenant: tenant.clone(),
        ..order.spec.key
    };
    let runtime = machine.runtime();
    let order = order.launched(&*runtime).await;
    let (address, containers) = serve(&machine).await;
    containers.adopt([tenant]).await;
    let mut heard = Listener::begin(Client(address), "org1").await;
    // Not by a request.
    assert_eq!(runtime.stop(order.key()).await.unwrap(), Outcome::Done);
    let ended = heard.happens("die").await;
    assert_eq!(ended["exitCode"], "137");
    assert_eq!(ended["name"], order.key().name.as_str());
    order.removed(&*runtime).await;
}
