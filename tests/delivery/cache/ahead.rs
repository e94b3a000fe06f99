//! Agents that wait in containers made ahead of need: what they fetch meanwhile, and what of it their compile finds.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use http::{Method, StatusCode};
use peitho::agent::place;
use peitho::agent::spare;
use peitho::names::SpareId;
use peitho::runtime::Work;
use tokio::task::JoinHandle;

use super::*;

/// An agent that waits.
pub(super) struct Waiting {
    agent: JoinHandle<Result<u8, spare::Error>>,
    terminated: CancellationToken,
    home: PathBuf,
}

impl Place {
    /// One that was made after the next compile, of `script`, and has all that there is to fetch.
    async fn waiting(&mut self, script: &str) -> Waiting {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let home = self.world.scratch(&format!("home-{number}"));
        self.waiting_in(home, script).await
    }

    /// The same, with what is kept below `home`.
    pub(super) async fn waiting_in(&mut self, home: PathBuf, script: &str) -> Waiting {
        let (made, asked) = self.world.cluster.made();
        self.compile(script).await;
        let waiting = self.agent(made.await.unwrap(), home);
        asked.await.unwrap();
        waiting
    }

    fn agent(&self, id: SpareId, home: PathBuf) -> Waiting {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = |name: &str| self.world.scratch(&format!("waiting-{number}/{name}"));
        let shared = self.world.credentials(&Grant::Spare { id });
        for name in ["token", "ca.crt"] {
            fs::copy(shared.join(name), own("credentials").join(name)).unwrap();
        }
        let args = spare::Args {
            place: place::Place {
                address: self.server.url.clone(),
                credentials: own("credentials"),
                spool: own("spool"),
                cache: home.join("cache"),
                input: own("input"),
                output: own("output"),
            },
            id,
        };
        let terminated = CancellationToken::new();
        let agent = tokio::spawn(spare::run(args, terminated.clone()));
        Waiting {
            agent,
            terminated,
            home,
        }
    }

    /// What a compile of `script` prints in the container that waits.
    pub(super) async fn compile_in(&mut self, waiting: Waiting, script: &str) -> String {
        let (args, asked) = self.begun("default", "true").await;
        let spares = &self.world.cluster.spares;
        let taken = spares.take(&Digest::of(b"builder")).unwrap();
        let cache = waiting.home.join("cache");
        let script = script.replace("CACHE", cache.to_str().unwrap());
        let work = Work {
            key: args.key,
            command: ["sh", "-c", &script].map(str::to_owned).into(),
        };
        assert!(taken.give(work).await);
        assert_eq!(waiting.agent.await.unwrap().unwrap(), 0);
        assert!(matches!(end(&asked).await, End::Exited { code: 0, .. }));
        whole_log(&asked).await
    }
}

#[tokio::test]
async fn what_was_fetched_ahead_is_not_fetched_again() {
    let mut place = Place::new().await;
    let waiting = place.waiting("mkdir -p CACHE; echo one >CACHE/one").await;
    let sent = place.sent();
    assert!(sent > 0);
    let told = place
        .compile_in(waiting, "cat CACHE/one; echo two >CACHE/two")
        .await;
    assert_eq!(told, "one\n");
    assert_eq!(place.sent(), sent);
    // And what is new goes back as ever.
    let told = place.compile("cat CACHE/one CACHE/two").await.log;
    assert_eq!(told, "one\ntwo\n");
    assert_eq!(place.increments("default").await.len(), 2);
}

#[tokio::test]
async fn what_was_added_meanwhile_is_all_that_is_fetched_then() {
    let mut place = Place::new().await;
    let large = "mkdir -p CACHE; head -c 300000 /dev/urandom >CACHE/large";
    let waiting = place.waiting(large).await;
    place.compile("echo two >CACHE/two").await;
    let sent = place.sent();
    let told = place
        .compile_in(waiting, "wc -c <CACHE/large; cat CACHE/two")
        .await;
    assert_eq!(told, "300000\ntwo\n");
    assert!((1..10_000).contains(&(place.sent() - sent)));
}

#[tokio::test]
async fn what_was_wiped_meanwhile_is_not_there() {
    let mut place = Place::new().await;
    let waiting = place.waiting("mkdir -p CACHE; echo one >CACHE/one").await;
    let tenant = Tenant::default_tenant();
    for name in place.increments("default").await {
        let removed = place.world.store.remove_ref(RefKind::Cache, &tenant, &name);
        removed.await.unwrap();
    }
    let told = place.compile_in(waiting, "ls CACHE").await;
    assert_eq!(told, "");
}

#[tokio::test]
async fn one_whose_answer_to_what_it_accepts_is_lost_says_it_again() {
    let mut place = Place::new().await;
    let accepted = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&accepted);
    let losing = from_fn(move |request: Request, next: Next| {
        let counting = Arc::clone(&counting);
        async move {
            let accepts = *request.method() == Method::PUT && is_of_work(&request);
            let answer = next.run(request).await;
            match accepts && counting.fetch_add(1, Ordering::Relaxed) == 0 {
                // As whoever is between the two says it.
                true => StatusCode::BAD_GATEWAY.into_response(),
                false => answer,
            }
        }
    });
    let router = place.world.router().await.layer(losing);
    place.server = place.world.serve_as(any_port(), router).await;
    let waiting = place.waiting("mkdir -p CACHE; echo one >CACHE/one").await;
    let told = place.compile_in(waiting, "cat CACHE/one");
    let told = tokio::time::timeout(Duration::from_secs(60), told).await;
    assert_eq!(told.expect("its command begins"), "one\n");
    assert_eq!(accepted.load(Ordering::Relaxed), 2);
}

fn is_of_work(request: &Request) -> bool {
    let path = request.uri().path();
    path.starts_with("/spare/") && path.contains("/work/")
}

#[tokio::test]
async fn the_token_of_one_that_waits_is_for_nothing_else() {
    let mut place = Place::new().await;
    let waiting = place.waiting("mkdir -p CACHE; echo one >CACHE/one").await;
    let (own, other) = (SpareId::random(), SpareId::random());
    let token = place.world.grants.issue(&Grant::Spare { id: own });
    let (key, _run) = place.world.compile(None).await;
    for path in [
        format!("/spare/{other}/work"),
        format!("/spare/{other}/cache"),
        format!("/compile/{key}/input"),
        format!("/compile/{key}/cache"),
    ] {
        let status = status_of(&place, &path, token.expose_secret()).await;
        assert_eq!(status, 403, "{path}");
    }
    // It is nobody's: neither parts nor work.
    for path in [format!("/spare/{own}/work"), format!("/spare/{own}/cache")] {
        let status = status_of(&place, &path, token.expose_secret()).await;
        assert_eq!(status, 404, "{path}");
    }
    waiting.terminated.cancel();
    assert_eq!(waiting.agent.await.unwrap().unwrap(), 143);
}

async fn status_of(place: &Place, path: &str, token: &str) -> u16 {
    let ca = fs::read(place.world.ca_file()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
        .build()
        .unwrap();
    let url = format!("{}{path}", place.server.url);
    let sent = client.get(url).bearer_auth(token).send();
    sent.await.unwrap().status().as_u16()
}
