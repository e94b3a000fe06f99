//! What a run of a compile told, for all suites that have runs.

use peitho::compile::{End, Run};

/// Its log, once that is whole.
pub(crate) async fn log(run: &Run) -> String {
    let mut reader = run.log.reader();
    let mut text = Vec::new();
    while let Some(bytes) = reader.next().await.unwrap() {
        text.extend_from_slice(&bytes);
    }
    String::from_utf8(text).unwrap()
}

/// How it ended, once it did.
pub(crate) async fn end(run: &Run) -> End {
    let mut end = run.end.clone();
    let end = end.wait_for(Option::is_some).await.unwrap();
    end.clone().unwrap()
}
