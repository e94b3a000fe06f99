//! Compiles in an engine: the agent of the static program, and everything between it and who asked. Small shell scripts
//! stand for compilers.

use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::KillContainerOptions;
use peitho::compile::{End, Input, Request, Run};
use peitho::config::{self, ByBuilder};
use peitho::names::{CompileKey, Digest, ImageName, Tenant};
use peitho::registry::Registries;
use peitho::runtime::docker::Docker;
use peitho::runtime::{CompileSpec, Resolution, Runtime as _};
use peitho::store::spool::Spool;
use testbed::Registry;

use crate::Case;
use crate::conformance::subject::{Subject as _, soon};
use crate::engine::{Engine, grants};
use crate::instance::{Peitho, Place};

pub(crate) const ALL: &[(&str, Case)] = &[
    ("a compile's output and log arrive", |engine| {
        Box::pin(arrives(engine))
    }),
    (
        "a compile that fails is told by its code and log",
        |engine| Box::pin(fails(engine)),
    ),
    (
        "a compile finds places to write, whoever it runs as",
        |engine| Box::pin(places(engine)),
    ),
    ("what a compiler keeps is there the next time", |engine| {
        Box::pin(warm(engine))
    }),
    ("a compile without memory is told so", |engine| {
        Box::pin(out_of_memory(engine))
    }),
    ("a compile that others kill is told so", |engine| {
        Box::pin(killed(engine))
    }),
    ("a compile of no image is told so", |engine| {
        Box::pin(no_image(engine))
    }),
    ("a compile of no command is told so", |engine| {
        Box::pin(no_command(engine))
    }),
    ("a program that is not static is told so", |engine| {
        Box::pin(dynamic(engine))
    }),
    ("a restart of Peitho joins the compile", |engine| {
        Box::pin(joined(engine))
    }),
    ("two who begin one compile share a container", |engine| {
        Box::pin(shared(engine))
    }),
    (
        "what nobody holds is known and can be discarded",
        |engine| Box::pin(unheld(engine)),
    ),
];

/// Those that need more than an engine.
pub(crate) const OF_THE_TESTBED: &[(&str, Case)] = &[(
    "a builder is pulled from what replaces its registry",
    |engine| Box::pin(replaced(engine)),
)];

fn request(engine: &Engine, script: &str) -> Request {
    Request {
        tenant: Tenant::default_tenant(),
        image: engine.base(),
        builder: None,
        facts: Default::default(),
        manifest: None,
        command: ["sh", "-c", script].map(str::to_owned).into(),
        env: vec![("GOPROXY".to_owned(), "off".to_owned())],
        working_dir: None,
        user: None,
        resolution: Resolution::default(),
        input: None,
    }
}

/// Runs it to its end: log and end.
async fn compiled(engine: &Engine, place: &Place, request: Request) -> (String, End) {
    let peitho = Peitho::start(engine, place).await;
    let run = peitho.compiles.run(request).await.unwrap();
    let told = (log(&run).await, end(&run).await);
    nothing_left(engine).await;
    peitho.gone().await;
    told
}

async fn log(run: &Run) -> String {
    let mut reader = run.log.reader();
    let mut text = Vec::new();
    while let Some(bytes) = soon(reader.next()).await.unwrap() {
        text.extend_from_slice(&bytes);
    }
    String::from_utf8(text).unwrap()
}

async fn end(run: &Run) -> End {
    let mut end = run.end.clone();
    let end = soon(end.wait_for(Option::is_some)).await.unwrap();
    end.clone().unwrap()
}

/// The containers of compiles.
async fn containers(engine: &Engine) -> Vec<String> {
    let names = engine.names().await;
    names
        .into_iter()
        .filter(|it| it.contains("compile-"))
        .collect()
}

/// Until a compile has a container under its own name.
async fn begun(engine: &Engine) {
    while containers(engine)
        .await
        .iter()
        .all(|it| peitho::names::docker::is_draft(it))
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is left of a compile goes soon after its end.
async fn nothing_left(engine: &Engine) {
    let gone = async {
        while !containers(engine).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(gone).await;
}

fn failed(end: &End) -> &str {
    match end {
        End::Failed(reason) => reason,
        End::Exited { .. } => panic!("{end:?}"),
    }
}

async fn arrives(engine: &Engine) {
    let place = Place::new(engine, "arrives").await;
    let mut source = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(6);
    source
        .append_data(&mut header, "src/hello", &b"hello\n"[..])
        .unwrap();
    let source = source.into_inner().unwrap();
    let mut archive = place.store.ingest().await.unwrap();
    archive.append(&source).await.unwrap();
    let script = "cat /chaincode/input/src/hello; echo problem >&2; echo $GOPROXY; \
                  cp /chaincode/input/src/hello /chaincode/output/";
    let mut order = request(engine, script);
    order.input = Some(Input {
        archive: archive.into(),
        content: Digest::of(&source),
    });
    let (log, end) = compiled(engine, &place, order).await;
    assert_eq!(log, "hello\nproblem\noff\n");
    let End::Exited {
        code: 0,
        output: Some(output),
    } = end
    else {
        panic!("{end:?}");
    };
    let (file, _) = place
        .store
        .open_blob(&output.digest)
        .await
        .unwrap()
        .unwrap();
    let mut archive = tar::Archive::new(file);
    let paths: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert!(
        paths.iter().any(|path| path.ends_with("hello")),
        "{paths:?}"
    );
}

async fn fails(engine: &Engine) {
    let place = Place::new(engine, "fails").await;
    let order = request(engine, "echo it does not compile; exit 3");
    let (log, end) = compiled(engine, &place, order).await;
    assert_eq!(log, "it does not compile\n");
    assert_eq!(
        end,
        End::Exited {
            code: 3,
            output: None
        }
    );
}

async fn places(engine: &Engine) {
    let place = Place::new(engine, "places").await;
    let script = "set -e; id -u; touch $HOME/a $TMPDIR/b; mkdir -p $GOCACHE; touch /chaincode/input/c \
                  /chaincode/output/d; test ! -w /run/peitho/bin; echo all are writable";
    for user in [None, Some(1234)] {
        let mut order = request(engine, script);
        // Root may write anywhere.
        if user.is_none() {
            order.command[2] = script.replace("test ! -w /run/peitho/bin; ", "");
        }
        order.user = user;
        let (log, end) = compiled(engine, &place, order).await;
        let id = user.unwrap_or(0);
        assert_eq!(log, format!("{id}\nall are writable\n"));
        assert!(matches!(end, End::Exited { code: 0, .. }), "{end:?}");
    }
}

async fn warm(engine: &Engine) {
    let place = Place::new(engine, "warm").await;
    let peitho = Peitho::start(engine, &place).await;
    crate::warmth::is_there_the_next_time(&peitho.compiles, &engine.base()).await;
    nothing_left(engine).await;
    peitho.gone().await;
}

async fn out_of_memory(engine: &Engine) {
    let place = Place::new(engine, "memory").await;
    let mut settings = place.settings();
    let mut limits = settings.compile_limits.general().of(&engine.base());
    limits.insert("memory".to_owned(), "64Mi".to_owned());
    settings.compile_limits = ByBuilder::from(limits).into();
    let peitho = Peitho::with(engine, &place, settings).await;
    let run = peitho
        .compiles
        .run(request(engine, "tail /dev/zero"))
        .await
        .unwrap();
    let (log, end) = (log(&run).await, end(&run).await);
    assert!(
        log.contains("the compile ran out of memory, see compile.limits"),
        "{log}"
    );
    assert_eq!(
        end,
        End::Exited {
            code: 137,
            output: None
        }
    );
    nothing_left(engine).await;
    peitho.gone().await;
}

async fn killed(engine: &Engine) {
    let place = Place::new(engine, "killed").await;
    let peitho = Peitho::start(engine, &place).await;
    let run = peitho
        .compiles
        .run(request(engine, "echo here; sleep 1000"))
        .await
        .unwrap();
    let mut reader = run.log.reader();
    soon(reader.next()).await.unwrap().unwrap();
    let name = containers(engine).await.remove(0);
    let options = KillContainerOptions {
        signal: "KILL".to_owned(),
    };
    let killed = engine
        .docker
        .kill_container(name.trim_start_matches('/'), Some(options));
    killed.await.unwrap();
    let end = end(&run).await;
    assert!(
        failed(&end).contains("ended with 137 before it could report"),
        "{end:?}"
    );
    nothing_left(engine).await;
    peitho.gone().await;
}

async fn no_image(engine: &Engine) {
    let place = Place::new(engine, "image").await;
    let mut order = request(engine, "true");
    order.image = engine.missing();
    let (_, end) = compiled(engine, &place, order).await;
    assert!(failed(&end).contains("nowhere:1"), "{end:?}");
}

/// The engine has it under no name.
async fn replaced(engine: &Engine) {
    const HOST: &str = "nowhere.example.com";
    let testbed = engine.testbed();
    let registry = Registry::start_with_auth(&testbed.run, "me", "the-password").unwrap();
    let builder = testbed.assets.images().unwrap().copybuilder;
    let builder = builder.called("mirror/fabric/builder:1");
    registry.push(&builder).unwrap();
    let password_file = testbed.run.dir().join("password");
    std::fs::write(&password_file, "the-password").unwrap();
    let (address, place) = (
        registry.address().to_string(),
        Place::new(engine, "replaced").await,
    );
    let replaced = config::Registry {
        host: HOST.to_owned(),
        replaced_by: Some(format!("{address}/mirror")),
        ..config::Registry::default()
    };
    let closed = config::Registry {
        host: address,
        username: Some("me".to_owned()),
        password_file: Some(password_file),
        ..config::Registry::default()
    };
    let config = [replaced, closed];
    let registries = Registries::new(&config, place.store.clone());
    let registries = registries.await.unwrap();
    let mut settings = place.settings();
    settings.places = registries.places().clone();
    settings.logins = registries.logins().clone();
    let peitho = Peitho::with(engine, &place, settings).await;
    let mut order = request(engine, "echo compiled");
    order.image = format!("{HOST}/fabric/builder:1").parse().unwrap();
    let run = peitho.compiles.run(order).await.unwrap();
    let (log, end) = (log(&run).await, end(&run).await);
    assert_eq!(log, "compiled\n", "{end:?}");
    assert!(matches!(end, End::Exited { code: 0, .. }), "{end:?}");
    nothing_left(engine).await;
    peitho.gone().await;
}

async fn no_command(engine: &Engine) {
    let place = Place::new(engine, "command").await;
    let mut order = request(engine, "");
    order.command = vec!["no-such-compiler".to_owned()];
    let (log, end) = compiled(engine, &place, order).await;
    assert!(log.contains("no-such-compiler"), "{log}");
    assert_eq!(
        end,
        End::Exited {
            code: 127,
            output: None
        }
    );
}

async fn dynamic(engine: &Engine) {
    let place = Place::new(engine, "dynamic").await;
    let mut settings = place.settings();
    settings.program = std::env::current_exe().unwrap();
    let peitho = Peitho::with(engine, &place, settings).await;
    assert!(peitho.runtime.check_compiles().is_err());
    let run = peitho.compiles.run(request(engine, "true")).await.unwrap();
    let end = end(&run).await;
    assert!(failed(&end).contains("is linked dynamically"), "{end:?}");
    peitho.gone().await;
}

async fn joined(engine: &Engine) {
    let place = Place::new(engine, "joined").await;
    let first = Peitho::start(engine, &place).await;
    let script = "echo begun; sleep 6; echo ended; echo x >/chaincode/output/x";
    let run = first.compiles.run(request(engine, script)).await.unwrap();
    let mut reader = run.log.reader();
    soon(reader.next()).await.unwrap().unwrap();
    let name = containers(engine).await.remove(0);
    let before = engine
        .docker
        .inspect_container(name.trim_start_matches('/'), None);
    let before = before.await.unwrap().id;
    drop((reader, run));
    first.gone().await;
    let second = Peitho::start(engine, &place).await;
    let run = second.compiles.run(request(engine, script)).await.unwrap();
    let name = containers(engine).await.remove(0);
    let after = engine
        .docker
        .inspect_container(name.trim_start_matches('/'), None);
    assert_eq!(after.await.unwrap().id, before);
    assert_eq!(log(&run).await, "begun\nended\n");
    let end = end(&run).await;
    assert!(
        matches!(
            end,
            End::Exited {
                code: 0,
                output: Some(_)
            }
        ),
        "{end:?}"
    );
    nothing_left(engine).await;
    second.gone().await;
}

/// What a runtime is handed, without anybody who hears the agent.
async fn spec(engine: &Engine, place: &Place, script: &str) -> CompileSpec {
    let image: ImageName = engine.base();
    CompileSpec {
        key: CompileKey::new(Digest::of(script.as_bytes())),
        tenant: Tenant::default_tenant(),
        image,
        builder: None,
        facts: Default::default(),
        command: ["sh", "-c", script].map(str::to_owned).into(),
        env: Vec::new(),
        working_dir: None,
        user: None,
        resolution: Resolution::default(),
        input: None,
        log: Spool::create(&place.store).await.unwrap(),
        milestones: Default::default(),
    }
}

async fn shared(engine: &Engine) {
    let place = Place::new(engine, "shared").await;
    let spec = spec(engine, &place, "sleep 1000").await;
    let connect = || {
        Docker::connect(
            &engine.section,
            place.settings(),
            place.store.clone(),
            grants(),
        )
    };
    let (one, other) = (connect().await.unwrap(), connect().await.unwrap());
    let both = async { tokio::join!(one.compile(&spec), other.compile(&spec)) };
    let discard = async {
        let running = async {
            begun(engine).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        };
        soon(running).await;
        let names = containers(engine).await;
        assert_eq!(names.len(), 1, "{names:?}");
        one.discard(Some(&spec.tenant), &spec.key).await.unwrap();
    };
    let ((first, second), ()) = soon(async { tokio::join!(both, discard) }).await;
    assert_eq!(first.unwrap().code, 137);
    assert_eq!(second.unwrap().code, 137);
    nothing_left(engine).await;
}

async fn unheld(engine: &Engine) {
    let place = Place::new(engine, "unheld").await;
    let spec = spec(engine, &place, "sleep 1001").await;
    let connect = || {
        Docker::connect(
            &engine.section,
            place.settings(),
            place.store.clone(),
            grants(),
        )
    };
    let (holder, other) = (connect().await.unwrap(), connect().await.unwrap());
    assert_eq!(other.unheld(Duration::from_secs(1)).await.unwrap(), []);
    let holding = {
        let (holder, spec) = (Arc::clone(&holder), spec.clone());
        tokio::spawn(async move { holder.compile(&spec).await })
    };
    soon(begun(engine)).await;
    let held = soon(other.unheld(Duration::from_secs(1))).await.unwrap();
    assert_eq!(held, [], "somebody holds it");
    holding.abort();
    assert!(holding.await.unwrap_err().is_cancelled());
    let left = soon(other.unheld(Duration::from_secs(1))).await.unwrap();
    assert_eq!(left, [spec.key]);
    assert_eq!(containers(engine).await.len(), 1);
    soon(other.discard(None, &spec.key)).await.unwrap();
    nothing_left(engine).await;
    soon(other.discard(None, &spec.key)).await.unwrap();
}
