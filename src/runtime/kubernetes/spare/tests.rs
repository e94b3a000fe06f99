//! Pods ahead of need where the API server's answers get lost, or it is away: the server is scripted, since no real one does that on demand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::request::Requests;
use super::super::tests::settings;
use super::super::watch::Watch;
use super::*;
use crate::grant::Grants;
use crate::image_spec::ImageFacts;
use crate::names::{CompileKey, SpareId};
use crate::orders::Orders;
use crate::runtime::spares::Work;
use crate::runtime::{CompileSpec, Resolution, Spares};
use crate::store::Store;
use crate::store::spool::Spool;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Secrets and pods that are named, and nothing else.
#[derive(Default)]
struct Server {
    objects: Mutex<std::collections::HashMap<String, Value>>,
    is_away: AtomicBool,
    /// Names of what was deleted.
    deleted: Mutex<Vec<String>>,
    asked: watch::Sender<usize>,
}

impl Server {
    fn client(self: &Arc<Self>) -> Client {
        let this = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let this = Arc::clone(&this);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (status, answer) = this.answer(&head.method, head.uri.path(), &body);
                let body = Body::from(answer.to_string().into_bytes());
                let mut response = Response::new(body);
                *response.status_mut() = status;
                Ok::<_, kube::Error>(response)
            }
        });
        Client::new(service, "chaincode")
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let (_, path) = path.split_once("/chaincode/").unwrap();
        // Lists are the watches': they find it away.
        let is_named = path.contains('/') || *method == Method::POST;
        if !is_named {
            return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        self.asked.send_modify(|asked| *asked += 1);
        if self.is_away.load(Ordering::Relaxed) {
            return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        let mut objects = self.objects.lock().unwrap();
        match *method {
            Method::POST => {
                let mut object: Value = serde_json::from_slice(body).unwrap();
                let name = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                if objects.contains_key(&name) {
                    return status(StatusCode::CONFLICT, "AlreadyExists");
                }
                object["metadata"]["uid"] = "u-1".into();
                objects.insert(name, object);
                // It is there, and nobody hears so.
                status(StatusCode::GATEWAY_TIMEOUT, "Timeout")
            }
            Method::DELETE => {
                objects.remove(path);
                self.deleted.lock().unwrap().push(path.to_owned());
                (
                    StatusCode::OK,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
                )
            }
            _ => match objects.get(path) {
                Some(object) => (StatusCode::OK, object.clone()),
                None => status(StatusCode::NOT_FOUND, "NotFound"),
            },
        }
    }
}

fn status(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let answer = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16(),
    });
    (code, answer)
}

async fn runtime(server: &Arc<Server>, directory: &std::path::Path) -> Kubernetes {
    let mut settings = settings();
    settings.spares = Spares::new(1);
    let client = server.client();
    let requests = Arc::new(Requests::with_patience(Duration::from_millis(300)));
    Kubernetes {
        pods: Api::namespaced(client.clone(), &settings.namespace),
        secrets: Api::namespaced(client.clone(), &settings.namespace),
        watch: Watch::start(&client, &settings, Arc::clone(&requests)),
        settings,
        store: Store::open(directory).await.unwrap(),
        grants: Grants::new([7; 32]),
        requests,
        containers: Orders::default(),
        compiles: Orders::default(),
    }
}

fn spec() -> SpareSpec {
    SpareSpec {
        id: SpareId::random(),
        tenant: Tenant::default_tenant(),
        image: "hyperledger/fabric-ccenv:2.5".parse().unwrap(),
        builder: Digest::of(b"builder"),
        facts: ImageFacts::default(),
        env: Vec::new(),
        working_dir: None,
        user: None,
        resolution: Resolution::default(),
    }
}

#[tokio::test]
async fn a_maker_that_did_not_hear_of_its_own_pod_leaves_it_to_the_compile_that_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::default());
    let runtime = runtime(&server, directory.path()).await;
    let (spec, spares) = (spec(), runtime.settings.spares.clone());
    let class = class::class(&Order::from(&spec), &runtime.settings, &spec.builder).unwrap();
    let work = Work {
        key: CompileKey::new(Digest::of(b"compile")),
        command: Vec::new(),
    };
    let agent = async {
        // It is entered before the first request.
        server
            .asked
            .subscribe()
            .wait_for(|it| *it > 0)
            .await
            .unwrap();
        let heard = spares.work(&spec.id).await.unwrap().unwrap();
        spares.accept(&spec.id, &heard.key).unwrap();
    };
    let compile = async {
        server
            .asked
            .subscribe()
            .wait_for(|it| *it > 5)
            .await
            .unwrap();
        let taken = spares.take(&class).unwrap();
        assert!(taken.give(work).await);
        taken
    };
    let (kept, (), taken) = tokio::join!(runtime.keep_spare(&spec), agent, compile);
    kept.unwrap();
    assert_eq!(*taken.id(), spec.id);
    assert_eq!(server.objects.lock().unwrap().len(), 2);
    assert!(server.deleted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_removed_is_removed_when_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::default());
    let runtime = runtime(&server, directory.path()).await;
    let spec = spec();
    let name = names::spare(&spec.id);
    let token = compile_agent::waiting_token(&runtime.grants, &spec.id);
    let mut secret = compile_pod::secret(&Order::from(&spec), &runtime.settings, &token);
    secret.metadata.uid = Some("u-1".to_owned());
    let path = format!("secrets/{name}");
    let object = serde_json::to_value(&secret).unwrap();
    server.objects.lock().unwrap().insert(path.clone(), object);
    server.is_away.store(true, Ordering::Relaxed);
    let back = async {
        // So many are more than one request is repeated.
        server
            .asked
            .subscribe()
            .wait_for(|it| *it >= 10)
            .await
            .unwrap();
        assert!(server.deleted.lock().unwrap().is_empty());
        server.is_away.store(false, Ordering::Relaxed);
    };
    let mut removing = std::pin::pin!(runtime.remove_spare(&name));
    tokio::select! {
        () = &mut removing => panic!("it is given up while the server is away"),
        () = back => {}
    }
    removing.await;
    assert_eq!(*server.deleted.lock().unwrap(), [path]);
}

/// What a run gets that finds its Secret naming a spare which has not heard yet: another process is about to tell it. Once this one waits for the
/// agent's word, `meanwhile` happens, and an agent of the compile reports.
async fn joined(meanwhile: impl FnOnce(&Server)) -> Option<SpareId> {
    let directory = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::default());
    let runtime = runtime(&server, directory.path()).await;
    let SpareSpec { id, .. } = spec();
    let spec = compile(&runtime).await;
    let (spares, name) = (&runtime.settings.spares, names::spare(&id));
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some("u-1".to_owned()),
        ..ObjectMeta::default()
    };
    let owner = ObjectMeta {
        annotations: Some([(names::SPARE_NAME.to_owned(), name.clone())].into()),
        ..metadata("run")
    };
    {
        let mut objects = server.objects.lock().unwrap();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(&name)});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": owner});
        objects.insert(format!("pods/{name}"), pod);
        objects.insert("secrets/run".to_owned(), secret);
    }
    let mut joining = std::pin::pin!(runtime.spare_of_run(&spec, &owner, None));
    let waits = async {
        let mut asked = server.asked.subscribe();
        asked.wait_for(|it| *it >= 2).await.unwrap();
        // With the answer it has what it needs.
        while spares.of_compile(&spec.key).is_none() {
            tokio::task::yield_now().await;
        }
    };
    let waits = tokio::time::timeout(LONG, waits);
    tokio::select! {
        _ = &mut joining => panic!("it does not wait for the agent's word"),
        waits = waits => waits.expect("it asks for the spare's pod"),
    }
    meanwhile(&server);
    spares.note_report(&spec.key);
    let found = joining.await.unwrap();
    found.map(|(_, taken)| *taken.id()).filter(|it| *it == id)
}

async fn compile(runtime: &Kubernetes) -> CompileSpec {
    let spec = spec();
    CompileSpec {
        key: CompileKey::new(Digest::of(b"compile")),
        tenant: spec.tenant,
        image: spec.image,
        builder: Some(spec.builder),
        facts: spec.facts,
        command: vec!["true".to_owned()],
        env: spec.env,
        working_dir: spec.working_dir,
        user: spec.user,
        resolution: spec.resolution,
        input: None,
        log: Spool::create(&runtime.store).await.unwrap(),
        milestones: Arc::default(),
    }
}

#[tokio::test]
async fn a_run_that_is_joined_has_the_spare_that_its_secret_names() {
    assert!(joined(|_| {}).await.is_some());
}

/// The other process gave it up, and made a pod of the compile's own: it is that one which reports.
#[tokio::test]
async fn a_run_that_is_joined_does_not_take_another_pods_word_for_the_spares() {
    let given_up = |server: &Server| {
        let mut objects = server.objects.lock().unwrap();
        let secret = objects.get_mut("secrets/run").unwrap();
        secret["metadata"]["annotations"] = json!({});
    };
    assert!(joined(given_up).await.is_none());
}
