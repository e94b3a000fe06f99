//! What strangers may send: every refusal is Docker's in form and says what is wrong, and nothing of what was refused
//! is left, in the store or in the cluster.

mod build;
mod create;
mod handshake;
mod tars;
mod upload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;

use super::world::{Answer, World};

impl World {
    /// Every file of the store, with its length.
    fn listing(&self) -> BTreeMap<PathBuf, u64> {
        fn walk(directory: &Path, found: &mut BTreeMap<PathBuf, u64>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), found),
                    false => {
                        // It may be gone since: a request that was given up is over when its answer is.
                        let length = entry.metadata().map(|metadata| metadata.len());
                        found.extend(length.ok().map(|length| (entry.path(), length)));
                    }
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.directory, &mut found);
        found
    }

    /// Sends `body` and asserts that it is refused with `status`, that the message holds `said`, and that nothing
    /// of it is left.
    async fn refuses(&self, method: &str, target: &str, body: &[u8], status: u16, said: &str) {
        let before = self.listing();
        let answer = self.send(method, target, body).await;
        self.has_refused(&answer, status, said, &before);
    }

    fn has_refused(
        &self,
        answer: &Answer,
        status: u16,
        said: &str,
        before: &BTreeMap<PathBuf, u64>,
    ) {
        assert_eq!(answer.status, status, "{said}: {answer:?}");
        let message = answer.message();
        assert!(message.contains(said), "{said}: {message}");
        assert!(message.len() < 8 << 10, "{said}: {} bytes", message.len());
        assert_eq!(self.listing(), *before, "{said}");
    }

    /// Sends a chunked request whose body is `sent`, as it stands on the wire, and then nothing more; gives the answer.
    async fn cut(&self, method: &str, target: &str, sent: &[u8]) -> Answer {
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut stream = self.open(&head).await;
        stream.write_all(sent).await.unwrap();
        stream.shutdown().await.unwrap();
        Answer::read(&mut stream).await
    }
}

/// `body` in chunks of `size`, without the last one, which is empty.
fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in body.chunks(size) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}
