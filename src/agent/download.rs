//! A layer on its way from Peitho into the volume: hashed as it comes, and never unpacked before its digest is true. A
//! download that was cut goes on where it stopped, since a node far away may never get a large layer in one piece. `fetch`
//! calls it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::client::{self, ANSWER, Client, patiently};
use super::fetch::{Error, volume};
use crate::names::{Digest, Hasher};

/// What counts as progress, in bytes. A line that brings less each time is given pauses, and up in the end: a launch would
/// consist of handshakes.
const PROGRESS: u64 = 1 << 20;

/// How long things may take on the way.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Peitho may be away, or bring hardly anything new, before the launch fails with the reason.
    pub patience: Duration,
    /// A connection may be silent in the middle of an answer, before another one goes on. TCP alone notices nothing when a
    /// proxy or the server's process stands still.
    pub silence: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(2 * 60),
            silence: ANSWER,
        }
    }
}

/// The layer `digest`, as a file without a name in the directory `into`.
///
/// # Errors
/// When it does not come, or comes damaged twice: something on the way may have changed bytes, and Peitho itself will do so
/// again.
pub(super) async fn layer(
    client: &Client,
    digest: &Digest,
    into: &Path,
    bounds: Bounds,
) -> Result<File, Error> {
    match whole(client, digest, into, bounds).await {
        Err(error @ Error::Mismatch { .. }) => {
            tracing::warn!(%error, "fetches the layer once more");
            whole(client, digest, into, bounds).await
        }
        fetched => fetched,
    }
}

async fn whole(
    client: &Client,
    digest: &Digest,
    into: &Path,
    bounds: Bounds,
) -> Result<File, Error> {
    let path = format!("/v2/layer/blobs/{digest}");
    let file = tempfile::tempfile_in(into).map_err(volume(into))?;
    // One attempt after the other has it.
    let download = Mutex::new(Download {
        file: tokio::fs::File::from_std(file),
        hasher: Hasher::default(),
        have: 0,
        counted: 0,
        silence: bounds.silence,
    });
    let is_passing = |error: &Error| matches!(error, Error::Client(error) if error.is_passing());
    let attempt = || async {
        let mut download = download.lock().await;
        download.append_rest(client, &path, into).await
    };
    while let Came::Part(error) = patiently(bounds.patience, is_passing, attempt).await? {
        tracing::info!(%error, "goes on with what is missing");
    }
    let Download {
        mut file, hasher, ..
    } = download.into_inner();
    file.flush().await.map_err(volume(into))?;
    let actual = hasher.finish();
    match actual == *digest {
        true => Ok(file.into_std().await),
        false => Err(Error::Mismatch {
            expected: *digest,
            actual,
        }),
    }
}

struct Download {
    file: tokio::fs::File,
    /// Of what is in the file.
    hasher: Hasher,
    /// Bytes in the file.
    have: u64,
    /// How many there were when progress was told last.
    counted: u64,
    /// How long there may be none.
    silence: Duration,
}

/// What an attempt brought.
enum Came {
    /// All that was missing.
    Rest,
    /// Before it broke, [`PROGRESS`] since the last time.
    Part(client::Error),
}

impl Download {
    /// Asks for what is missing.
    ///
    /// # Errors
    /// When too little new came, or the volume refuses.
    async fn append_rest(
        &mut self,
        client: &Client,
        path: &str,
        into: &Path,
    ) -> Result<Came, Error> {
        let answer = client.get_from(path, self.have).await;
        let answer = match answer {
            // There is no more; the digest will tell whether that is true.
            Err(client::Error::Refused { status, .. })
                if status == StatusCode::RANGE_NOT_SATISFIABLE && self.have > 0 =>
            {
                return Ok(Came::Rest);
            }
            answer => answer?,
        };
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            self.begin_anew(into).await?;
        } else if first_byte(answer.headers()) != Some(self.have) {
            self.begin_anew(into).await?;
            let told = "the answer is not the part that was asked for";
            return Err(client.broken(path, told).into());
        }
        let mut body = answer.into_body();
        loop {
            let frame = match timeout(self.silence, body.frame()).await {
                Ok(None) => return Ok(Came::Rest),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return self.broken(client.broken(path, error.to_string())),
                Err(_) => {
                    let told = format!("nothing came for {:?}", self.silence);
                    return self.broken(client.broken(path, told));
                }
            };
            if let Ok(bytes) = frame.into_data() {
                self.file.write_all(&bytes).await.map_err(volume(into))?;
                self.hasher.update(&bytes);
                self.have += bytes.len() as u64;
            }
        }
    }

    fn broken(&mut self, error: client::Error) -> Result<Came, Error> {
        // Where a server sends all of it each time, the same bytes are no progress.
        if self.have < self.counted + PROGRESS {
            return Err(error.into());
        }
        self.counted = self.have;
        Ok(Came::Part(error))
    }

    async fn begin_anew(&mut self, into: &Path) -> Result<(), Error> {
        self.file.set_len(0).await.map_err(volume(into))?;
        self.file.rewind().await.map_err(volume(into))?;
        self.hasher = Hasher::default();
        self.have = 0;
        Ok(())
    }
}

/// Where the part in an answer begins: `bytes 5-9/10`.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}
