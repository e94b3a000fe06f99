//! What compilers keep, with the real agent as the first process of a real container, and with the real compiler whose caches they mostly are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use peitho::compile::{self, Compiles, End, Input, Request};
use peitho::config::ByTenant;
use peitho::container::{Containers, Policy};
use peitho::delivery::{self, Counters, Delivery};
use peitho::image::Images;
use peitho::listener::{self, Drain};
use peitho::names::{Digest, ImageName, Tenant};
use peitho::registry::{self, Registries};
use peitho::store::Blob;
use testbed::Assets;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bodies::tar;
use crate::conformance::{Machine, grants};
use crate::conformance_cases::Subject as _;
use crate::conformance_cases::subject::BASE;
use crate::runs::{end, log};
use crate::warmth::request;

/// For a compiler that begins with nothing, on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// A Peitho, as far as compiles go. It ends with the test.
struct Peitho {
    machine: Machine,
    compiles: Compiles,
}

impl Peitho {
    async fn start() -> Self {
        let program = tokio::task::spawn_blocking(testbed::peitho::program).await;
        let machine = Machine::running(program.unwrap().unwrap()).await;
        let (runtime, store) = (machine.runtime(), machine.store().clone());
        let compiles = Compiles::new(
            compile::Settings {
                parallel: 4,
                parallel_of_tenant: None.into(),
                timeout: LONG,
                install_timeout: LONG,
                abandon_grace: LONG,
                env: BTreeMap::new(),
                surroundings: ByTenant::default(),
                cache: Some(1 << 30),
            },
            Arc::clone(&runtime),
            store.clone(),
            TaskTracker::new(),
        );
        let registries = Registries::new(&[], store.clone()).await.unwrap();
        let images = Images::new(store.clone(), registries);
        let policy = Policy::default();
        let containers = Containers::new(
            images.clone(),
            compiles.clone(),
            runtime,
            store.clone(),
            policy,
        );
        let router = delivery::router(Delivery {
            store,
            images,
            compiles: compiles.clone(),
            grants: grants(),
            containers,
            counters: Arc::<Counters>::default(),
        });
        let place = &machine.delivery;
        let tls = delivery::tls::server_config(&place.certificate, &place.key, &[place.url()]);
        let bound = listener::bind(place.address).await.unwrap();
        let drain = Drain {
            stop: CancellationToken::new(),
            grace: Duration::ZERO,
        };
        tokio::spawn(listener::serve(bound, Some(tls.unwrap()), router, drain));
        Self { machine, compiles }
    }

    /// Runs `script` in `image` for `tenant` to its end: its log, and how it ended.
    async fn compiled(
        &self,
        tenant: &str,
        image: &str,
        script: &str,
        source: Option<&[u8]>,
    ) -> (String, End) {
        let input = match source {
            Some(source) => {
                let mut archive = self.machine.store().ingest().await.unwrap();
                archive.append(source).await.unwrap();
                Some(Input {
                    archive: archive.into(),
                    content: Digest::of(source),
                })
            }
            None => None,
        };
        let request = Request {
            tenant: tenant.parse().unwrap(),
            builder: Some(Digest::of(image.as_bytes())),
            input,
            ..request(&image.parse().unwrap(), script)
        };
        let run = self.compiles.run(request).await.unwrap();
        let told = timeout(LONG, async { (log(&run).await, end(&run).await) });
        told.await.expect("a compile takes too long")
    }

    /// The only file of an output.
    async fn program(&self, output: &Blob) -> Vec<u8> {
        let opened = self.machine.store().open_blob(&output.digest).await;
        let mut archive = tar::Archive::new(opened.unwrap().unwrap().0);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut program = Vec::new();
        let mut file = entries
            .find(|entry| entry.header().entry_type().is_file())
            .unwrap();
        file.read_to_end(&mut program).unwrap();
        program
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_compiler_keeps_is_there_the_next_time() {
    let peitho = Peitho::start().await;
    let image: ImageName = BASE.parse().unwrap();
    crate::warmth::is_there_the_next_time(&peitho.compiles, &image).await;
}

/// Here the agent is the first process of its container.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_left_running_is_over_before_its_cache_is_packed() {
    let peitho = Peitho::start().await;
    let daemon = "cd $XDG_CACHE_HOME && setsid sh -c 'trap \"\" TERM HUP; while :; do echo more >>daemon; done' >/dev/null 2>&1 & \
                  cd $XDG_CACHE_HOME; until test -s daemon; do :; done; echo told; exit 3";
    let exited = |code| End::Exited { code, output: None };
    let (log, end) = peitho.compiled("default", BASE, daemon, None).await;
    assert_eq!((log.as_str(), end), ("told\n", exited(3)));
    // The same again waits for what that one brings back; what was written to while it was packed would have been left out.
    let (log, end) = peitho.compiled("default", BASE, daemon, None).await;
    assert_eq!((log.as_str(), end), ("told\n", exited(3)));
    let look = "cd $XDG_CACHE_HOME && test -s daemon && tail -n 1 daemon; exit 4";
    let (log, end) = peitho.compiled("default", BASE, look, None).await;
    assert_eq!((log.as_str(), end), ("more\n", exited(4)));
}

/// Go's own compiler, and a tenant that replaces in its cache what the compiler kept of a package.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_cache_changes_no_program_of_another_tenant() {
    const BUILD: &str = "cd /chaincode/input/src && GO111MODULE=on go build -mod=vendor -o /chaincode/output/chaincode .";
    // What would be compiled of another source is put where the compiler looks for this one's.
    const POISON: &str = "set -e; cd /chaincode/input/src; export GO111MODULE=on
        go build -o /chaincode/output/chaincode .
        kept() { go list -export -f '{{.Export}}' ./word; }
        sound=$(kept); sed -i s/sound/venom/ word/word.go; venom=$(kept)
        test \"$sound\" != \"$venom\"; cp -f \"$venom\" \"$sound\"; echo poisoned";
    let peitho = Peitho::start().await;
    let assets = tokio::task::spawn_blocking(|| Assets::open().unwrap().images().unwrap());
    let builder = assets.await.unwrap().builder;
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("builder.tar");
    builder.save(&archive).unwrap();
    let archive = File::open(archive).unwrap();
    let imported = registry::import(peitho.machine.store(), archive, None).await;
    let image = imported.unwrap().remove(0).0.to_string();
    let source = tar(&[
        ("src/go.mod", b"module example.com/chaincode\n\ngo 1.21\n"),
        (
            "src/main.go",
            b"package main\n\nimport \"example.com/chaincode/word\"\n\nfunc main() { println(word.Word) }\n",
        ),
        (
            "src/word/word.go",
            b"package word\n\nvar Word = \"sound\"\n",
        ),
    ]);
    let built = async |tenant: &str, command: &str| {
        let (log, end) = (peitho.compiled(tenant, &image, command, Some(&source))).await;
        match end {
            End::Exited {
                code: 0,
                output: Some(output),
            } => peitho.program(&output).await,
            end => panic!("{tenant}: {end:?}: {log}"),
        }
    };
    let says = |program: &[u8], word: &str| {
        let word = word.as_bytes();
        program.windows(word.len()).any(|bytes| bytes == word)
    };
    // Nobody else was here yet.
    let clean = built("before", BUILD).await;
    assert!(says(&clean, "sound") && !says(&clean, "venom"));

    let (log, end) = peitho.compiled("a", &image, POISON, Some(&source)).await;
    assert!(log.ends_with("poisoned\n"), "{end:?}: {log}");
    kept(&peitho, "a").await;
    let own = built("a", BUILD).await;
    assert!(says(&own, "venom") && !says(&own, "sound"));

    assert!(built("b", BUILD).await == clean, "B's is another one");
    // And of what it kept itself: another command is another compile.
    kept(&peitho, "b").await;
    let warm = built("b", &format!("{BUILD} && true")).await;
    assert!(warm == clean, "B's second one is another one");
}

/// Until `tenant` has something in the store that its compilers kept.
async fn kept(peitho: &Peitho, tenant: &str) {
    let tenant: Tenant = tenant.parse().unwrap();
    let is_kept = async {
        let kind = peitho::store::RefKind::Cache;
        while (peitho.machine.store().list_refs(kind, &tenant).await)
            .unwrap()
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, is_kept).await.expect("nothing is kept");
}
