//! Moves in a bucket, which are a copy and a deletion: what is seen of them in between, and when the second half comes.

use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::super::fixture::SERVER;
use super::super::seen::Seen;
use super::super::trash::{self, Moved};
use super::*;

/// A process is stopped between the two halves of a move. When it goes on, the place may have what was brought anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_took_too_long_deletes_nothing() {
    let world = World::new(Backend::Bucket).await;
    let store = world.open().await;
    let blob = put(&store, b"moved").await;
    let (from, to) = (blob_key(&blob.digest), Key::from("trash/it"));
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    // One whose clock was set back in between does not know either.
    for begun in [now - hour, now + hour] {
        assert_eq!(moved(&store, &from, &to, begun, None).await, Moved::Copied);
        assert!(store.holds(&blob).await.unwrap());
        assert!(world.objects().contains(&to.to_string()));
    }
    assert_eq!(moved(&store, &from, &to, now, None).await, Moved::Whole);
    assert_eq!(world.objects(), ["layout.json", "trash/it"]);
    assert_eq!(moved(&store, &from, &to, now, None).await, Moved::Gone);
}

async fn moved(
    store: &Store,
    from: &Key,
    to: &Key,
    begun: SystemTime,
    seen: Option<&Seen>,
) -> Moved {
    let bucket = store.0.bucket.as_ref().unwrap();
    let moved = store.put_object(bucket, from, to, begun, seen);
    moved.await.unwrap()
}

/// As a process leaves it that ends after the first half of a move: in both places.
async fn move_half(store: &Store, from: &Key, to: &Key) {
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    assert_eq!(moved(store, from, to, long_ago, None).await, Moved::Copied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_half_a_move_to_the_trash_left_is_put_right_by_the_next_passes() {
    let world = World::new(Backend::Bucket).await;
    let store = world.open().await;
    let [named, unnamed] = [put(&store, b"named").await, put(&store, b"not named").await];
    for blob in [named, unnamed] {
        let entry = trash::entry(&blob.digest);
        move_half(&store, &blob_key(&blob.digest), &entry).await;
    }
    // To the trash goes what is there twice, and then all of it.
    for _ in 0..2 {
        super::trash::pass(&store, &[named]).await;
    }
    let place = blob_key(&named.digest).to_string();
    assert_eq!(world.objects(), [&*place, "layout.json"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_half_a_move_to_quarantine_left_is_moved_by_the_next_check() {
    let world = World::new(Backend::Bucket).await;
    let blob = put(&world.open().await, b"as it was").await;
    let place = blob_key(&blob.digest);
    let content = world.objects.join(place.as_ref());
    fs::write(&content, b"as it wAs").unwrap();
    // On a machine without copies.
    let store = world.open_elsewhere().await;
    let to = quarantine::key(&place);
    move_half(&store, &place, &to).await;
    assert_eq!(store.judge(&blob).await.unwrap(), Verdict::Damaged);
    let told = store.quarantine_blob(&blob.digest).await.unwrap();
    assert_eq!(told, Some(to.to_string()));
    assert_eq!(world.objects(), ["layout.json", to.as_ref()]);
    put(&store, b"as it was").await;
    assert_eq!(store.judge(&blob).await.unwrap(), Verdict::Sound);
}

/// As a disk does, long after it was written: tag and time stay as they were.
fn rot(content: &Path, rotten: &[u8]) {
    fs::write(content, rotten).unwrap();
    let file = fs::File::options().write(true).open(content).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    file.set_modified(long_ago).unwrap();
}

/// A bucket with a blob that has rotted.
struct Rotten {
    world: World,
    store: Store,
    blob: Blob,
    place: Key,
    content: PathBuf,
    /// As it is rotten.
    seen: Seen,
}

impl Rotten {
    async fn new() -> Self {
        let world = World::new(Backend::Bucket).await;
        let store = world.open().await;
        let blob = put(&store, b"as it was").await;
        let place = blob_key(&blob.digest);
        let content = world.objects.join(place.as_ref());
        rot(&content, b"as it wAs");
        let seen = Seen::of(&store.look(&place).await.unwrap().unwrap());
        Self {
            world,
            store,
            blob,
            place,
            content,
            seen,
        }
    }

    /// A move to quarantine by who saw it rotten.
    async fn quarantined(&self) -> Moved {
        let (to, now) = (Key::from("quarantine/it"), SystemTime::now());
        moved(&self.store, &self.place, &to, now, Some(&self.seen)).await
    }
}

/// By another machine, after the first half of a move to quarantine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_during_a_move_stays() {
    let it = Rotten::new().await;
    fs::remove_file(&it.content).unwrap();
    put(&it.world.open_elsewhere().await, b"as it was").await;
    assert_eq!(it.quarantined().await, Moved::WrittenAgain);
    assert_eq!(fs::read(it.content).unwrap(), b"as it was");
}

/// It has the same length, and is committed after the damage was found and before the first half of the move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_does_not_take_what_is_on_its_way_to_quarantine_for_its_own() {
    let it = Rotten::new().await;
    let rotten = &it.store.0.bucket.as_ref().unwrap().rotten;
    let noted = rotten.note(&it.blob.digest);
    put(&it.store, b"as it was").await;
    assert_eq!(it.quarantined().await, Moved::WrittenAgain);
    drop(noted);
    assert!(!rotten.has(&it.blob.digest));
    assert_eq!(it.store.judge(&it.blob).await.unwrap(), Verdict::Sound);
}

/// A line to a server that ends at the requests that begin so.
struct Line {
    endpoint: String,
    cut: watch::Sender<&'static [u8]>,
    /// How many were cut.
    cuts: watch::Receiver<usize>,
}

impl Line {
    async fn to(server: &str) -> Self {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (cut, cutting) = watch::channel(&b"-"[..]);
        let (counted, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let (cutting, counted) = (cutting.clone(), counted.clone());
                let back = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                });
                tokio::spawn(async move {
                    let mut piece = vec![0; 64 << 10];
                    while let Ok(length @ 1..) = from_client.read(&mut piece).await {
                        if piece[..length].starts_with(*cutting.borrow()) {
                            counted.send_modify(|count| *count += 1);
                            back.abort();
                            return;
                        }
                        if to_server.write_all(&piece[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            endpoint,
            cut,
            cuts,
        }
    }
}

/// It is asked for again and again, and not once when it is too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_half_of_a_move_comes_in_time_or_not_at_all() {
    let mut world = World::new(Backend::Bucket).await;
    let mut line = Line::to(&SERVER.endpoint()).await;
    world.config.s3.endpoint = Some(line.endpoint.clone());
    let store = world.open().await;
    let blob = put(&store, b"moved").await;
    let (from, to) = (blob_key(&blob.digest), Key::from("trash/it"));
    line.cut.send_replace(b"DELETE ");
    let nearly_over = SystemTime::now() - trash::MOVE + Duration::from_secs(2);
    let late = moved(&store, &from, &to, nearly_over, None).await;
    assert_eq!(late, Moved::Copied);
    let attempts = *line.cuts.borrow_and_update();
    assert!(attempts >= 2, "{attempts}");

    let mut moving = {
        let (store, from, to) = (store.clone(), from.clone(), to.clone());
        tokio::spawn(async move { moved(&store, &from, &to, SystemTime::now(), None).await })
    };
    line.cuts.changed().await.unwrap();
    line.cut.send_replace(b"-");
    assert_eq!((&mut moving).await.unwrap(), Moved::Whole);
    assert_eq!(world.objects(), ["layout.json", "trash/it"]);
}
