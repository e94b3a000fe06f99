//! What goes wrong with caches, by itself or by ill will.

use std::fs;

use axum::Router;
use axum::routing::get;

use super::*;

pub(super) fn architecture() -> &'static str {
    peitho::names::Architecture::word_for_this_machine()
}

/// Tenant A writes what it likes into its cache. B's compile of the same is the one that it would be without A.
#[tokio::test]
async fn nothing_passes_from_one_tenant_to_another() {
    let compiler = "if test -e CACHE/go/object; then cp CACHE/go/object OUTPUT/chaincode; else \
                    mkdir -p CACHE/go; echo sound >CACHE/go/object; echo sound >OUTPUT/chaincode; fi";
    let mut clean = Place::new().await;
    let expected = output(&clean.compile_of("b", compiler).await);
    let mut place = Place::new().await;
    place
        .compile_of("a", "mkdir -p CACHE/go; echo poison >CACHE/go/object")
        .await;
    let poisoned = output(&place.compile_of("a", compiler).await);
    assert_ne!(poisoned, expected);
    let of_b = output(&place.compile_of("b", compiler).await);
    assert_eq!(of_b, expected);
    let members = members(&place.world.store, of_b).await;
    assert_eq!(members[0].1, b"sound\n");
    // And again from its own cache.
    let again = output(&place.compile_of("b", compiler).await);
    assert_eq!(again, expected);
    assert_eq!(place.increments("a").await.len(), 1);
    assert_eq!(place.increments("b").await.len(), 1);

    // A's agent cannot ask for B's either.
    let of_b = place.increments("b").await.remove(0);
    let tenant: Tenant = "b".parse().unwrap();
    let kept = place.world.store.get_ref(RefKind::Cache, &tenant, &of_b);
    let kept: serde_json::Value = kept.await.unwrap().unwrap();
    let digest = kept["blob"]["digest"].as_str().unwrap();
    let (args, _asked) = place.begun("a", "true").await;
    let asked = format!("compile/{}/cache/{digest}", args.key);
    assert_eq!(place.ask("GET", &args, &asked, Vec::new()).await, 404);
    assert_eq!(place.ask("DELETE", &args, &asked, Vec::new()).await, 404);
    assert_eq!(place.increments("b").await.len(), 1);
}

fn output(compiled: &Compiled) -> Blob {
    match &compiled.end {
        End::Exited {
            code: 0,
            output: Some(output),
        } => *output,
        end => panic!("{end:?}: {}", compiled.log),
    }
}

impl Place {
    /// A request with the token of a compile's agent: its status.
    pub(super) async fn ask(&self, method: &str, args: &Args, path: &str, body: Vec<u8>) -> u16 {
        let sent = self.send(method, args, path, body.into()).await;
        sent.status().as_u16()
    }

    /// The same, for the answer.
    pub(super) async fn get(&self, args: &Args, path: &str) -> serde_json::Value {
        let answer = self.send("GET", args, path, "".into()).await;
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    pub(super) async fn send(
        &self,
        method: &str,
        args: &Args,
        path: &str,
        body: reqwest::Body,
    ) -> reqwest::Response {
        let request = self.request(method, args, path, body);
        request.send().await.unwrap()
    }

    pub(super) fn request(
        &self,
        method: &str,
        args: &Args,
        path: &str,
        body: reqwest::Body,
    ) -> reqwest::RequestBuilder {
        let token = self.world.grants.issue(&Grant::Compile { key: args.key });
        let ca = fs::read(args.place.credentials.join("ca.crt")).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .build()
            .unwrap();
        let url = format!("{}/{path}", self.server.url);
        client
            .request(method.parse().unwrap(), url)
            .bearer_auth(token.expose_secret())
            .body(body)
    }
}

/// The token is in the reach of the untrusted command.
#[tokio::test]
async fn hostile_increments_harm_their_tenant_alone() {
    let mut place = Place::new().await;
    let outside = place.world.scratch("outside");
    let escape = |kind: tar::EntryType, name: &str, target: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o777);
        (header, name.to_owned(), target.to_owned())
    };
    let target = outside.to_str().unwrap();
    let through_link = {
        let mut archive = tar::Builder::new(Vec::new());
        let (mut header, name, target) = escape(tar::EntryType::Symlink, "link", target);
        archive.append_link(&mut header, name, target).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o666);
        archive
            .append_data(&mut header, "link/file", &b"evil"[..])
            .unwrap();
        archive.into_inner().unwrap()
    };
    let upwards = {
        let mut bytes = tar(&[("file", 0o644, b"evil")]);
        bytes[..10].copy_from_slice(b"../../file");
        let sum: u32 = bytes[..512].iter().enumerate().fold(0, |sum, (at, byte)| {
            sum + if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        });
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes
    };
    let bomb = {
        let mut header = tar::Header::new_gnu();
        header.set_path("bomb").unwrap();
        header.set_size(2 << 30);
        header.set_mode(0o644);
        header.set_cksum();
        [header.as_bytes(), &[0; 512][..]].concat()
    };
    for (name, archive) in [
        ("link", through_link),
        ("upwards", upwards),
        ("no archive", b"no archive at all".to_vec()),
        ("bomb", bomb),
    ] {
        let body = match name {
            "no archive" => [&MAGIC[..], &archive].concat(),
            _ => lz4(&archive),
        };
        let (args, asked) = place.begun("default", "true").await;
        let path = format!("compile/{}/cache", args.key);
        assert_eq!(place.ask("GET", &args, &path, Vec::new()).await, 200);
        let exit = format!("compile/{}/exit", args.key);
        let report = b"{\"code\":0}".to_vec();
        assert_eq!(place.ask("PUT", &args, &exit, report).await, 204);
        let put = format!("{path}?fared=warm&fetchMs=0&extent=whole");
        assert_eq!(place.ask("PUT", &args, &put, body).await, 204, "{name}");
        end(&asked).await;
        assert_eq!(place.increments("default").await.len(), 1);

        let next = place.compile("ls CACHE").await;
        assert_eq!(next.code, 0, "{name}: {}", next.log);
        assert!(next.log.contains("without the compiler's cache"), "{name}");
        assert_eq!(next.log.lines().count(), 1, "{name}: {}", next.log);
        assert_eq!(place.increments("default").await, [""; 0], "{name}");
        assert_eq!(names(&outside), [""; 0]);
    }
    // A second one, and one without having asked.
    let (args, _asked) = place.begun("default", "true").await;
    let put = format!("compile/{}/cache?fared=warm&fetchMs=0&extent=new", args.key);
    assert_eq!(place.ask("PUT", &args, &put, lz4(b"x")).await, 404);
}

pub(super) fn lz4(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = lz4_flex::frame::FrameEncoder::new(MAGIC.to_vec());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Layers are made of what anybody may know: somebody who brings one as his cache could have it deleted when he wants.
#[tokio::test]
async fn nobody_brings_the_bytes_of_something_else() {
    let mut place = Place::new().await;
    let layer = tar(&[("chaincode", 0o755, b"of another tenant")]);
    let bodies = [&layer[..], &[0; 1024], b"{}", &MAGIC[1..], &MAGIC[..15]];
    for body in bodies {
        let (args, _asked) = place.begun("default", "true").await;
        let path = format!("compile/{}/cache", args.key);
        assert_eq!(place.ask("GET", &args, &path, Vec::new()).await, 200);
        let exit = format!("compile/{}/exit", args.key);
        let report = b"{\"code\":0}".to_vec();
        assert_eq!(place.ask("PUT", &args, &exit, report).await, 204);
        let put = format!("{path}?fared=warm&fetchMs=0&extent=whole");
        assert_eq!(place.ask("PUT", &args, &put, body.to_vec()).await, 400);
    }
    assert_eq!(place.increments("default").await, [""; 0]);
    let blobs = place.world.directory.path().join("store/blobs/sha256");
    assert!(!blobs.join(Digest::of(&layer).hex()).exists());
}

#[tokio::test]
async fn a_failed_compile_keeps_its_work_and_a_killed_one_does_not() {
    let mut place = Place::new().await;
    let failed = place.compile("echo half >CACHE/half; exit 1").await;
    assert_eq!(failed.code, 1);
    assert_eq!(place.compile("cat CACHE/half").await.log, "half\n");
    let mut place = Place::new().await;
    let killed = place.compile("echo torn >CACHE/torn; kill -KILL $$").await;
    assert_eq!((killed.code, killed.log.as_str()), (137, ""));
    assert_eq!(place.increments("default").await, [""; 0]);
}

/// What a run died with is not given to the next one, since it may have died of it.
#[tokio::test]
async fn a_run_that_comes_to_no_ordinary_end_loses_its_cache() {
    let mut place = Place::new().await;
    place.compile("echo a >CACHE/a").await;
    let killed = place.compile("cat CACHE/a; kill -KILL $$").await;
    assert_eq!((killed.code, killed.log.as_str()), (137, "a\n"));
    assert_eq!(place.increments("default").await, [""; 0]);
    assert_eq!(place.compile("ls CACHE; echo b >CACHE/b").await.log, "");

    // The container is gone, and nothing was reported.
    let lost = place.world.cluster.lost();
    let (args, asked) = place.begun("default", "cat CACHE/b").await;
    let path = format!("compile/{}/cache", args.key);
    assert_eq!(place.ask("GET", &args, &path, Vec::new()).await, 200);
    lost.send(()).unwrap();
    assert!(matches!(end(&asked).await, End::Failed(_)));
    place.has_lost_it().await;

    // Who was given nothing has nothing to lose, and an ordinary failure says nothing.
    place.compile("echo c >CACHE/c; exit 1").await;
    assert_eq!(place.compile("cat CACHE/c; exit 2").await.log, "c\n");
    let lost = place.world.cluster.lost();
    let (_args, asked) = place.begun("default", "true").await;
    lost.send(()).unwrap();
    assert!(matches!(end(&asked).await, End::Failed(_)));
    assert_eq!(place.compile("cat CACHE/c").await.log, "c\n");
}

#[tokio::test]
async fn where_nothing_is_kept_nothing_is_made() {
    let mut off = Place::keeping(None).await;
    let compiled = off
        .compile("ls -d CACHE && exit 3; mkdir CACHE; echo x >CACHE/x")
        .await;
    assert_eq!(compiled.code, 0, "{}", compiled.log);
    assert_eq!(off.increments("default").await, [""; 0]);
    assert_eq!(off.gained(), 0);

    // A builder that nobody could look up may be another one the next time.
    let mut place = Place::new().await;
    let source = tar(&[("a", 0o644, b"a")]);
    let tenant = Tenant::default_tenant();
    let (key, asked) = place.world.ordered(&tenant, None, Some(&source)).await;
    let args = place.args(key, "mkdir CACHE; echo x >CACHE/x", "unknown");
    let compiled = finished(args, asked).await;
    assert_eq!(compiled.code, 0, "{}", compiled.log);
    assert_eq!(place.increments("default").await, [""; 0]);
}

/// As one of an earlier release, which knows nothing of all this.
#[tokio::test]
async fn an_agent_that_asks_for_no_cache_compiles() {
    let mut place = Place::new().await;
    place.compile("echo kept >CACHE/kept").await;
    let (args, asked) = place.begun("default", "true").await;
    let exit = format!("compile/{}/exit", args.key);
    let report = b"{\"code\":0}".to_vec();
    assert_eq!(place.ask("PUT", &args, &exit, report).await, 204);
    let ended = end(&asked).await;
    assert!(matches!(ended, End::Exited { code: 0, .. }), "{ended:?}");
    assert_eq!(place.compile("cat CACHE/kept").await.log, "kept\n");
}

#[tokio::test]
async fn another_builder_has_another_cache() {
    let mut place = Place::new().await;
    place.compile("echo x >CACHE/x").await;
    let tenant = Tenant::default_tenant();
    let source = tar(&[("a", 0o644, b"a")]);
    let other = Some(Digest::of(b"another builder"));
    let (key, asked) = place.world.ordered(&tenant, other, Some(&source)).await;
    let args = place.args(key, "ls CACHE", "other");
    assert_eq!(finished(args, asked).await.log, "");
}

/// A server, or what stands before it, that does not answer as it should.
#[tokio::test]
async fn an_answer_that_does_not_come_costs_the_cache_alone() {
    let mut place = Place::new().await;
    place
        .compile(&format!("{} >CACHE/large", noise(300_000)))
        .await;
    let part = "/compile/{key}/cache/{digest}";
    let silent = || {
        let first = futures::stream::iter([Ok::<_, std::io::Error>("LZ4?")]);
        let silence = futures::stream::pending();
        axum::body::Body::from_stream(futures::StreamExt::chain(first, silence))
    };
    let broken = || {
        let error = Err::<&str, _>(std::io::Error::other("broken"));
        axum::body::Body::from_stream(futures::stream::iter([Ok("LZ4?"), error]))
    };
    let refuses = || async { http::StatusCode::INTERNAL_SERVER_ERROR };
    let routers = [
        (part, get(move || async move { silent() }), "come"),
        (part, get(move || async move { broken() }), "GET https"),
        (part, get(refuses), "500"),
        ("/compile/{key}/cache", get(refuses), "500"),
        (
            "/compile/{key}/cache",
            get(|| async { "no plan" }),
            "GET https",
        ),
    ];
    for (path, route, told) in routers {
        let spoilt = Router::new().route(path, route);
        let sound = place.world.router().await;
        let router = spoilt.fallback_service(sound);
        let server = place.world.serve_as(any_port(), router).await;
        let (mut args, asked) = place
            .begun("default", "ls CACHE 2>/dev/null; echo compiled")
            .await;
        args.place.address = server.url.clone();
        let compiled = finished(args, asked).await;
        assert_eq!(compiled.code, 0, "{}", compiled.log);
        let [why, "compiled"] = compiled.log.lines().collect::<Vec<_>>()[..] else {
            panic!("{}", compiled.log);
        };
        let without = "peitho agent: compiles without the compiler's cache: ";
        assert!(why.starts_with(without) && why.contains(told), "{why}");
    }
    // It was not the part's fault.
    assert_eq!(place.compile("wc -c <CACHE/large").await.log, "300000\n");
}

/// Nobody waits for it: the peer has its answer, and the log is whole.
#[tokio::test]
async fn an_agent_that_dies_while_it_brings_something_leaves_nothing() {
    let mut place = Place::new().await;
    let script = format!("{} >CACHE/large; echo done", noise(80_000_000));
    let (args, asked) = place.begun("default", &script).await;
    let agent = tokio::spawn(run(args, CancellationToken::new()));
    let ended = end(&asked).await;
    assert!(matches!(ended, End::Exited { code: 0, .. }), "{ended:?}");
    assert_eq!(whole_log(&asked).await, "done\n");
    let brings = async || (place.gained() > 0).then_some(());
    once("the agent brings the first bytes", brings).await;
    agent.abort();
    assert!(agent.await.unwrap_err().is_cancelled());
    let next = place.compile("ls CACHE").await;
    assert_eq!((next.code, next.log.as_str()), (0, ""));
    assert_eq!(place.increments("default").await, [""; 0]);
}

/// What a cache was wiped for must not come back by who had it already.
#[tokio::test]
async fn a_compile_that_began_before_its_cache_was_wiped_does_not_bring_it_back() {
    let mut place = Place::new().await;
    place.compile("echo poison >CACHE/poison").await;
    let gate = gate(&place.world);
    let script = format!(
        "cat CACHE/poison; cat {}; echo more >CACHE/more",
        gate.display()
    );
    let (args, asked) = place.begun("default", &script).await;
    let running = tokio::spawn(run(args, CancellationToken::new()));
    assert_eq!(
        asked.log.reader().next().await.unwrap().unwrap(),
        &b"poison\n"[..]
    );
    let tenant = Tenant::default_tenant();
    for name in place.increments("default").await {
        let removed = place.world.store.remove_ref(RefKind::Cache, &tenant, &name);
        removed.await.unwrap();
    }
    open(gate, "open\n").await;
    assert_eq!(running.await.unwrap().unwrap(), 0);
    assert_eq!(place.increments("default").await, [""; 0]);
    assert_eq!(place.compile("ls CACHE").await.log, "");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_costs_the_cache_alone() {
    let mut place = Place::new().await;
    place.compile("echo x >CACHE/x").await;
    let (mut args, asked) = place.begun("default", "echo compiled").await;
    let file = place.world.scratch("home").join("file");
    fs::write(&file, "").unwrap();
    args.place.cache = file.join(".cache");
    let compiled = finished(args, asked).await;
    assert_eq!(compiled.code, 0);
    let told = "peitho agent: compiles without the compiler's cache: ";
    assert!(compiled.log.starts_with(told), "{}", compiled.log);
    assert!(compiled.log.ends_with("\ncompiled\n"), "{}", compiled.log);
    assert_eq!(
        place.increments("default").await.len(),
        1,
        "it is not to blame"
    );
}
