//! How large a cache may be: less where it gave trouble, or where the compile's disk has a limit. Its agent is played by hand, to say what one on a
//! slow or small node would.

use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::trouble::lz4;
use super::*;

/// What an agent says of its cache, and what it brings.
struct Said {
    fared: &'static str,
    fetch_ms: u64,
    extent: &'static str,
    body: Vec<u8>,
}

const LATE: Said = Said {
    fared: "late",
    fetch_ms: 5001,
    extent: "new",
    body: Vec::new(),
};

fn whole_after(fetch_ms: u64) -> Said {
    Said {
        fared: "warm",
        fetch_ms,
        extent: "whole",
        body: lz4(&tar(&[("half", 0o644, b"half")])),
    }
}

impl Place {
    /// The plan of a new compile, and its agent's arguments.
    async fn planned(&mut self) -> (Args, Run, Value) {
        let (args, asked) = self.begun("default", "true").await;
        let path = format!("compile/{}/cache", args.key);
        let plan = self.get(&args, &path).await;
        (args, asked, plan)
    }

    /// The plan of a new compile, which ends with `code`, and what follows from that is done.
    async fn ended(&mut self, code: i64) -> Value {
        let nothing = Said {
            fared: "warm",
            fetch_ms: 0,
            extent: "new",
            body: Vec::new(),
        };
        self.told_after(code, nothing).await.0
    }

    /// The plan of a new compile, whose agent then says that; and the status of the answer to it.
    async fn told(&mut self, said: Said) -> (Value, u16) {
        self.told_after(0, said).await
    }

    async fn told_after(&mut self, code: i64, said: Said) -> (Value, u16) {
        let (args, _asked, plan) = self.planned().await;
        self.exit(&args, code).await;
        let Said {
            fared,
            fetch_ms,
            extent,
            body,
        } = said;
        let key = args.key;
        let put = format!("compile/{key}/cache?fared={fared}&fetchMs={fetch_ms}&extent={extent}");
        let status = self.ask("PUT", &args, &put, body).await;
        (plan, status)
    }

    async fn exit(&self, args: &Args, code: i64) {
        self.report(args, serde_json::json!({"code": code})).await;
    }

    async fn report(&self, args: &Args, report: Value) {
        let exit = format!("compile/{}/exit", args.key);
        let report = report.to_string().into_bytes();
        assert_eq!(self.ask("PUT", args, &exit, report).await, 204);
    }

    /// The plan of a new compile, which fails for want of that, and what follows from that is done.
    async fn lacking(&mut self, lack: &str) -> Value {
        let (args, _asked, plan) = self.planned().await;
        let report = serde_json::json!({"code": 1, "lack": lack});
        self.report(&args, report).await;
        let put = format!("compile/{}/cache?fared=warm&fetchMs=0&extent=new", args.key);
        assert_eq!(self.ask("PUT", &args, &put, Vec::new()).await, 204);
        plan
    }

    /// Begins the cache anew with that.
    async fn begins(&mut self, content: &[u8]) -> Value {
        let (args, _asked, plan) = self.planned().await;
        self.exit(&args, 0).await;
        let put = format!(
            "compile/{}/cache?fared=cold&fetchMs=0&extent=whole",
            args.key
        );
        let part = lz4(&tar(&[("x", 0o644, content)]));
        assert_eq!(self.ask("PUT", &args, &put, part).await, 204);
        plan
    }
}

fn asks_for(plan: &Value) -> (&str, u64, u64) {
    let number = |name: &str| plan[name].as_u64().unwrap();
    let give = plan["give"].as_str().unwrap();
    (give, number("giveMost"), number("patienceMs"))
}

const ALL: u64 = 1 << 30;

/// Of what is small no half is made.
const LEAST: u64 = 64 << 20;

#[tokio::test]
async fn of_what_came_too_late_half_is_asked_for() {
    let mut place = Place::new().await;
    place
        .compile(&format!("{} >CACHE/large", noise(100_000)))
        .await;
    let (plan, status) = place.told(LATE).await;
    assert_eq!((asks_for(&plan), status), (("new", ALL, 5000), 204));
    let rows = place.increments("default").await;

    // It was something passing.
    let (plan, status) = place.told(whole_after(100)).await;
    assert_eq!((asks_for(&plan), status), (("whole", LEAST, 10_000), 409));
    assert_eq!(plan["most"], ALL, "what there is may be unpacked");
    assert_eq!(place.increments("default").await, rows);
    place.told(LATE).await;

    let (plan, status) = place.told(whole_after(7000)).await;
    assert_eq!((asks_for(&plan), status), (("whole", LEAST, 10_000), 204));
    let half = place.increments("default").await;
    assert!(half.len() == 1 && half != rows);

    // And when that is late too, it goes.
    let (plan, status) = place.told(LATE).await;
    assert_eq!((asks_for(&plan), status), (("new", LEAST, 5000), 204));
    assert_eq!(place.increments("default").await, [""; 0]);
    let plan = place.ended(0).await;
    assert_eq!(asks_for(&plan), ("whole", LEAST, 5000), "it stays as small");
}

/// It says that it has nothing, or what it brings breaks off.
#[tokio::test]
async fn what_is_slow_for_two_that_bring_no_half_of_it_goes() {
    let mut place = Place::new().await;
    place.begins(b"x").await;
    place.told(LATE).await;
    for (body, answer) in [(Vec::new(), 204), (b"no cache".to_vec(), 400)] {
        assert_eq!(place.increments("default").await.len(), 1);
        let said = Said {
            body,
            ..whole_after(7000)
        };
        let (plan, status) = place.told(said).await;
        let asked = ("whole", LEAST, 10_000);
        assert_eq!((asks_for(&plan), status), (asked, answer));
    }
    place.has_lost_it().await;
    let plan = place.ended(0).await;
    assert_eq!(plan["parts"].as_array().unwrap().len(), 0);
    assert_eq!(plan["patienceMs"], 5000);
    assert_eq!(plan["give"], Value::Null, "the last one did not bring it");
}

/// For some runs, since the last one that was asked did not bring it.
#[tokio::test]
async fn who_is_not_asked_for_half_does_not_wait_longer() {
    let mut place = Place::new().await;
    place.begins(b"x").await;
    place.told(LATE).await;
    let source = tar(&[("again", 0o644, b"")]);
    let (tenant, builder) = (Tenant::default_tenant(), Some(Digest::of(b"builder")));
    let lost = place.world.cluster.lost();
    let (key, _asked) = place.world.ordered(&tenant, builder, Some(&source)).await;
    let args = place.args(key, "true", "again");
    let path = format!("compile/{key}/cache");
    let plan = place.get(&args, &path).await;
    assert_eq!(asks_for(&plan), ("whole", LEAST, 10_000));
    place.exit(&args, 1).await;
    lost.send(()).unwrap();
    // The next run of it begins when that one is gone.
    place.world.ordered(&tenant, builder, Some(&source)).await;
    let plan = place.get(&args, &path).await;
    assert_eq!(plan["parts"].as_array().unwrap().len(), 1);
    assert_eq!(plan["give"], Value::Null);
    assert_eq!(plan["patienceMs"], 5000);
}

#[tokio::test]
async fn what_a_run_had_no_room_for_may_be_half_as_large_the_next_time() {
    let mut place = Place::new().await;
    place.compile("echo kept >CACHE/kept").await;
    assert_eq!(asks_for(&place.lacking("room").await), ("new", ALL, 5000));
    assert_eq!(place.increments("default").await, [""; 0]);
    // That one had nothing which took its room.
    let half = ("whole", ALL / 2, 5000);
    assert_eq!(asks_for(&place.lacking("room").await), half);
    assert_eq!(asks_for(&place.begins(b"x").await), half);

    let evicted = place.world.cluster.evicted();
    let (_args, asked, _plan) = place.planned().await;
    evicted.send(()).unwrap();
    let ended = end(&asked).await;
    assert_eq!(ended, End::Failed("no room".into()));
    place.has_lost_it().await;
    assert_eq!(asks_for(&place.ended(0).await), ("whole", ALL / 4, 5000));
}

/// A node that was drained, for one.
#[tokio::test]
async fn what_a_run_died_of_otherwise_may_be_as_large_again() {
    let mut place = Place::new().await;
    let as_before = ("whole", ALL, 5000);
    assert_eq!(asks_for(&place.begins(b"x").await), as_before);
    assert_eq!(asks_for(&place.ended(137).await).1, ALL);
    assert_eq!(place.increments("default").await, [""; 0]);
    assert_eq!(asks_for(&place.begins(b"x").await), as_before);
    assert_eq!(asks_for(&place.lacking("memory").await).1, ALL);
    assert_eq!(place.increments("default").await, [""; 0]);
    assert_eq!(asks_for(&place.begins(b"x").await), as_before);
    let lost = place.world.cluster.lost();
    let (_args, asked, _plan) = place.planned().await;
    lost.send(()).unwrap();
    assert!(matches!(end(&asked).await, End::Failed(_)));
    place.has_lost_it().await;
    assert_eq!(asks_for(&place.ended(0).await), as_before);
}

#[tokio::test]
async fn what_runs_bear_may_be_larger_again() {
    const MOST: u64 = 2 * LEAST;
    let mut place = Place::keeping(Some(MOST)).await;
    place.begins(b"x").await;
    place.lacking("room").await;
    let mut noise = vec![0; LEAST as usize / 4];
    rand::fill(&mut noise[..]);
    assert_eq!(asks_for(&place.begins(&noise).await).1, LEAST);
    // An ordinary end is also that of a compile that fails.
    for code in [0, 0, 1, 0, 0, 1, 0, 0] {
        assert_eq!(asks_for(&place.ended(code).await).1, LEAST);
    }
    assert_eq!(asks_for(&place.ended(0).await).1, MOST);
}

#[tokio::test]
async fn a_compile_with_little_disk_has_a_small_cache() {
    let mut place = Place::new().await;
    for (limit, most) in [(4 << 30, ALL), (200 << 20, 100 << 20)] {
        *place.world.cluster.disk.lock().unwrap() = Some(limit);
        let plan = place.ended(0).await;
        assert_eq!(asks_for(&plan), ("whole", most, 5000));
        assert_eq!(plan["most"], most);
    }
}

/// The agent's part.
#[tokio::test]
async fn an_agent_brings_no_more_than_it_is_asked_for() {
    const MOST: usize = 100_000;
    let mut place = Place::new().await;
    let brought = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&brought);
    let taking = move |body: Body| async move {
        let bytes = body.collect().await.unwrap().to_bytes().len();
        counted.store(bytes, Ordering::SeqCst);
        http::StatusCode::NO_CONTENT
    };
    let server = place.serve_wanting_all(MOST as u64, taking).await;
    let large = noise(80_000);
    let script = format!("{large} >CACHE/a; {large} >CACHE/b");
    let (mut args, asked) = place.begun("default", &script).await;
    args.place.address = server.url.clone();
    assert_eq!(finished(args, asked).await.code, 0);
    let brought = brought.load(Ordering::SeqCst);
    assert!((80_000..=MOST).contains(&brought), "{brought}");
}
