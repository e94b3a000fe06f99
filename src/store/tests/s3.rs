//! What only a bucket can do, and suffer, on a real server of S3.

use std::time::Duration;

use testbed::S3 as Server;

use super::super::fixture::{SERVER, bucket_of};
use super::*;

contract!(Backend::Bucket);

#[tokio::test]
async fn what_is_not_named_leaves_a_bucket_too() {
    super::trash::what_is_not_named_leaves_by_two_steps(Backend::Bucket).await;
}

/// A bucket of a server of its own.
struct Own {
    server: Server,
    world: World,
}

impl Own {
    fn new(start: fn() -> anyhow::Result<Server>) -> Self {
        let server = start().unwrap();
        let root = tempfile::tempdir().unwrap();
        let (s3, objects) = bucket_of(&server, root.path());
        let world = World::of(root.path().join("store"), s3, objects, root);
        Self { server, world }
    }

    /// Passing faults are repeated for so long.
    async fn open_within(&self, patience: Duration) -> Store {
        let opened = bucket::open(&self.world.config.s3, self.world.directory(), patience);
        opened.await.unwrap()
    }

    /// How many times a request with `words` was answered.
    fn asked(&self, words: &str) -> usize {
        let log = fs::read_to_string(self.server.log()).unwrap();
        log.lines().filter(|line| line.contains(words)).count()
    }
}

/// Bytes that are alike nowhere.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes[..]);
    bytes
}

const SHORT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_goes_in_parts_and_comes_back() {
    let world = World::new(Backend::Bucket).await;
    let store = world.open().await;
    let whole = noise(17 << 20);
    let blob = put(&store, &whole).await;
    // From the copy, and from the bucket.
    assert!(content(&store, &blob.digest).await.as_ref() == Some(&whole));
    let other = world.open_elsewhere().await;
    assert!(content(&other, &blob.digest).await.as_ref() == Some(&whole));
    let place = format!("blobs/sha256/{}", blob.digest.hex());
    assert!(fs::read(world.objects.join(&place)).unwrap() == whole);
    assert_eq!(world.objects(), [place.as_str(), "layout.json"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_a_prefix_there_is_a_store_of_its_own() {
    let mut world = World::new(Backend::Bucket).await;
    let plain = world.open().await;
    world.config.s3.prefix = "peitho/a/".to_owned();
    let below = world.open_elsewhere().await;
    let blob = put(&below, b"below").await;
    assert!(below.place().ends_with(&format!(
        "{}/peitho/a at {}",
        world.config.s3.bucket,
        SERVER.endpoint()
    )));
    assert!(!plain.holds(&blob).await.unwrap());
    let mut objects = world.objects().into_iter();
    assert!(objects.all(|it| it == "layout.json" || it.starts_with("peitho/a/")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_brought_once_for_all_who_want_it() {
    let own = Own::new(Server::start);
    let first = own.world.open().await;
    let whole = noise(3 << 20);
    let blob = put(&first, &whole).await;
    let key = format!("blobs/sha256/{}", blob.digest.hex());
    let got = format!("| GET | /{}/{key} |", own.world.config.s3.bucket);
    assert_eq!(own.asked(&got), 0);
    content(&first, &blob.digest).await.unwrap();
    assert_eq!(own.asked(&got), 0, "who stored it has it");

    let second = own.world.open_elsewhere().await;
    let readers = (0..8).map(|_| content(&second, &blob.digest));
    for read in futures::future::join_all(readers).await {
        assert!(read.as_ref() == Some(&whole));
    }
    content(&second, &blob.digest).await.unwrap();
    assert_eq!(own.asked(&got), 1);
    // A commit of what is there moves nothing.
    let put_again = format!("| PUT | /{}/{key} |", own.world.config.s3.bucket);
    assert_eq!(own.asked(&put_again), 1);
    put(&second, &whole).await;
    assert_eq!(own.asked(&put_again), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_stay_below_their_bound_and_the_least_used_goes_first() {
    let mut world = World::new(Backend::Bucket).await;
    world.config.s3.cache_size = "2500k".to_owned();
    let copies = world.directory().join("copies");
    let held = || {
        let lengths = files(&copies).into_iter();
        let lengths = lengths.map(|it| fs::metadata(copies.join(it)).unwrap().len());
        lengths.sum::<u64>()
    };
    let store = world.open().await;
    let whole: Vec<Vec<u8>> = (0..4).map(|_| noise(1_000_000)).collect();
    let mut blobs = vec![put(&store, &whole[0]).await, put(&store, &whole[1]).await];
    let (mut open, _) = store.open_blob(&blobs[1].digest).await.unwrap().unwrap();
    content(&store, &blobs[0].digest).await.unwrap();
    blobs.push(put(&store, &whole[2]).await);
    assert_eq!(held(), 2_000_000);
    let (kept, gone) = (blobs[0].digest.hex(), blobs[1].digest.hex());
    assert!(files(&copies).contains(&kept) && !files(&copies).contains(&gone));
    let mut read = Vec::new();
    open.read_to_end(&mut read).unwrap();
    assert!(read == whole[1], "who has it open reads on");

    blobs.push(put(&store, &whole[3]).await);
    for (blob, whole) in blobs.iter().zip(&whole) {
        assert!(content(&store, &blob.digest).await.as_ref() == Some(whole));
        assert!(held() <= 2_500_000);
    }
    // What is larger than the bound is served all the same, and then gives way.
    let large = noise(4_000_000);
    let blob = put(&store, &large).await;
    assert!(content(&store, &blob.digest).await == Some(large));
    content(&store, &blobs[0].digest).await.unwrap();
    assert_eq!(held(), 1_000_000);
    drop(store);
    world.config.s3.cache_size = "1".to_owned();
    drop(world.open().await);
    assert_eq!(held(), 0, "a smaller bound holds from the start on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_do_not_disturb_each_other() {
    let world = World::new(Backend::Bucket).await;
    let store = world.open().await;
    let probes = (0..8).map(|_| store.check_writable());
    for probed in futures::future::join_all(probes).await {
        probed.unwrap();
    }
    assert_eq!(world.objects(), ["layout.json"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_is_brought_again() {
    let world = World::new(Backend::Bucket).await;
    let blob = put(&world.open().await, b"as it was").await;
    let copy = world.directory().join("copies").join(blob.digest.hex());
    for damaged in [&b"as it wAs"[..], b"as it"] {
        fs::write(&copy, damaged).unwrap();
        // Another process, as after a restart.
        let again = world.open().await;
        let found = content(&again, &blob.digest).await;
        assert_eq!(found.as_deref(), Some(&b"as it was"[..]));
        assert_eq!(fs::read(&copy).unwrap(), b"as it was");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_give_way_on_a_full_volume() {
    let world = World::new(Backend::Bucket).await;
    let store = world.open().await;
    for _ in 0..3 {
        put(&store, &noise(1_000_000)).await;
    }
    let copies = world.directory().join("copies");
    let full = || std::io::Error::from_raw_os_error(28);
    let (this, held) = (store.clone(), copies.clone());
    let written = volume::blocking(move || {
        this.with_copies_giving_way(1, || match files(&held).len() {
            0 => Ok("written"),
            _ => Err(full()),
        })
    });
    assert_eq!(written.await.unwrap(), "written");
    assert!(files(&copies).is_empty());
    // There is nothing left that could go, and other faults are none of room.
    let this = store.clone();
    let denied = std::io::ErrorKind::PermissionDenied;
    let ended = volume::blocking(move || {
        let nothing = this
            .with_copies_giving_way(1, || Err::<(), _>(full()))
            .unwrap_err();
        let other = this.with_copies_giving_way(1, || Err::<(), _>(denied.into()));
        Ok((nothing, other.unwrap_err()))
    });
    let (nothing, other) = ended.await.unwrap();
    assert!(volume::is_full(&nothing) && other.kind() == denied);
    let blob = put(&store, b"after").await;
    assert_eq!(files(&copies), [blob.digest.hex()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_in_the_bucket_is_no_blob() {
    let world = World::new(Backend::Bucket).await;
    let blob = put(&world.open().await, b"as it was").await;
    let place = (world.objects.join("blobs/sha256")).join(blob.digest.hex());
    let store = world.open().await;
    assert_eq!(store.judge(&blob).await.unwrap(), Verdict::Sound);
    fs::write(place, b"as it wAs").unwrap();
    assert_eq!(store.judge(&blob).await.unwrap(), Verdict::Damaged);
    // Its copy is as it was.
    assert!(content(&store, &blob.digest).await.is_some());
    let other = world.open_elsewhere().await;
    let error = other.open_blob(&blob.digest).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    let error = error.to_string();
    let actual = Digest::of(b"as it wAs").to_string();
    for part in [&blob.digest.hex(), &world.config.s3.bucket, &actual] {
        assert!(error.contains(part), "{error}");
    }
    assert!(files(&other.directory().join("copies")).is_empty());
    assert_eq!(files(&other.directory().join("ingest")), ["lock"]);

    // It is out of the way, so that the same bytes can come anew.
    assert_eq!(other.judge(&blob).await.unwrap(), Verdict::Missing);
    let moved = format!("quarantine/blobs/sha256/{}", blob.digest.hex());
    assert!(world.objects().contains(&moved));
    put(&other, b"as it was").await;
    let third = world.open_elsewhere().await;
    assert!(content(&third, &blob.digest).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_mends_what_the_bucket_lost() {
    let world = World::new(Backend::Bucket).await;
    let store = world.open().await;
    let blob = put(&store, b"as it was").await;
    let place = (world.objects.join("blobs/sha256")).join(blob.digest.hex());
    fs::write(&place, b"as it wAs").unwrap();
    let moved = store.quarantine_blob(&blob.digest).await.unwrap();
    assert!(moved.is_some() && !place.exists());
    let other = world.open_elsewhere().await;
    assert!(!other.mend(&blob.digest).await.unwrap(), "it has no copy");
    // As after a restart: the copy is read first.
    let again = world.open().await;
    assert!(again.mend(&blob.digest).await.unwrap());
    assert_eq!(fs::read(place).unwrap(), b"as it was");
    assert_eq!(other.judge(&blob).await.unwrap(), Verdict::Sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_is_told_and_waited_for() {
    let mut own = Own::new(Server::start);
    let hasty = own.open_within(SHORT).await;
    let kept = put(&hasty, b"kept").await;
    own.server.stop().unwrap();
    let mut ingest = hasty.ingest().await.unwrap();
    ingest.append(b"lost").await.unwrap();
    let error = hasty.commit(ingest).await.unwrap_err();
    assert!(error.may_pass(), "{error:?}");
    let error = error.to_string();
    let digest = Digest::of(b"lost");
    for part in [
        &*own.server.endpoint(),
        &own.world.config.s3.bucket,
        &digest.hex(),
        "Connection refused",
        "see whether it runs",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // What is here needs no bucket.
    assert!(content(&hasty, &kept.digest).await.is_some());
    let error = hasty.check_writable().await.unwrap_err();
    assert!(matches!(error, Error::Bucket { .. }), "{error:?}");
    let lost = Blob { digest, size: 4 };
    let unread = hasty.holds(&lost).await;
    assert!(unread.is_err(), "nobody knows whether it is there");

    // Who has patience is served when it is back.
    let (hasty_again, patient) = (hasty.clone(), Duration::from_secs(60));
    let s3 = own.world.config.s3.clone();
    let directory = own.world.directory().with_file_name("patient");
    let opening = tokio::spawn(async move {
        let opened = bucket::open(&s3, &directory, patient).await;
        put(&opened.unwrap(), b"waited").await
    });
    let mut own = tokio::task::spawn_blocking(move || {
        own.server.run().unwrap();
        own
    })
    .await
    .unwrap();
    let waited = opening.await.unwrap();
    hasty_again.check_writable().await.unwrap();
    assert!(!hasty_again.holds(&lost).await.unwrap());
    assert_eq!(put(&hasty_again, b"lost").await.digest, digest);
    assert_eq!(
        content(&hasty_again, &waited.digest).await.as_deref(),
        Some(&b"waited"[..])
    );
    own.server.stop().unwrap();
}

/// What the error says after the bucket.
async fn refused(config: &config::S3, directory: &Path) -> String {
    let error = bucket::open(config, directory, SHORT).await.unwrap_err();
    let error = format!("{error}");
    assert!(
        !error.contains('\n') && !error.contains(Server::SECRET_KEY),
        "{error}"
    );
    let bucket = format!("the bucket {} at ", config.bucket);
    let (_, rest) = error
        .split_once(&bucket)
        .unwrap_or_else(|| panic!("{error}"));
    rest.split_once(": ").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_one_line_that_says_what_to_do() {
    let world = World::new(Backend::Bucket).await;
    let (good, directory) = (&world.config.s3, world.directory());
    let missing = config::S3 {
        bucket: "not-there".to_owned(),
        ..good.clone()
    };
    let told = refused(&missing, directory).await;
    assert!(told.starts_with("NoSuchBucket: "), "{told}");
    assert!(
        told.ends_with("; make the bucket, or see store.s3.bucket and store.s3.addressing"),
        "{told}"
    );

    let stranger = config::S3 {
        access_key_id: Some("stranger".to_owned()),
        ..good.clone()
    };
    let told = refused(&stranger, directory).await;
    assert!(told.contains("; see store.s3.accessKeyId"), "{told}");

    let wrong = world.directory().with_file_name("wrong");
    fs::write(&wrong, "another").unwrap();
    let liar = config::S3 {
        secret_access_key_file: Some(wrong.clone()),
        ..good.clone()
    };
    let told = refused(&liar, directory).await;
    assert!(told.starts_with("SignatureDoesNotMatch: "), "{told}");
    assert!(told.contains("; see store.s3.accessKeyId"), "{told}");

    fs::remove_file(&wrong).unwrap();
    let told = refused(&liar, directory).await;
    let file = wrong.display();
    assert!(
        told.starts_with(&format!(
            "store.s3.secretAccessKeyFile {file} cannot be read: "
        )),
        "{told}"
    );

    let nobody = config::S3 {
        access_key_id: None,
        secret_access_key_file: None,
        ..good.clone()
    };
    if std::env::vars().all(|(name, _)| !name.starts_with("AWS_")) {
        let told = refused(&nobody, directory).await;
        assert!(
            told.starts_with("there are no credentials; set store.s3.accessKeyId"),
            "{told}"
        );
    }

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", port.local_addr().unwrap());
    drop(port);
    let away = config::S3 {
        endpoint: Some(endpoint),
        ..good.clone()
    };
    let told = refused(&away, directory).await;
    assert!(told.contains("Connection refused"), "{told}");
    assert!(
        told.ends_with("; see whether it runs, and store.s3.endpoint"),
        "{told}"
    );

    let region = config::S3 {
        region: Some("eu-central-9".to_owned()),
        ..good.clone()
    };
    let told = refused(&region, directory).await;
    assert!(
        told.ends_with("; see store.s3.region and store.s3.endpoint"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_holds_and_its_own_authority_is_trusted_when_named() {
    let mut own = Own::new(Server::start_tls);
    let told = refused(&own.world.config.s3, own.world.directory()).await;
    assert!(told.contains("certificate"), "{told}");
    assert!(
        told.ends_with("; see store.s3.caFile and store.s3.endpoint"),
        "{told}"
    );
    own.world.config.s3.ca_file = Some(own.server.authority());
    let store = own.world.open().await;
    let blob = put(&store, &noise(7 << 20)).await;
    let other = own.world.open_elsewhere().await;
    assert!(content(&other, &blob.digest).await.is_some());

    for (name, words) in [
        ("none.pem", "no certificate is in it"),
        ("away.pem", "No such file"),
    ] {
        let file = own.world.directory().with_file_name(name);
        if name == "none.pem" {
            fs::write(&file, "nothing").unwrap();
        }
        own.world.config.s3.ca_file = Some(file);
        let told = refused(&own.world.config.s3, own.world.directory()).await;
        assert!(
            told.starts_with("store.s3.caFile ") && told.contains(words),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debug_shows_no_secret() {
    let world = World::new(Backend::Bucket).await;
    let shown = format!("{:?} {:?}", world.open().await, world.config);
    assert!(!shown.contains(Server::SECRET_KEY), "{shown}");
    assert!(shown.contains(&world.config.s3.bucket), "{shown}");
}
