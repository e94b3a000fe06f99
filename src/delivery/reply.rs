//! The answer to a request for a blob or a part of it: its head by what was asked, its body from the disk or from a
//! registry as it comes.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http::response::Builder;
use http::{HeaderMap, Method, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::failure::Failure;
use super::range::{Asked, asked};
use super::{CHUNK, CONTENT_DIGEST, Counters, Delivery, Kind};
use crate::registry::LayerContent;
use crate::store::{self, Blob};

/// An answer that lacks its content.
pub(super) struct Reply {
    blob: Blob,
    counters: Arc<Counters>,
    asked: Asked,
    has_body: HasBody,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HasBody {
    Yes,
    /// An answer to `HEAD`.
    No,
}

impl Delivery {
    /// For a request about `blob`.
    pub(super) fn reply(&self, method: &Method, headers: &HeaderMap, blob: &Blob) -> Reply {
        let tag = format!("\"{}\"", blob.digest);
        Reply {
            blob: *blob,
            counters: Arc::clone(&self.counters),
            asked: asked(method, headers, blob.size, &tag),
            has_body: match *method == Method::HEAD {
                true => HasBody::No,
                false => HasBody::Yes,
            },
        }
    }
}

impl Reply {
    /// The bytes that are to be sent; `None` where it has no content.
    pub(super) fn span(&self) -> Option<Range<u64>> {
        match &self.asked {
            _ if self.has_body == HasBody::No => None,
            Asked::Whole => Some(0..self.blob.size),
            Asked::Part(span) => Some(span.clone()),
            Asked::Nothing => None,
        }
    }

    /// Where there is no content.
    pub(super) fn without_content(&self) -> Response {
        let size = self.blob.size;
        let head = match self.asked {
            Asked::Nothing => Response::builder()
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::CONTENT_RANGE, format!("bytes */{size}"))
                .header(header::CONTENT_LENGTH, 0),
            _ => self.head(),
        };
        head.body(Body::empty())
            .expect("numbers and digests are valid values")
    }

    /// With `content`: all of the blob where it is a file, else what [`span`](Self::span) says.
    pub(super) async fn with(self, content: LayerContent, kind: Kind) -> Result<Response, Failure> {
        let span = self.span().unwrap_or_default();
        let body = match content {
            LayerContent::Held(file) => {
                let mut file = tokio::fs::File::from_std(file);
                let found = file.seek(io::SeekFrom::Start(span.start)).await;
                found.map_err(|error| unreadable(&self.blob, error))?;
                let part = file.take(span.end - span.start);
                let part = ReaderStream::with_capacity(part, CHUNK);
                Body::from_stream(self.counters.counted(part, kind))
            }
            LayerContent::Brought(content) => {
                Body::from_stream(self.counters.counted(content, kind))
            }
        };
        let head = self.head();
        Ok(head
            .body(body)
            .expect("numbers and digests are valid values"))
    }

    fn head(&self) -> Builder {
        let (digest, size) = (self.blob.digest.to_string(), self.blob.size);
        let head = Response::builder()
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::ACCEPT_RANGES, "bytes")
            .header(header::ETAG, format!("\"{digest}\""))
            .header(CONTENT_DIGEST, digest);
        match &self.asked {
            Asked::Part(Range { start, end }) => head
                .status(StatusCode::PARTIAL_CONTENT)
                .header(
                    header::CONTENT_RANGE,
                    format!("bytes {start}-{}/{size}", end - 1),
                )
                .header(header::CONTENT_LENGTH, end - start),
            Asked::Whole | Asked::Nothing => head.header(header::CONTENT_LENGTH, size),
        }
    }
}

impl Counters {
    /// The same, counted as it goes.
    pub(super) fn counted(
        self: &Arc<Self>,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        kind: Kind,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let counters = Arc::clone(self);
        let mut begun = false;
        content.inspect_ok(move |bytes| {
            if !std::mem::replace(&mut begun, true) {
                counters.begun(kind);
            }
            counters.sent(kind, bytes.len());
        })
    }
}

fn unreadable(blob: &Blob, source: io::Error) -> Failure {
    let error = store::Error::Io {
        action: "reading",
        path: blob.digest.to_string().into(),
        source,
    };
    error.into()
}
