//! What compilers keep from one compile to the next: shell scripts that write where `XDG_CACHE_HOME` would be, and look for it the
//! next time. Each compile has a directory of its own there, as each container has.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::get;
use peitho::agent::compile::{Args, run};
use peitho::agent::place;
use peitho::archive::MAGIC;
use peitho::compile::{End, Run};
use peitho::grant::Grant;
use peitho::names::{CompileKey, Digest, Tenant};
use peitho::store::{Blob, RefKind};
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::compile::{args, end, gate, members, open, whole_log};
use crate::once::once;
use crate::world::{Server, World, any_port, names, tar};

mod ahead;
mod bounded;
mod damaged;
mod doubted;
mod full;
mod restarts;
mod taken;
mod trouble;

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A world with its server.
struct Place {
    world: World,
    server: Server,
}

/// What came of a compile.
struct Compiled {
    code: u8,
    log: String,
    end: End,
    /// Its own directory for caches.
    cache: PathBuf,
}

impl Place {
    async fn new() -> Self {
        Self::keeping(Some(1 << 30)).await
    }

    async fn keeping(cache: Option<u64>) -> Self {
        Self::of(World::keeping(cache).await).await
    }

    async fn of(world: World) -> Self {
        let server = world.serve(any_port()).await;
        Self { world, server }
    }

    /// A new compile of `tenant`, and its agent's arguments. No two have the same input.
    async fn begun(&mut self, tenant: &str, script: &str) -> (Args, Run) {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let source = tar(&[("number", 0o644, number.as_bytes())]);
        let builder = Some(Digest::of(b"builder"));
        let tenant: Tenant = tenant.parse().unwrap();
        let (key, run) = self.world.ordered(&tenant, builder, Some(&source)).await;
        (self.args(key, script, &number), run)
    }

    fn args(&self, key: CompileKey, script: &str, number: &str) -> Args {
        let home = self.world.scratch(&format!("home-{number}"));
        let output = self.world.scratch(&format!("output-{number}"));
        let cache = home.join(".cache");
        let script = script
            .replace("CACHE", cache.to_str().unwrap())
            .replace("OUTPUT", output.to_str().unwrap());
        let place = place::Place {
            address: self.server.url.clone(),
            credentials: self.credentials(key, number),
            spool: self.world.scratch(&format!("spool-{number}")),
            input: self.world.scratch(&format!("input-{number}")),
            output,
            cache,
        };
        Args {
            place,
            ..args(&self.world, &self.server, key, &script)
        }
    }

    /// Of its own: several run at once.
    fn credentials(&self, key: CompileKey, number: &str) -> PathBuf {
        let shared = self.world.credentials(&Grant::Compile { key });
        let own = self.world.scratch(&format!("credentials-{number}"));
        for name in ["token", "ca.crt"] {
            fs::copy(shared.join(name), own.join(name)).unwrap();
        }
        own
    }

    /// A server that wants all of each cache, `most` bytes of it, which may be larger, and does with it what `taking` does.
    async fn serve_wanting_all<T: 'static, H: axum::handler::Handler<T, ()>>(
        &self,
        most: u64,
        taking: H,
    ) -> Server {
        let plan = move || async move {
            let plan = serde_json::json!({"parts": [], "give": "whole", "most": 1 << 30, "giveMost": most, "patienceMs": 5000});
            plan.to_string()
        };
        let spoilt = Router::new().route("/compile/{key}/cache", get(plan).put(taking));
        let router = spoilt.fallback_service(self.world.router().await);
        self.world.serve_as(any_port(), router).await
    }

    /// One that takes nothing of it, and the moment at which somebody tries to bring it.
    async fn serve_without_taking(&self) -> (Server, Arc<Notify>) {
        let begun = Arc::new(Notify::new());
        let told = Arc::clone(&begun);
        let never = move || {
            told.notify_one();
            std::future::pending::<http::StatusCode>()
        };
        (self.serve_wanting_all(1 << 20, never).await, begun)
    }

    async fn compile(&mut self, script: &str) -> Compiled {
        self.compile_of("default", script).await
    }

    async fn compile_of(&mut self, tenant: &str, script: &str) -> Compiled {
        let (args, asked) = self.begun(tenant, script).await;
        finished(args, asked).await
    }

    /// One more run of the compile of this source, which failed until now.
    async fn again(&mut self, source: &[u8], script: &str) -> Compiled {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let builder = Some(Digest::of(b"builder"));
        let tenant = Tenant::default_tenant();
        let (key, asked) = self.world.ordered(&tenant, builder, Some(source)).await;
        finished(self.args(key, script, &number), asked).await
    }

    /// The increments that `tenant` has.
    async fn increments(&self, tenant: &str) -> Vec<String> {
        let tenant: Tenant = tenant.parse().unwrap();
        let listed = self.world.store.list_refs(RefKind::Cache, &tenant).await;
        listed.unwrap()
    }

    /// Until there is nothing of it any more: the run's end is told before.
    async fn has_lost_it(&self) {
        let lost = async || self.increments("default").await.is_empty().then_some(());
        once("the store has nothing of the cache", lost).await;
    }

    /// The only increment there is.
    async fn increment(&self) -> Blob {
        let [name] = &self.increments("default").await[..] else {
            panic!("{:?}", self.increments("default").await);
        };
        let tenant = Tenant::default_tenant();
        let kept = self.world.store.get_ref(RefKind::Cache, &tenant, name);
        let kept: serde_json::Value = kept.await.unwrap().unwrap();
        serde_json::from_value(kept["blob"].clone()).unwrap()
    }

    /// What each increment says that it saves.
    async fn worth(&self) -> Vec<Option<u64>> {
        let tenant = Tenant::default_tenant();
        let mut worth = Vec::new();
        for name in self.increments("default").await {
            let kept = self.world.store.get_ref(RefKind::Cache, &tenant, &name);
            let kept: serde_json::Value = kept.await.unwrap().unwrap();
            worth.push(kept["worth"].as_u64());
        }
        worth
    }

    fn sent(&self) -> u64 {
        self.world.counters.cache_bytes()
    }

    fn gained(&self) -> u64 {
        self.world.counters.gained_bytes()
    }
}

async fn finished(args: Args, asked: Run) -> Compiled {
    let cache = args.place.cache.clone();
    let code = run(args, CancellationToken::new()).await.unwrap();
    Compiled {
        code,
        log: whole_log(&asked).await,
        end: end(&asked).await,
        cache,
    }
}

fn noise(bytes: usize) -> String {
    format!("head -c {bytes} /dev/urandom")
}

#[tokio::test]
async fn the_next_compile_finds_what_the_last_one_kept_as_it_was() {
    let mut place = Place::new().await;
    let script = format!(
        "mkdir -p CACHE/go/a/b CACHE/empty; chmod 750 CACHE/empty; {} >CACHE/go/a/b/large; echo tool >CACHE/go/tool; \
         chmod 755 CACHE/go/tool; chmod 444 CACHE/go/a/b/large; ln -s ../go/tool CACHE/go/link; ln -s /etc/passwd CACHE/go/out; \
         touch -d @1000000000 CACHE/go/tool; mkfifo CACHE/fifo; echo $(printf x%.0s $(seq 150)) >CACHE/$(printf y%.0s $(seq 150))",
        noise(200_000)
    );
    let first = place.compile(&script).await;
    assert_eq!((first.code, first.log.as_str()), (0, ""));
    assert_eq!(place.sent(), 0, "there was nothing yet");
    let gained = place.gained();
    assert!(gained > 200_000, "{gained}");

    let second = place
        .compile("test -x CACHE/go/tool && cat CACHE/go/link; ls CACHE")
        .await;
    let expected = format!("tool\nempty\ngo\n{}\n", "y".repeat(150));
    assert_eq!((second.code, second.log), (0, expected));
    let (was, is) = (first.cache, second.cache);
    for path in ["empty", "go/a/b/large", "go/tool"] {
        let stat = |root: &Path| {
            let stat = fs::metadata(root.join(path)).unwrap();
            (
                stat.mode(),
                stat.len() * u64::from(stat.is_file()),
                stat.is_dir() as i64 + stat.mtime(),
            )
        };
        let (was, is) = (stat(&was), stat(&is));
        assert_eq!(was.0, is.0, "{path}");
        assert_eq!(was.1, is.1, "{path}");
        if path != "empty" {
            assert_eq!(was.2, is.2, "{path}");
        }
    }
    let large = |root: &Path| fs::read(root.join("go/a/b/large")).unwrap();
    assert_eq!(large(&was), large(&is));
    assert_eq!(
        fs::read_link(is.join("go/out")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(place.sent(), gained);
    assert_eq!(place.gained(), gained, "the second one kept nothing new");
    assert_eq!(place.increments("default").await.len(), 1);
}

/// Compilers note what they use by its time; that alone is nothing new.
#[tokio::test]
async fn what_is_new_travels_and_nothing_else() {
    let mut place = Place::new().await;
    let script = format!("mkdir -p CACHE/go; {} >CACHE/go/large", noise(500_000));
    place.compile(&script).await;
    let first = place.gained();
    place
        .compile(
            "touch CACHE/go/large; mkdir CACHE/new; echo new >CACHE/new/file; touch CACHE/go/large",
        )
        .await;
    let second = place.gained() - first;
    assert!((1..5_000).contains(&second), "{second}");
    let before = place.gained();
    let third = place
        .compile("cat CACHE/new/file; wc -c <CACHE/go/large; echo old >CACHE/new/file")
        .await;
    assert_eq!(third.log, "new\n500000\n");
    assert!((1..5_000).contains(&(place.gained() - before)));
    // A file in the place of a directory cannot be laid over it: all of it comes again.
    let before = place.gained();
    let fourth = place
        .compile("cat CACHE/new/file; rm -r CACHE/new; echo file >CACHE/new")
        .await;
    assert_eq!(fourth.log, "old\n");
    assert!(place.gained() - before > 500_000);
    assert_eq!(place.increments("default").await.len(), 1);
    let fifth = place.compile("cat CACHE/new; wc -c <CACHE/go/large").await;
    assert_eq!(fifth.log, "file\n500000\n");
}

#[tokio::test]
async fn compiles_at_the_same_time_all_add_to_it() {
    let mut place = Place::new().await;
    place.compile("mkdir CACHE/all; echo 0 >CACHE/all/0").await;
    let mut begun = Vec::new();
    for number in 1..=4 {
        let script = format!("cat CACHE/all/0; echo {number} >CACHE/all/{number}");
        begun.push(place.begun("default", &script).await);
    }
    let running = begun.into_iter().map(|(args, asked)| finished(args, asked));
    for compiled in futures::future::join_all(running).await {
        assert_eq!((compiled.code, compiled.log.as_str()), (0, "0\n"));
    }
    let all = place.compile("cat CACHE/all/*").await;
    assert_eq!(all.log, "0\n1\n2\n3\n4\n");
}

/// Those that begin before there is anything each keep all they have; the next one makes one of them.
#[tokio::test]
async fn first_compiles_at_the_same_time_become_one_cache() {
    let mut place = Place::new().await;
    let one = place.begun("default", "echo one >CACHE/one").await;
    let two = place.begun("default", "echo two >CACHE/two").await;
    let both = tokio::join!(finished(one.0, one.1), finished(two.0, two.1));
    assert_eq!((both.0.code, both.1.code), (0, 0));
    assert_eq!(place.increments("default").await.len(), 2);
    assert_eq!(place.compile("cat CACHE/*").await.log, "one\ntwo\n");
    assert_eq!(place.increments("default").await.len(), 1);
    assert_eq!(place.compile("cat CACHE/*").await.log, "one\ntwo\n");
}

#[tokio::test]
async fn many_increments_become_one_again() {
    let mut place = Place::new().await;
    for number in 0..20 {
        let compiled = place
            .compile(&format!("echo {number} >CACHE/$(printf %02d {number})"))
            .await;
        assert_eq!(compiled.code, 0);
        let expected = match number {
            0..=15 => number + 1,
            _ => number - 15,
        };
        assert_eq!(
            place.increments("default").await.len(),
            expected,
            "{number}"
        );
    }
    let all: String = (0..20).map(|number| format!("{number}\n")).collect();
    assert_eq!(place.compile("cat CACHE/*").await.log, all);
}

#[tokio::test]
async fn beyond_its_size_what_was_not_changed_for_the_longest_time_is_left_out() {
    let mut place = Place::keeping(Some(1 << 20)).await;
    for number in 0..12 {
        let script = format!(
            "{} >CACHE/{number}; touch -d @{} CACHE/{number}",
            noise(100_000),
            1_000_000 + number
        );
        assert_eq!(place.compile(&script).await.code, 0);
    }
    let left = place.compile("ls CACHE | sort -n").await;
    let numbers: Vec<u32> = left.log.lines().map(|it| it.parse().unwrap()).collect();
    assert_eq!(numbers.last(), Some(&11));
    assert!((8..12).contains(&numbers.len()), "{numbers:?}");
    let in_order: Vec<u32> = (12 - numbers.len() as u32..12).collect();
    assert_eq!(numbers, in_order);
}

/// One that is larger than all that is kept costs nothing but what it does not fit.
#[tokio::test]
async fn what_is_larger_than_the_whole_is_not_kept() {
    let mut place = Place::keeping(Some(1 << 20)).await;
    let script = format!("{} >CACHE/large; echo small >CACHE/small", noise(2_000_000));
    assert_eq!(place.compile(&script).await.code, 0);
    assert_eq!(place.compile("ls CACHE").await.log, "small\n");
}

/// For who wonders what a part is.
#[tokio::test]
async fn a_part_is_an_ordinary_archive_after_its_first_bytes() {
    let mut place = Place::new().await;
    place.compile("echo x >CACHE/x; chmod 640 CACHE/x").await;
    let blob = place.increment().await;
    let (mut file, _) = place
        .world
        .store
        .open_blob(&blob.digest)
        .await
        .unwrap()
        .unwrap();
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).unwrap();
    assert_eq!(magic, MAGIC);
    let mut archive = tar::Archive::new(lz4_flex::frame::FrameDecoder::new(file));
    let mut entries = archive.entries().unwrap();
    let entry = entries.next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap(), Path::new("x"));
    assert_eq!(entry.header().mode().unwrap(), 0o640);
    let mtime = Duration::from_secs(entry.header().mtime().unwrap());
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + mtime);
    assert!(age.unwrap() < Duration::from_secs(600));
    assert!(entries.next().is_none());
    assert_eq!(fs::Permissions::from_mode(0o640).mode(), 0o640);
}
