//! Spools are local, wherever the objects are.

use super::*;

async fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    (directory, store)
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
    assert_eq!(files(directory.path()), ["ingest/lock", "layout.json"]);
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
