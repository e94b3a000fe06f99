//! What only a directory can do, and suffer.

use super::*;

contract!(Backend::Directory);

async fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    (directory, store)
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
    for left in [
        "ingest/half",
        &half,
        "refs/v1/image/a/0.json#27",
        "layout.json#1",
    ] {
        fs::write(directory.path().join(left), "half").unwrap();
    }
    let store = Store::open(directory.path()).await.unwrap();
    assert_eq!(files(directory.path()), before);
    assert!(content(&store, &blob.digest).await.is_some());
}

#[tokio::test]
async fn a_later_layout_is_refused_before_anything_is_touched() {
    let (directory, store) = store().await;
    put(&store, b"kept").await;
    drop(store);
    for (left, content) in [
        ("layout.json", r#"{"layout": 2}"#),
        // Of the later Peitho, whatever it means by them.
        ("ingest/a", "theirs"),
        ("blobs/b#1", "theirs"),
        ("c#2", "theirs"),
    ] {
        fs::write(directory.path().join(left), content).unwrap();
    }
    fs::remove_dir_all(directory.path().join("refs")).unwrap();
    let tree = || {
        let read = |it: String| (fs::read(directory.path().join(&it)).unwrap(), it);
        files(directory.path())
            .into_iter()
            .map(read)
            .collect::<Vec<_>>()
    };
    let before = tree();
    let error = Store::open(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::Layout { .. }), "{error:?}");
    assert_eq!(tree(), before);
    assert!(!directory.path().join("refs").exists());
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_so() {
    let (directory, store) = store().await;
    store.check_writable().await.unwrap();
    assert_eq!(files(directory.path()), ["ingest/lock", "layout.json"]);
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

#[tokio::test]
async fn a_blob_that_rotted_at_its_length_is_replaced_by_a_commit() {
    let (directory, store) = store().await;
    let blob = put(&store, b"as it was").await;
    let place = directory.path().join("blobs/sha256");
    let place = place.join(blob.digest.hex());
    fs::write(&place, b"as it wAs").unwrap();
    assert_eq!(put(&store, b"as it was").await, blob);
    assert_eq!(fs::read(&place).unwrap(), b"as it was");
    assert_eq!(store.judge(&blob).await.unwrap(), Verdict::Sound);
    assert!(
        !store.mend(&blob.digest).await.unwrap(),
        "there are no copies"
    );
}
