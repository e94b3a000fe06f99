//! The two steps by which a blob leaves, and the ways back.

use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::names::Digest;

/// What is not named leaves at the second pass; what is named again comes back, and so does what a reader wants.
pub(super) async fn what_is_not_named_leaves_by_two_steps(backend: Backend) {
    let world = World::new(backend).await;
    let store = world.open().await;
    let [named, unnamed, again] = [&b"named"[..], b"unnamed", b"named again"];
    let [named, unnamed, again] = [
        put(&store, named).await,
        put(&store, unnamed).await,
        put(&store, again).await,
    ];
    pass(&store, &[named]).await;
    // Nobody has local copies of its own there.
    let elsewhere = world.open_elsewhere().await;
    assert_eq!(
        read(&elsewhere, &named).await.as_deref(),
        Some(&b"named"[..])
    );
    // Wanted while it is on its way out: back at once, and out once more by the next pass.
    assert_eq!(
        read(&elsewhere, &unnamed).await.as_deref(),
        Some(&b"unnamed"[..])
    );
    pass(&store, &[named, again]).await;
    assert!(store.holds(&again).await.unwrap());
    pass(&store, &[named, again]).await;
    assert!(!store.holds(&unnamed).await.unwrap());
    let elsewhere = world.open_elsewhere().await;
    assert_eq!(read(&elsewhere, &unnamed).await, None);
    for blob in [&named, &again] {
        assert!(read(&elsewhere, blob).await.is_some());
    }
    // What left comes in as any other.
    put(&store, b"unnamed").await;
    assert!(read(&elsewhere, &unnamed).await.is_some());
}

/// A pass where the refs name just `named`, and all is old enough.
pub(super) async fn pass(store: &Store, named: &[Blob]) {
    let survey = store.survey().await.unwrap();
    let named: HashSet<Digest> = named.iter().map(|blob| blob.digest).collect();
    let plan = survey.plan(&named, &HashSet::new(), Duration::ZERO);
    store.carry_out(plan).await.unwrap();
}

async fn put(store: &Store, content: &[u8]) -> Blob {
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(content).await.unwrap();
    store.commit(ingest).await.unwrap()
}

async fn read(store: &Store, blob: &Blob) -> Option<Vec<u8>> {
    let (mut file, _) = store.open_blob(&blob.digest).await.unwrap()?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    Some(content)
}

#[tokio::test]
async fn of_a_directory() {
    what_is_not_named_leaves_by_two_steps(Backend::Directory).await;
}

/// It rotted before it was moved there, and the same bytes came anew.
#[tokio::test]
async fn what_is_in_the_trash_does_not_come_back_over_what_is_newer() {
    let world = World::new(Backend::Directory).await;
    let store = world.open().await;
    let blob = put(&store, b"as it was").await;
    let place = (world.objects.join("blobs/sha256")).join(blob.digest.hex());
    fs::write(&place, b"as it wAs").unwrap();
    pass(&store, &[]).await;
    put(&store, b"as it was").await;
    pass(&store, &[blob]).await;
    assert_eq!(
        read(&store, &blob).await.as_deref(),
        Some(&b"as it was"[..])
    );
    assert_eq!(files(&world.objects.join("trash")), Vec::<String>::new());
}

/// One that is refused at each pass, as by a rule of a bucket.
#[tokio::test]
async fn a_step_that_fails_keeps_no_other_from_being_done() {
    let world = World::new(Backend::Directory).await;
    let store = world.open().await;
    put(&store, b"one").await;
    let other = put(&store, b"other").await;
    pass(&store, &[]).await;
    let aside = put(&store, b"aside").await;
    let survey = store.survey().await.unwrap();
    let plan = survey.plan(&HashSet::new(), &HashSet::new(), Duration::ZERO);
    for entry in files(&world.objects.join("trash")) {
        let path = world.objects.join("trash").join(entry);
        if fs::read(&path).unwrap() == b"one" {
            // No file can be removed there any more.
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
    }
    let told = store.carry_out(plan).await.unwrap_err().to_string();
    assert!(told.contains("deleting"), "{told}");
    assert!(!store.holds(&other).await.unwrap());
    assert!(
        !world
            .objects
            .join("blobs/sha256")
            .join(aside.digest.hex())
            .exists()
    );
}
