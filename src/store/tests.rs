//! The store on a real directory, opened, broken and opened again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::spool::{Reader, Spool};
use super::*;
use crate::names::Tenant;

async fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    (directory, store)
}

async fn put(store: &Store, content: &[u8]) -> Blob {
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(content).await.unwrap();
    store.commit(ingest).await.unwrap()
}

async fn content(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
    let (mut file, blob) = store.open_blob(digest).await.unwrap()?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    assert_eq!(blob.size, content.len() as u64);
    Some(content)
}

/// Every file below `directory`, relative, sorted.
fn files(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let path = path.strip_prefix(root).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

#[tokio::test]
async fn what_is_committed_comes_back_and_nothing_else_is_left() {
    let (directory, store) = store().await;
    let whole: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut ingest = store.ingest().await.unwrap();
    assert!(ingest.is_empty());
    for (number, piece) in whole.chunks(64 << 10).enumerate() {
        if number % 2 == 0 {
            ingest.append(piece).await.unwrap();
        } else {
            ingest.write_all(piece).unwrap();
        }
    }
    assert_eq!(ingest.len(), 1_000_000);
    let mut ahead = Vec::new();
    ingest.reader().unwrap().read_to_end(&mut ahead).unwrap();
    assert_eq!(ahead, whole);
    assert_eq!(content(&store, &Digest::of(&whole)).await, None);

    let blob = store.commit(ingest).await.unwrap();
    assert_eq!(blob.digest, Digest::of(&whole));
    assert_eq!(blob.size, 1_000_000);
    assert_eq!(content(&store, &blob.digest).await, Some(whole.clone()));
    assert_eq!(put(&store, &whole).await, blob);
    let place = format!("blobs/sha256/{}", blob.digest.hex());
    assert_eq!(files(directory.path()), [place.as_str(), "ingest/lock"]);

    drop(store);
    let again = Store::open(directory.path()).await.unwrap();
    assert_eq!(content(&again, &blob.digest).await, Some(whole));
}

#[tokio::test]
async fn nothing_is_a_blob_too() {
    let (_directory, store) = store().await;
    let blob = put(&store, b"").await;
    assert_eq!(blob.digest, Digest::of(b""));
    assert_eq!(content(&store, &blob.digest).await, Some(Vec::new()));
}

#[tokio::test]
async fn equal_blobs_may_be_committed_at_once() {
    let (_directory, store) = store().await;
    let blobs = futures::future::join_all((0..8).map(|_| put(&store, b"the same"))).await;
    assert!(blobs.iter().all(|b| *b == blobs[0]));
    let found = content(&store, &blobs[0].digest).await;
    assert_eq!(found.as_deref(), Some(&b"the same"[..]));
}

#[tokio::test]
async fn what_is_dropped_or_not_as_promised_is_gone() {
    let (directory, store) = store().await;
    let mut dropped = store.ingest().await.unwrap();
    dropped.append(&[1; 300_000]).await.unwrap();
    drop(dropped);

    let mut wrong = store.ingest().await.unwrap();
    wrong.append(b"tampered").await.unwrap();
    let result = store.commit_expecting(wrong, &Digest::of(b"good")).await;
    assert!(matches!(result, Err(Error::Mismatch { .. })), "{result:?}");
    assert_eq!(content(&store, &Digest::of(b"tampered")).await, None);
    assert_eq!(files(directory.path()), ["ingest/lock"]);

    let mut right = store.ingest().await.unwrap();
    right.append(b"good").await.unwrap();
    let digest = Digest::of(b"good");
    let blob = store.commit_expecting(right, &digest).await.unwrap();
    assert_eq!(blob.digest, digest);
}

#[tokio::test]
async fn a_cut_blob_is_replaced_by_a_commit() {
    let (directory, store) = store().await;
    let blob = put(&store, b"whole").await;
    let place = (directory.path().join("blobs/sha256")).join(blob.digest.hex());
    fs::write(place, b"who").unwrap();
    put(&store, b"whole").await;
    let found = content(&store, &blob.digest).await;
    assert_eq!(found.as_deref(), Some(&b"whole"[..]));
}

#[tokio::test]
async fn a_dropped_append_loses_no_bytes() {
    let (_directory, store) = store().await;
    let mut ingest = store.ingest().await.unwrap();
    let mut whole = Vec::new();
    for byte in 0..20 {
        let piece = vec![byte; 300_000];
        whole.extend_from_slice(&piece);
        // Polled once and dropped while the piece is on its way to the disk.
        let _ = futures::FutureExt::now_or_never(ingest.append(&piece));
    }
    let blob = store.commit(ingest).await.unwrap();
    assert_eq!(blob.digest, Digest::of(&whole));
}

#[tokio::test]
async fn opening_sweeps_what_a_crash_left() {
    let (directory, store) = store().await;
    let blob = put(&store, b"kept").await;
    (store
        .put_ref(RefKind::Image, &tenant("a"), "kept", &1)
        .await)
        .unwrap();
    drop(store);
    let before = files(directory.path());
    let half = before[0].clone() + "#1";
    for left in ["ingest/half", &half, "refs/v1/image/a/0.json#27"] {
        fs::write(directory.path().join(left), "half").unwrap();
    }
    let store = Store::open(directory.path()).await.unwrap();
    assert_eq!(files(directory.path()), before);
    assert!(content(&store, &blob.digest).await.is_some());
}

#[tokio::test]
async fn a_second_process_does_not_sweep_what_the_first_writes() {
    let (directory, first) = store().await;
    let mut ingest = first.ingest().await.unwrap();
    ingest.append(&[7; 300_000]).await.unwrap();
    let second = Store::open(directory.path()).await.unwrap();
    let blob = first.commit(ingest).await.unwrap();
    assert!(content(&second, &blob.digest).await.is_some());
}

#[tokio::test]
async fn refs_take_any_name_and_stay_apart() {
    let (directory, store) = store().await;
    let long = "long name/".repeat(51);
    let names = ["", ".", "../../etc", "a:latest", "a/b#1", "Ä %2F\n", &long];
    let (a, b) = (tenant("a"), tenant("b"));
    for (value, name) in names.iter().enumerate() {
        store
            .put_ref(RefKind::Image, &a, name, &value)
            .await
            .unwrap();
    }
    store
        .put_ref(RefKind::Image, &b, ".", &"b's")
        .await
        .unwrap();
    for (value, name) in names.iter().enumerate() {
        let found = store.get_ref(RefKind::Image, &a, name).await.unwrap();
        assert_eq!(found, Some(value), "{name:?}");
        let compile: Option<usize> = store.get_ref(RefKind::Compile, &a, name).await.unwrap();
        assert_eq!(compile, None);
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(store.list_refs(RefKind::Image, &a).await.unwrap(), sorted);
    assert_eq!(store.list_refs(RefKind::Image, &b).await.unwrap(), ["."]);
    let none: [&str; 0] = [];
    assert_eq!(store.list_refs(RefKind::Compile, &a).await.unwrap(), none);
    let outside = (files(directory.path()).into_iter())
        .find(|f| !f.starts_with("refs/v1/image/") && f != "ingest/lock");
    assert_eq!(outside, None);
}

#[tokio::test]
async fn what_is_nobodys_is_apart_from_every_tenant() {
    let (directory, store) = store().await;
    let put = store.put_ref(RefKind::Held, Scope::Nobody, "base:1", &1);
    put.await.unwrap();
    let named = store.get_ref(RefKind::Held, Scope::Nobody, "base:1").await;
    assert_eq!(named.unwrap(), Some(1));
    let of = |scope| store.list_refs(RefKind::Held, scope);
    assert_eq!(of(Scope::Nobody).await.unwrap(), ["base:1"]);
    let default = Tenant::default_tenant();
    assert!(of(Scope::Of(&default)).await.unwrap().is_empty());
    assert!("_".parse::<Tenant>().is_err());
    let mut files = files(directory.path()).into_iter();
    assert!(files.any(|file| file.starts_with("refs/v1/held/_/")));
}

#[tokio::test]
async fn refs_are_replaced_and_removed() {
    let (_directory, store) = store().await;
    let tenant = tenant("a");
    for value in [1, 2] {
        store
            .put_ref(RefKind::Image, &tenant, "n", &value)
            .await
            .unwrap();
        let found = store.get_ref(RefKind::Image, &tenant, "n").await.unwrap();
        assert_eq!(found, Some(value));
    }
    assert!(
        store
            .remove_ref(RefKind::Image, &tenant, "n")
            .await
            .unwrap()
    );
    assert!(
        !store
            .remove_ref(RefKind::Image, &tenant, "n")
            .await
            .unwrap()
    );
    let gone: Option<u32> = store.get_ref(RefKind::Image, &tenant, "n").await.unwrap();
    assert_eq!(gone, None);
}

#[tokio::test]
async fn a_corrupt_ref_is_named() {
    let (directory, store) = store().await;
    let tenant = tenant("a");
    store
        .put_ref(RefKind::Image, &tenant, "app:1", &1)
        .await
        .unwrap();
    store
        .put_ref(RefKind::Image, &tenant, "other", &1)
        .await
        .unwrap();
    let place = |name: &str| {
        let file = format!("refs/v1/image/a/{}.json", Digest::of(name.as_bytes()).hex());
        directory.path().join(file)
    };
    for broken in [&b""[..], b"{\"name\":\"app:1\",\"val", b"\xff", b"[]"] {
        fs::write(place("app:1"), broken).unwrap();
        let error = (store.get_ref::<u32>(RefKind::Image, &tenant, "app:1").await).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("image/a/app:1"), "{error}");
        let listed = store.list_refs(RefKind::Image, &tenant).await;
        assert!(matches!(listed, Err(Error::Corrupt { .. })), "{listed:?}");
    }
    fs::copy(place("other"), place("app:1")).unwrap();
    let error = (store.get_ref::<u32>(RefKind::Image, &tenant, "app:1").await).unwrap_err();
    assert!(error.to_string().contains("other"), "{error}");
    let wrong_type = (store
        .get_ref::<String>(RefKind::Image, &tenant, "other")
        .await)
        .unwrap_err();
    assert!(matches!(wrong_type, Error::Corrupt { .. }));
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_so() {
    let (directory, store) = store().await;
    store.check_writable().await.unwrap();
    assert_eq!(files(directory.path()), ["ingest/lock"]);
    fs::remove_dir_all(directory.path()).unwrap();
    let error = store.check_writable().await.unwrap_err().to_string();
    let path = directory.path().to_str().unwrap();
    assert!(error.contains(path), "{error}");
    assert!(store.ingest().await.is_err());
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(Store::open(&file.path().join("below")).await.is_err());
}

#[test]
fn a_full_volume_is_told_with_path_and_bytes() {
    let (full, quota) = (28, 122);
    for code in [full, quota] {
        // As it comes out of the object store.
        let source = Box::new(std::io::Error::from_raw_os_error(code));
        let wrapped = volume::cause(object_store::Error::Generic {
            store: "test",
            source,
        });
        let (store, file) = (Path::new("/data"), Path::new("/data/blobs/x"));
        let error = Error::of(store, "writing", file, 4711, wrapped);
        assert!(
            matches!(error, Error::Full { bytes: 4711, .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("/data for 4711 bytes"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn debug_shows_no_content() {
    let (_directory, store) = store().await;
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(b"private").await.unwrap();
    let spool = Spool::create(&store).await.unwrap();
    spool.append(b"private").await.unwrap();
    let shown = format!("{store:?} {ingest:?} {spool:?} {:?}", spool.reader());
    assert!(
        !shown.contains("private") && !shown.contains("112"),
        "{shown}"
    );
    assert!(shown.contains("len: 7"), "{shown}");
}

async fn all(mut reader: Reader) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        assert!(!piece.is_empty() && piece.len() <= 64 << 10);
        read.extend_from_slice(&piece);
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_late_readers_see_all_of_a_spool() {
    let (directory, store) = store().await;
    let spool = Spool::create(&store).await.unwrap();
    let (go, mut may_go) = tokio::sync::watch::channel(false);
    // Reads one piece, then nothing until the writer is done.
    let mut slow = spool.reader();
    let slow = tokio::spawn(async move {
        let first = slow.next().await.unwrap().unwrap();
        may_go.wait_for(|go| *go).await.unwrap();
        [first.to_vec(), all(slow).await].concat()
    });
    let eager = tokio::spawn(all(spool.reader()));
    let mut whole = Vec::new();
    for number in 0..41 {
        let piece = vec![number; 1_000_000];
        spool.append(&piece).await.unwrap();
        whole.extend_from_slice(&piece);
    }
    assert_eq!(spool.len(), 41_000_000);
    assert!(!slow.is_finished());
    spool.close();
    go.send(true).unwrap();
    let late = all(spool.reader()).await;
    for read in [slow.await.unwrap(), eager.await.unwrap(), late] {
        assert!(read == whole);
    }
    assert_eq!(files(directory.path()), ["ingest/lock"]);
}

#[tokio::test]
async fn a_spool_becomes_a_blob_and_a_blob_a_spool() {
    let (_directory, store) = store().await;
    let whole: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let spool = Spool::create(&store).await.unwrap();
    spool.append(&whole).await.unwrap();
    let blob = spool.commit(&store).await.unwrap();
    assert_eq!((blob.digest, blob.size), (Digest::of(&whole), 200_000));
    let kept = Spool::of_blob(&store, &blob).await.unwrap();
    kept.append(b"too late").await.unwrap();
    assert!(all(kept.reader()).await == whole);
    assert_eq!(kept.commit(&store).await.unwrap(), blob);
}

#[tokio::test]
async fn a_spool_ends_with_close_and_takes_nothing_more() {
    let (_directory, store) = store().await;
    let spool = Spool::create(&store).await.unwrap();
    assert!(spool.is_empty());
    let mut reader = spool.reader();
    assert!(futures::FutureExt::now_or_never(reader.next()).is_none());
    spool.append(b"line\n").await.unwrap();
    assert_eq!(
        reader.next().await.unwrap().as_deref(),
        Some(&b"line\n"[..])
    );
    assert!(futures::FutureExt::now_or_never(reader.next()).is_none());
    let waiting = tokio::spawn(all(reader));
    spool.close();
    assert_eq!(waiting.await.unwrap(), b"");
    spool.append(b"more").await.unwrap();
    assert_eq!(all(spool.clone().reader()).await, b"line\n");
}

#[tokio::test]
async fn an_empty_spool_and_one_without_its_writer_end_too() {
    let (_directory, store) = store().await;
    let empty = Spool::create(&store).await.unwrap();
    empty.close();
    assert_eq!(all(empty.reader()).await, b"");
    assert_eq!(empty.commit(&store).await.unwrap().digest, Digest::of(b""));

    let left = Spool::create(&store).await.unwrap();
    left.append(b"last words").await.unwrap();
    let reader = left.reader();
    drop(left);
    assert_eq!(all(reader).await, b"last words");
}

#[tokio::test]
async fn pieces_of_several_writers_stay_whole() {
    let (_directory, store) = store().await;
    let spool = Spool::create(&store).await.unwrap();
    let pieces = (b'a'..=b'p').map(|letter| {
        let spool = spool.clone();
        async move { spool.append(&[letter; 1000]).await.unwrap() }
    });
    futures::future::join_all(pieces).await;
    spool.close();
    let read = all(spool.reader()).await;
    assert_eq!(read.len(), 16_000);
    for piece in read.chunks(1000) {
        assert!(piece.iter().all(|b| *b == piece[0]));
    }
}

#[tokio::test]
async fn the_log_of_a_missing_blob_is_an_error() {
    let (_directory, store) = store().await;
    let missing = Blob {
        digest: Digest::of(b"never stored"),
        size: 1,
    };
    let error = Spool::of_blob(&store, &missing).await.unwrap_err();
    let hex = missing.digest.hex();
    assert!(error.to_string().contains(&hex), "{error}");
}
