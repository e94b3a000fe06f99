//! What the store holds, wherever its objects are.

use std::io::Write as _;

use futures::TryStreamExt as _;

use super::*;

/// The cases for one backend, as tests of the module that asks for them.
macro_rules! contract {
    ($backend:expr) => {
        contract! { $backend;
            what_is_committed_comes_back_and_nothing_else_is_left,
            nothing_is_a_blob_too,
            equal_blobs_may_be_committed_at_once,
            what_is_dropped_or_not_as_promised_is_gone,
            a_cut_blob_is_replaced_by_a_commit,
            a_dropped_append_loses_no_bytes,
            a_second_process_does_not_sweep_what_the_first_writes,
            refs_take_any_name_and_stay_apart,
            what_is_nobodys_is_apart_from_every_tenant,
            refs_are_replaced_and_removed,
            a_corrupt_ref_is_named,
            what_was_written_again_is_left_alone,
            a_spool_becomes_a_blob_and_a_blob_a_spool,
            there_is_no_log_of_a_missing_blob,
            what_is_there_is_found_without_being_read,
            an_open_file_outlives_its_blob,
            the_layout_is_marked_and_a_later_one_refused,
            two_peithos_share_it,
            a_store_that_is_gone_says_so,
        }
    };
    ($backend:expr; $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::contract::$case(&super::World::new($backend).await).await;
            }
        )+
    };
}

pub(super) async fn what_is_committed_comes_back_and_nothing_else_is_left(world: &World) {
    let store = world.open().await;
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
    assert_eq!(world.objects(), [place.as_str(), "layout.json"]);
    assert_eq!(world.ingests(), ["lock"]);

    drop(store);
    let again = world.open().await;
    assert_eq!(content(&again, &blob.digest).await, Some(whole));
}

pub(super) async fn nothing_is_a_blob_too(world: &World) {
    let store = world.open().await;
    let blob = put(&store, b"").await;
    assert_eq!(blob.digest, Digest::of(b""));
    assert_eq!(content(&store, &blob.digest).await, Some(Vec::new()));
}

pub(super) async fn equal_blobs_may_be_committed_at_once(world: &World) {
    let store = world.open().await;
    let blobs = futures::future::join_all((0..8).map(|_| put(&store, b"the same"))).await;
    assert!(blobs.iter().all(|b| *b == blobs[0]));
    let found = content(&store, &blobs[0].digest).await;
    assert_eq!(found.as_deref(), Some(&b"the same"[..]));
}

pub(super) async fn what_is_dropped_or_not_as_promised_is_gone(world: &World) {
    let store = world.open().await;
    let mut dropped = store.ingest().await.unwrap();
    dropped.append(&[1; 300_000]).await.unwrap();
    drop(dropped);

    let mut wrong = store.ingest().await.unwrap();
    wrong.append(b"tampered").await.unwrap();
    let result = store.commit_expecting(wrong, &Digest::of(b"good")).await;
    assert!(matches!(result, Err(Error::Mismatch { .. })), "{result:?}");
    assert_eq!(content(&store, &Digest::of(b"tampered")).await, None);
    assert_eq!(world.objects(), ["layout.json"]);
    assert_eq!(world.ingests(), ["lock"]);

    let mut right = store.ingest().await.unwrap();
    right.append(b"good").await.unwrap();
    let digest = Digest::of(b"good");
    let blob = store.commit_expecting(right, &digest).await.unwrap();
    assert_eq!(blob.digest, digest);
}

pub(super) async fn a_cut_blob_is_replaced_by_a_commit(world: &World) {
    let store = world.open().await;
    let blob = put(&store, b"whole").await;
    let place = (world.objects.join("blobs/sha256")).join(blob.digest.hex());
    fs::write(place, b"who").unwrap();
    assert!(!store.holds(&blob).await.unwrap());
    put(&store, b"whole").await;
    let found = content(&store, &blob.digest).await;
    assert_eq!(found.as_deref(), Some(&b"whole"[..]));
}

pub(super) async fn a_dropped_append_loses_no_bytes(world: &World) {
    let store = world.open().await;
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

pub(super) async fn a_second_process_does_not_sweep_what_the_first_writes(world: &World) {
    let first = world.open().await;
    let mut ingest = first.ingest().await.unwrap();
    ingest.append(&[7; 300_000]).await.unwrap();
    let second = world.open_elsewhere().await;
    let blob = first.commit(ingest).await.unwrap();
    assert!(content(&second, &blob.digest).await.is_some());
}

pub(super) async fn refs_take_any_name_and_stay_apart(world: &World) {
    let store = world.open().await;
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
    let outside = (world.objects().into_iter())
        .find(|f| !f.starts_with("refs/v1/image/") && f != "layout.json");
    assert_eq!(outside, None);
}

pub(super) async fn what_is_nobodys_is_apart_from_every_tenant(world: &World) {
    let store = world.open().await;
    let put = store.put_ref(RefKind::Held, Scope::Nobody, "base:1", &1);
    put.await.unwrap();
    let named = store.get_ref(RefKind::Held, Scope::Nobody, "base:1").await;
    assert_eq!(named.unwrap(), Some(1));
    let of = |scope| store.list_refs(RefKind::Held, scope);
    assert_eq!(of(Scope::Nobody).await.unwrap(), ["base:1"]);
    let default = Tenant::default_tenant();
    assert!(of(Scope::Of(&default)).await.unwrap().is_empty());
    assert!("_".parse::<Tenant>().is_err());
    let mut files = world.objects().into_iter();
    assert!(files.any(|file| file.starts_with("refs/v1/held/_/")));
}

pub(super) async fn refs_are_replaced_and_removed(world: &World) {
    let store = world.open().await;
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

pub(super) async fn a_corrupt_ref_is_named(world: &World) {
    let store = world.open().await;
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
        world.objects.join(file)
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

/// Who read a ref or a blob and acts on it later does not act on what was written meanwhile.
pub(super) async fn what_was_written_again_is_left_alone(world: &World) {
    let store = world.open().await;
    let a = tenant("a");
    let put_ref = async |value: &str| {
        let put = store.put_ref(RefKind::Image, &a, "n", &value);
        put.await.unwrap();
    };
    let read = async || {
        let read: Vec<Read<String>> = (store.every_ref(RefKind::Image))
            .try_collect()
            .await
            .unwrap();
        match read.into_iter().next() {
            Some(Read::Ref { place, .. }) => place,
            other => panic!("{other:?}"),
        }
    };
    put_ref("one").await;
    let old = read().await;
    put_ref("two").await;
    assert!(!store.remove_place(&old).await.unwrap());
    assert_eq!(store.quarantine_ref(&old).await.unwrap(), None);
    let found = store.get_ref(RefKind::Image, &a, "n").await.unwrap();
    assert_eq!(found, Some("two".to_owned()));
    let to = store.quarantine_ref(&read().await).await.unwrap();
    assert!(world.objects().contains(&to.unwrap()));
    put_ref("three").await;
    let new = read().await;
    for _ in 0..2 {
        assert!(store.remove_place(&new).await.unwrap(), "or gone already");
    }
    assert_eq!(store.quarantine_ref(&new).await.unwrap(), None);

    let blob = put(&store, b"as it was").await;
    let place = format!("blobs/sha256/{}", blob.digest.hex());
    fs::write(world.objects.join(&place), b"as it wAs").unwrap();
    let to = store.quarantine_blob(&blob.digest).await.unwrap().unwrap();
    assert_eq!(to, format!("quarantine/{place}"));
    assert_eq!(store.quarantine_blob(&blob.digest).await.unwrap(), None);
    put(&store, b"as it was").await;
    assert_eq!(store.quarantine_blob(&blob.digest).await.unwrap(), None);
    assert!(store.holds(&blob).await.unwrap());
}

pub(super) async fn a_spool_becomes_a_blob_and_a_blob_a_spool(world: &World) {
    let store = world.open().await;
    let whole: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let spool = Spool::create(&store).await.unwrap();
    spool.append(&whole).await.unwrap();
    let blob = spool.commit(&store).await.unwrap();
    assert_eq!((blob.digest, blob.size), (Digest::of(&whole), 200_000));
    let kept = Spool::of_blob(&store, &blob).await.unwrap().unwrap();
    kept.append(b"too late").await.unwrap();
    assert!(all(kept.reader()).await == whole);
    assert_eq!(kept.commit(&store).await.unwrap(), blob);
}

pub(super) async fn there_is_no_log_of_a_missing_blob(world: &World) {
    let store = world.open().await;
    let missing = Blob {
        digest: Digest::of(b"never stored"),
        size: 1,
    };
    assert!(Spool::of_blob(&store, &missing).await.unwrap().is_none());
}

pub(super) async fn what_is_there_is_found_without_being_read(world: &World) {
    let store = world.open().await;
    let blob = put(&store, b"found").await;
    let other = world.open_elsewhere().await;
    assert!(other.holds(&blob).await.unwrap());
    let never = Blob {
        digest: Digest::of(b"never stored"),
        size: blob.size,
    };
    assert!(!other.holds(&never).await.unwrap());
    assert!(other.open_blob(&never.digest).await.unwrap().is_none());
}

pub(super) async fn an_open_file_outlives_its_blob(world: &World) {
    let store = world.open().await;
    let blob = put(&store, b"still here").await;
    let (mut first, _) = store.open_blob(&blob.digest).await.unwrap().unwrap();
    let (mut second, _) = store.open_blob(&blob.digest).await.unwrap().unwrap();
    fs::remove_dir_all(&world.objects).unwrap();
    for file in [&mut first, &mut second] {
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"still here");
    }
}

pub(super) async fn the_layout_is_marked_and_a_later_one_refused(world: &World) {
    let marker = world.objects.join("layout.json");
    let store = world.open().await;
    let blob = put(&store, b"old").await;
    let tenant = tenant("a");
    let written = store.put_ref(RefKind::Image, &tenant, "n", &1).await;
    written.unwrap();
    drop(store);
    assert_eq!(fs::read(&marker).unwrap(), b"{\"layout\":1}");

    // As before there were markers.
    fs::remove_file(&marker).unwrap();
    let store = world.open().await;
    assert_eq!(fs::read(&marker).unwrap(), b"{\"layout\":1}");
    assert!(content(&store, &blob.digest).await.is_some());
    drop(store);

    for later in ["{\"layout\":2,\"more\":true}", "something else"] {
        fs::write(&marker, later).unwrap();
        let error = world.try_open().await.unwrap_err();
        assert!(matches!(error, Error::Layout { .. }), "{error:?}");
        let error = error.to_string();
        assert!(
            error.contains(later) && error.contains("layout 1"),
            "{error}"
        );
        assert_eq!(fs::read(&marker).unwrap(), later.as_bytes());
    }
    fs::write(&marker, "{\"layout\":1}\n").unwrap();
    let store = world.open().await;
    let found = store.get_ref(RefKind::Image, &tenant, "n").await.unwrap();
    assert_eq!(found, Some(1));
}

pub(super) async fn two_peithos_share_it(world: &World) {
    let (first, second) = (world.open().await, world.open_elsewhere().await);
    // Larger than one part of an upload.
    let same: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 249) as u8).collect();
    let commits = (0..6).map(|n| put(if n % 2 == 0 { &first } else { &second }, &same));
    let blobs = futures::future::join_all(commits).await;
    assert!(blobs.iter().all(|b| *b == blobs[0]));

    let tenant = tenant("a");
    let names: Vec<String> = (0..20).map(|n| format!("image-{n:02}")).collect();
    let written = names.iter().enumerate().map(async |(value, name)| {
        let store = if value % 2 == 0 { &first } else { &second };
        (store.put_ref(RefKind::Image, &tenant, name, &value)).await
    });
    futures::future::try_join_all(written).await.unwrap();
    for store in [&first, &second] {
        let listed = store.list_refs(RefKind::Image, &tenant).await.unwrap();
        assert_eq!(listed, names);
    }
    let name = &names[0];
    let replaced = second.put_ref(RefKind::Image, &tenant, name, &"new").await;
    replaced.unwrap();
    let found: Option<String> = first.get_ref(RefKind::Image, &tenant, name).await.unwrap();
    assert_eq!(found.as_deref(), Some("new"));

    // One more opens it while another writes.
    let mut ingest = first.ingest().await.unwrap();
    ingest.append(&[7; 300_000]).await.unwrap();
    let third = world.open_elsewhere().await;
    let late = first.commit(ingest).await.unwrap();
    for store in [&second, &third] {
        assert_eq!(content(store, &late.digest).await, Some(vec![7; 300_000]));
        assert!(content(store, &blobs[0].digest).await.as_ref() == Some(&same));
    }
    assert!(
        second
            .remove_ref(RefKind::Image, &tenant, name)
            .await
            .unwrap()
    );
    let gone: Option<String> = third.get_ref(RefKind::Image, &tenant, name).await.unwrap();
    assert_eq!(gone, None);
}

pub(super) async fn a_store_that_is_gone_says_so(world: &World) {
    let store = world.open().await;
    store.check_writable().await.unwrap();
    assert_eq!(world.objects(), ["layout.json"]);
    assert_eq!(world.ingests(), ["lock"]);
    fs::remove_dir_all(&world.objects).unwrap();
    let error = store.check_writable().await.unwrap_err().to_string();
    assert!(error.contains(&store.place()), "{error}");
    let tenant = tenant("a");
    let written = store.put_ref(RefKind::Image, &tenant, "n", &1).await;
    assert!(written.is_err() || world.objects.exists());
}
