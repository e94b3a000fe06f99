//! What is taken of what agents bring, how long it is waited for, and what it is said to be worth.

use axum::Router;
use axum::routing::get;

use super::trouble::{architecture, lz4};
use super::*;

/// A compile that fails at once says nothing of what a later one would save.
#[tokio::test]
async fn a_cache_is_worth_what_a_cold_success_took() {
    let mut place = Place::new().await;
    place.compile("echo a >CACHE/a; exit 1").await;
    assert_eq!(place.worth().await, [None]);
    place.compile("echo b >CACHE/b").await;
    assert_eq!(place.worth().await, [None, None], "it had the first one's");
    let mut place = Place::new().await;
    place.compile("sleep 0.3; echo a >CACHE/a").await;
    let worth = place.worth().await[0].unwrap();
    // Less what the agent says that its question took.
    assert!((200..60_000).contains(&worth), "{worth}");
    // And that stays.
    place.compile("echo b >CACHE/b; exit 1").await;
    assert_eq!(place.worth().await, [Some(worth); 2]);
}

#[tokio::test]
async fn a_cache_that_comes_too_late_twice_goes() {
    let mut place = Place::new().await;
    place.compile("echo x >CACHE/x").await;
    // A byte of it now and then: neither silent nor soon there, also in twice the time.
    let slow = || async {
        let pause = tokio::time::interval(Duration::from_secs(1));
        let bytes =
            futures::stream::unfold((pause, MAGIC.into_iter()), |(mut pause, mut rest)| async {
                pause.tick().await;
                let byte = rest.next()?;
                Some((Ok::<_, std::io::Error>(vec![byte]), (pause, rest)))
            });
        axum::body::Body::from_stream(bytes)
    };
    let spoilt = Router::new().route("/compile/{key}/cache/{digest}", get(slow));
    let router = spoilt.fallback_service(place.world.router().await);
    let server = place.world.serve_as(any_port(), router).await;
    for left in [1, 0] {
        let (mut args, asked) = place.begun("default", "ls CACHE; exit 1").await;
        args.place.address = server.url.clone();
        let late = finished(args, asked).await;
        let told = "peitho agent: compiles without the compiler's cache: the parts do not come in the time that they are worth\n";
        assert_eq!((late.code, late.log.as_str()), (1, told));
        assert_eq!(place.increments("default").await.len(), left);
    }
}

/// A server that is gone without a word, its node with it: the next one must not find an agent that has nothing more to tell.
#[tokio::test]
async fn an_agent_does_not_wait_for_ever_for_what_it_brings_to_be_taken() {
    let mut place = Place::new().await;
    let (server, begun) = place.serve_without_taking().await;
    let (mut args, asked) = place.begun("default", "echo x >CACHE/x").await;
    args.place.address = server.url.clone();
    args.giving = Duration::from_secs(1);
    let agent = tokio::spawn(run(args, CancellationToken::new()));
    end(&asked).await;
    begun.notified().await;
    let ended = tokio::time::timeout(Duration::from_secs(30), agent).await;
    assert_eq!(ended.unwrap().unwrap().unwrap(), 0);
}

/// One that is there, and takes nothing.
#[tokio::test]
async fn an_agent_does_not_wait_for_long_where_nothing_is_taken() {
    let mut place = Place::new().await;
    let never = |body: axum::body::Body| async move {
        std::future::pending::<()>().await;
        drop(body);
    };
    let server = place.serve_wanting_all(1 << 30, never).await;
    let script = format!("{} >CACHE/large", noise(20_000_000));
    let (mut args, asked) = place.begun("default", &script).await;
    args.place.address = server.url.clone();
    args.taking = Duration::from_secs(1);
    args.giving = Duration::from_secs(600);
    let agent = tokio::spawn(run(args, CancellationToken::new()));
    end(&asked).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), agent).await;
    assert_eq!(ended.unwrap().unwrap().unwrap(), 0);
}

/// The token is in the reach of the command, which is not to bring anything while it runs, and nothing that was not asked for.
#[tokio::test]
async fn only_what_was_asked_for_is_taken_and_only_at_its_time() {
    let mut place = Place::new().await;
    let report = |code: u8| format!("{{\"code\":{code}}}").into_bytes();
    let part = || lz4(&tar(&[("x", 0o644, b"x")]));
    for (code, extent, status) in [(0, "new", 409), (137, "whole", 409), (0, "whole", 204)] {
        let (args, _asked) = place.begun("default", "true").await;
        let path = format!("compile/{}/cache", args.key);
        let exit = format!("compile/{}/exit", args.key);
        assert_eq!(place.get(&args, &path).await["give"], "whole");
        let put = format!("{path}?fared=cold&fetchMs=0&extent={extent}");
        assert_eq!(
            place.ask("PUT", &args, &put, part()).await,
            404,
            "too early"
        );
        assert_eq!(place.ask("PUT", &args, &exit, report(code)).await, 204);
        assert_eq!(
            place.ask("PUT", &args, &put, part()).await,
            status,
            "{extent}"
        );
        assert_eq!(place.ask("PUT", &args, &put, part()).await, 404, "again");
    }
    let [name] = &place.increments("default").await[..] else {
        panic!("{:?}", place.increments("default").await);
    };

    // What was wiped does not come back by asking anew.
    let (args, _asked) = place.begun("default", "true").await;
    let path = format!("compile/{}/cache", args.key);
    let plan = place.get(&args, &path).await;
    assert_eq!(plan["parts"].as_array().unwrap().len(), 1);
    let tenant = Tenant::default_tenant();
    let removed = place.world.store.remove_ref(RefKind::Cache, &tenant, name);
    assert!(removed.await.unwrap());
    assert_eq!(place.get(&args, &path).await, plan);
    let exit = format!("compile/{}/exit", args.key);
    assert_eq!(place.ask("PUT", &args, &exit, report(0)).await, 204);
    let put = format!("{path}?fared=warm&fetchMs=0&extent=new");
    assert_eq!(place.ask("PUT", &args, &put, part()).await, 409);
    assert_eq!(place.increments("default").await, [""; 0]);
}

#[tokio::test]
async fn a_row_has_an_end() {
    let mut place = Place::new().await;
    place.compile("echo x >CACHE/x").await;
    let (args, _asked) = place.begun("default", "true").await;
    let path = format!("compile/{}/cache", args.key);
    assert_eq!(place.get(&args, &path).await["give"], "new");
    // As many others were asked for an addition at the same time.
    let record = serde_json::json!({"blob": place.increment().await, "extent": "new", "made": 2});
    for number in 1..64 {
        let name = format!("{}/{}/{number}", Digest::of(b"builder"), architecture());
        let tenant = Tenant::default_tenant();
        let put = (place.world.store).put_ref(RefKind::Cache, &tenant, &name, &record);
        put.await.unwrap();
    }
    let exit = format!("compile/{}/exit", args.key);
    assert_eq!(
        place
            .ask("PUT", &args, &exit, b"{\"code\":0}".to_vec())
            .await,
        204
    );
    let put = format!("{path}?fared=warm&fetchMs=0&extent=new");
    assert_eq!(
        place
            .ask("PUT", &args, &put, lz4(&tar(&[("y", 0o644, b"y")])))
            .await,
        409
    );
    place.compile("cat CACHE/x; echo z >CACHE/z").await;
    assert_eq!(
        place.increments("default").await.len(),
        1,
        "all of it once more"
    );
}

/// Somebody wants the same again, and what comes later than that is not kept.
#[tokio::test]
async fn what_comes_after_the_end_of_the_wait_is_not_kept() {
    let mut place = Place::new().await;
    let tenant = Tenant::default_tenant();
    let builder = Some(Digest::of(b"builder"));
    let source = tar(&[("late", 0o644, b"")]);
    let (key, _asked) = place.world.ordered(&tenant, builder, Some(&source)).await;
    let args = place.args(key, "true", "late");
    let path = format!("compile/{key}/cache");
    assert_eq!(place.get(&args, &path).await["give"], "whole");
    let exit = format!("compile/{key}/exit");
    assert_eq!(
        place
            .ask("PUT", &args, &exit, b"{\"code\":1}".to_vec())
            .await,
        204
    );
    let (gate, opened) = tokio::sync::oneshot::channel::<()>();
    let first = futures::stream::iter([Ok::<_, std::io::Error>(MAGIC.to_vec())]);
    let rest = futures::stream::once(async move {
        opened.await.unwrap();
        Ok(lz4(&tar(&[("x", 0o644, b"x")])).split_off(MAGIC.len()))
    });
    let body = reqwest::Body::wrap_stream(futures::StreamExt::chain(first, rest));
    let put = format!("{path}?fared=cold&fetchMs=0&extent=whole");
    let brought = tokio::spawn(place.request("PUT", &args, &put, body).send());
    place.world.ordered(&tenant, builder, Some(&source)).await;
    gate.send(()).unwrap();
    assert_eq!(brought.await.unwrap().unwrap().status(), 404);
    assert_eq!(place.increments("default").await, [""; 0]);
}

/// A daemon of a build tool goes on after the command, and writes.
#[tokio::test]
async fn what_a_command_left_running_is_ended_before_its_cache_is_kept() {
    let mut place = Place::new().await;
    let daemon = "(exec >/dev/null 2>&1; while :; do echo more >>CACHE/daemon; done) & echo kept >CACHE/kept";
    let (args, asked) = place.begun("default", daemon).await;
    let busy = args.place.cache.join("daemon");
    let compiled = finished(args, asked).await;
    assert_eq!(compiled.code, 0);
    let length = || fs::metadata(&busy).map_or(0, |stat| stat.len());
    let before = length();
    assert_eq!(place.compile("cat CACHE/kept").await.log, "kept\n");
    assert_eq!(length(), before, "it still writes");
}

/// An agent that has reported and does not come to an end has its place in the queue for as long as its container lives. Neither others nor the
/// next try of the same have to wait for it for long.
#[tokio::test]
async fn an_agent_that_brings_nothing_holds_up_nobody() {
    let mut place = Place::new().await;
    let tenant = Tenant::default_tenant();
    let builder = Some(Digest::of(b"builder"));
    // As many as run at once.
    let mut lingering = Vec::new();
    for number in 0..4 {
        let source = tar(&[("lingers", 0o644, &[number])]);
        let (key, asked) = place.world.ordered(&tenant, builder, Some(&source)).await;
        let args = place.args(key, "true", &format!("lingers-{number}"));
        let path = format!("compile/{key}/cache");
        assert_eq!(place.ask("GET", &args, &path, Vec::new()).await, 200);
        let exit = format!("compile/{key}/exit");
        let report = b"{\"code\":1}".to_vec();
        assert_eq!(place.ask("PUT", &args, &exit, report).await, 204);
        let failed = End::Exited {
            code: 1,
            output: None,
        };
        assert_eq!(end(&asked).await, failed);
        lingering.push((source, key));
    }
    let input = tar(&[("waits", 0o644, b"")]);
    let (begun, others) = (
        std::time::Instant::now(),
        place.world.ordered(&tenant, builder, Some(&input)),
    );
    let others = tokio::time::timeout(Duration::from_secs(30), others);
    let (key, _asked) = others.await.unwrap();
    assert!(
        begun.elapsed() > Duration::from_secs(4),
        "it had no place of its own"
    );
    // The row is spared: nobody is asked for all of it, in vain, by the next four.
    let path = format!("compile/{key}/cache");
    let args = place.args(key, "true", "waits");
    assert_eq!(
        place.get(&args, &path).await["give"],
        serde_json::Value::Null
    );
    let (source, key) = lingering.remove(0);
    let again = place.world.ordered(&tenant, builder, Some(&source));
    let again = tokio::time::timeout(Duration::from_secs(20), again);
    assert_eq!(again.await.unwrap().0, key);
}

/// A volume of the operator's that outlives its pods, and that others may be using.
#[tokio::test]
async fn a_directory_that_has_something_in_it_is_left_alone() {
    let mut place = Place::new().await;
    place.compile("echo kept >CACHE/kept").await;
    let rows = place.increments("default").await;
    let (args, asked) = place
        .begun("default", "ls CACHE; echo new >CACHE/new")
        .await;
    let directory = args.place.cache.clone();
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("own"), "mine").unwrap();
    let compiled = finished(args, asked).await;
    let told = format!(
        "peitho agent: compiles without the compiler's cache: {directory:?} is not empty: what is in it stays as it is, and is not kept by Peitho\nown\n"
    );
    assert_eq!((compiled.code, compiled.log), (0, told));
    assert_eq!(fs::read_to_string(directory.join("own")).unwrap(), "mine");
    assert!(directory.join("new").exists());
    assert_eq!(place.increments("default").await, rows);
}
