//! `agent fetch` over lines that break: a real server behind them, and between the two now and then something that changes
//! what passes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Router, middleware};
use http::{StatusCode, header};
use peitho::agent::fetch::{Args, Bounds, Error, run_within};
use peitho::store::Blob;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::builds::noise;
use crate::world::{World, any_port, tar};

/// Bytes of the layer's file.
const LENGTH: usize = 2_000_000;

/// How long a connection lasts.
#[derive(Clone, Copy)]
struct Cuts {
    /// So many connections break.
    first: usize,
    /// After so many bytes of answers.
    after: u64,
    by: By,
}

/// How a connection breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Closing,
    /// It stays open, and nothing comes.
    Silence,
}

/// Enough for any machine, and silence is noticed soon.
const BOUNDS: Bounds = Bounds {
    patience: Duration::from_secs(60),
    silence: Duration::from_secs(1),
};

/// A line to the server, which breaks.
struct Line {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    answered: AtomicU64,
}

impl Line {
    async fn to(server: SocketAddr, cuts: Cuts) -> Self {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::<Counts>::default();
        let counting = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(server).await.unwrap();
                let number = counting.connections.fetch_add(1, Ordering::Relaxed);
                let after = if number < cuts.first {
                    cuts.after
                } else {
                    u64::MAX
                };
                tokio::spawn(carry(near, far, (after, cuts.by), Arc::clone(&counting)));
            }
        });
        Self { address, counts }
    }

    fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }
}

async fn carry(near: TcpStream, far: TcpStream, (after, by): (u64, By), counts: Arc<Counts>) {
    let (mut from_near, mut to_near) = near.into_split();
    let (from_far, mut to_far) = far.into_split();
    let down = async {
        let mut answers = from_far.take(after);
        let mut piece = vec![0; 16 << 10];
        while let Ok(n @ 1..) = answers.read(&mut piece).await {
            counts.answered.fetch_add(n as u64, Ordering::Relaxed);
            if to_near.write_all(&piece[..n]).await.is_err() {
                break;
            }
        }
        if by == By::Silence && answers.limit() == 0 {
            std::future::pending::<()>().await;
        }
    };
    // The end of either is that of both.
    tokio::select! {
        _ = tokio::io::copy(&mut from_near, &mut to_far) => {}
        () = down => {}
    }
}

struct Case {
    world: World,
    blob: Blob,
    content: Vec<u8>,
    args: Args,
}

/// A container with a layer of one large file.
async fn case() -> Case {
    let world = World::new().await;
    let content = noise("layer", LENGTH);
    let blob = world
        .blob(&tar(&[("bin/chaincode", 0o755, &content)]))
        .await;
    let credentials = world.credentials(&world.container(blob));
    let args = Args {
        address: String::new(),
        digest: blob.digest,
        into: world.scratch("volume"),
        strip: PathBuf::from("/bin"),
        expect: vec!["chaincode".to_owned()],
        credentials,
    };
    Case {
        world,
        blob,
        content,
        args,
    }
}

impl Case {
    /// Fetches by a line that breaks, from a server changed by `change`.
    async fn fetch(
        self,
        cuts: Cuts,
        change: impl FnOnce(Router) -> Router,
    ) -> (Result<(), Error>, Line, World) {
        self.fetch_within(BOUNDS, cuts, change).await
    }

    async fn fetch_within(
        self,
        bounds: Bounds,
        cuts: Cuts,
        change: impl FnOnce(Router) -> Router,
    ) -> (Result<(), Error>, Line, World) {
        let Self {
            world,
            content,
            args,
            ..
        } = self;
        let router = change(world.router().await);
        let server = world.serve_as(any_port(), router).await;
        let line = Line::to(server.address, cuts).await;
        let volume = args.into.clone();
        let args = Args {
            address: format!("https://{}", line.address),
            ..args
        };
        let fetched = run_within(args, bounds).await;
        if fetched.is_ok() {
            assert!(std::fs::read(volume.join("chaincode")).unwrap() == content);
        } else {
            assert!(!volume.join("chaincode").exists());
        }
        (fetched, line, world)
    }
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    let case = case().await;
    let size = case.blob.size;
    let cuts = Cuts {
        first: usize::MAX,
        after: 300_000,
        by: By::Closing,
    };
    let (fetched, line, world) = case.fetch(cuts, |router| router).await;
    fetched.unwrap();
    assert!(line.connections() > 6, "{}", line.connections());
    // What was there was not sent again: the rest is of TLS and of what was under way in a cut.
    let answered = line.answered();
    assert!(
        answered < size + size / 5,
        "{answered} bytes for a layer of {size}"
    );
    assert_eq!(world.counters.layers() as usize, line.connections());
}

#[tokio::test]
async fn a_line_that_falls_silent_is_left_and_another_goes_on() {
    let case = case().await;
    let size = case.blob.size;
    let cuts = Cuts {
        by: By::Silence,
        ..ONE_CUT
    };
    let (fetched, line, _) = case.fetch(cuts, |router| router).await;
    fetched.unwrap();
    assert_eq!(line.connections(), 2);
    assert!(line.answered() < size + size / 5, "{}", line.answered());
}

#[tokio::test]
async fn a_line_that_brings_hardly_anything_is_given_up_with_the_reason() {
    let bounds = Bounds {
        patience: Duration::from_secs(1),
        ..BOUNDS
    };
    // The same bytes again and again, or a few more each time.
    for (after, ranges) in [(300_000, false), (20_000, true)] {
        let case = case().await;
        let cuts = Cuts {
            first: usize::MAX,
            after,
            by: By::Closing,
        };
        let change = |router: Router| match ranges {
            true => router,
            false => router.layer(from_fn(without_ranges)),
        };
        let (fetched, line, _) = case.fetch_within(bounds, cuts, change).await;
        let error = fetched.unwrap_err();
        assert!(matches!(error, Error::Client(_)), "{error}");
        assert!(
            error.to_string().contains("/v2/layer/blobs/sha256:"),
            "{error}"
        );
        // With pauses between, which grow.
        let connections = line.connections();
        assert!(connections <= 6, "{connections}");
    }
}

/// Leaves the wish for a part out, as some proxies do.
async fn without_ranges(mut request: Request, next: Next) -> Response {
    request.headers_mut().remove(header::RANGE);
    next.run(request).await
}

#[tokio::test]
async fn where_there_are_no_parts_all_of_it_is_taken_again() {
    let cuts = Cuts {
        first: 2,
        after: 300_000,
        by: By::Closing,
    };
    let case = case().await;
    let (fetched, line, _) = case
        .fetch(cuts, |router| router.layer(from_fn(without_ranges)))
        .await;
    fetched.unwrap();
    assert_eq!(line.connections(), 3);
}

/// Answers the first `times` wishes for a part with something else.
fn spoils(times: usize, with: StatusCode) -> impl FnOnce(Router) -> Router {
    let left = Arc::new(AtomicUsize::new(times));
    move |router| {
        router.layer(middleware::map_response(move |answer: Response| {
            let left = Arc::clone(&left);
            async move {
                let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
                let take_one = |left: usize| left.checked_sub(1);
                if !is_part
                    || (left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one)).is_err()
                {
                    return answer;
                }
                let (mut head, _) = answer.into_parts();
                head.status = with;
                let length = head.headers[header::CONTENT_LENGTH].to_str().unwrap();
                let garbage = vec![b'x'; length.parse().unwrap()];
                Response::from_parts(head, Body::from(garbage))
            }
        }))
    }
}

const ONE_CUT: Cuts = Cuts {
    first: 1,
    after: 300_000,
    by: By::Closing,
};

#[tokio::test]
async fn a_rest_that_is_something_else_is_found_and_all_is_fetched_once_more() {
    for with in [
        StatusCode::PARTIAL_CONTENT,
        StatusCode::RANGE_NOT_SATISFIABLE,
    ] {
        let case = case().await;
        let size = case.blob.size;
        let (fetched, line, _) = case.fetch(ONE_CUT, spoils(1, with)).await;
        fetched.unwrap();
        assert!(line.answered() > size, "{with}");
    }
}

#[tokio::test]
async fn another_part_than_was_asked_for_is_not_taken() {
    let case = case().await;
    let size = case.blob.size;
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let shifted = |router: Router| {
        router.layer(middleware::map_response(move |mut answer: Response| {
            let first = counting.fetch_add(1, Ordering::Relaxed);
            async move {
                if let Some(range) = answer.headers_mut().get_mut(header::CONTENT_RANGE)
                    && first == 1
                {
                    *range = "bytes 7-8/9".parse().unwrap();
                }
                answer
            }
        }))
    };
    let (fetched, line, _) = case.fetch(ONE_CUT, shifted).await;
    fetched.unwrap();
    // From the beginning, after the part that was refused.
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert!(line.answered() > size + 300_000, "{}", line.answered());
}

#[tokio::test]
async fn a_rest_that_is_always_something_else_ends_the_launch() {
    let case = case().await;
    let digest = case.blob.digest;
    let cuts = Cuts {
        first: usize::MAX,
        after: 300_000,
        by: By::Closing,
    };
    let spoils = spoils(usize::MAX, StatusCode::PARTIAL_CONTENT);
    let (fetched, _, _) = case.fetch(cuts, spoils).await;
    let error = fetched.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains(&format!("expected {digest}")), "{told}");
}
