//! Bodies of requests: taken to the disk, read as JSON, and never left unread.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use secrecy::SecretBox;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::error::ApiError;
use crate::store::{self, Ingest, Store};

/// A peer's create request has some kilobytes.
const JSON_LIMIT: usize = 1 << 20;

/// What peers send into memory is smaller: orders and TLS files of some kilobytes.
const SMALL: usize = 64 << 10;

/// Permits for larger ones, of this whole process: with the limits of their lengths, they bound its memory.
static LARGE: Semaphore = Semaphore::const_new(32);

/// How long the rest of a body that nobody wanted is read before the connection is given up instead.
const REST: Duration = Duration::from_secs(5);

/// Why a body did not get to the disk.
#[derive(Debug)]
pub(super) enum SpoolError {
    /// It ended before its end: the client is gone, or gave up (protocol rule 8).
    Cut(axum::Error),
    /// It goes on beyond this many bytes.
    TooLong(u64),
    /// The store failed.
    Store(store::Error),
}

impl From<SpoolError> for ApiError {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Cut(cause) => cut(&cause),
            SpoolError::TooLong(limit) => too_long(limit),
            SpoolError::Store(error) => error.into(),
        }
    }
}

fn cut(cause: &axum::Error) -> ApiError {
    let message = "the request's body ended before its end";
    ApiError::caused_by(StatusCode::BAD_REQUEST, "body_cut", message, cause)
}

fn too_long(limit: u64) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_long",
        format!("the request's body is longer than {limit} bytes, which is the limit here"),
    )
}

fn crowded() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "bodies_in_memory",
        format!("too many bodies of more than {SMALL} bytes are read at once; try again"),
    )
}

/// Takes `body`, of at most `limit` bytes, to the disk, to its very end: no limit of time, since `/build` is silent
/// for a whole compile (protocol rule 6).
pub(super) async fn spool(mut body: Body, store: &Store, limit: u64) -> Result<Ingest, SpoolError> {
    let mut ingest = store.ingest().await.map_err(SpoolError::Store)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(SpoolError::Cut)?;
        if let Ok(bytes) = frame.into_data() {
            if ingest.len() + bytes.len() as u64 > limit {
                return Err(SpoolError::TooLong(limit));
            }
            ingest.append(&bytes).await.map_err(SpoolError::Store)?;
        }
    }
    Ok(ingest)
}

/// Reads `body` into memory, where it may hold keys.
pub(super) async fn secret(body: Body, limit: usize) -> Result<SecretBox<Vec<u8>>, ApiError> {
    let bytes = whole(body, limit).await?;
    Ok(SecretBox::new(Box::new(bytes)))
}

/// Reads a body to its end. Slow ones are held for as long as their clients like, so that only so many may be large.
async fn whole(mut body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let mut permit = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| cut(&cause))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(too_long(limit as u64));
        }
        if length > SMALL && permit.is_none() {
            permit = Some(LARGE.try_acquire().map_err(|_| crowded())?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads `body` as JSON, whatever its Content-Type; an error names the field. It shows no text of the body: that may
/// be a password, and errors go into answers and logs.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = whole(body, JSON_LIMIT).await?;
    if bytes.is_empty() {
        return Err(ApiError::bad_request(
            "the request has no body; JSON is needed",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let wrong = |error: &str| ApiError::bad_request(format!("the request's JSON: {error}"));
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let told = without_value(&error.inner().to_string());
        match error.path().iter().next() {
            Some(_) => wrong(&format!("{}: {told}", error.path())),
            None => wrong(&told),
        }
    })?;
    json.end().map_err(|error| wrong(&error.to_string()))?;
    Ok(value)
}

/// The words of serde, `invalid type: string "value", expected a sequence`, without the value. It may hold
/// anything, but what is expected comes last.
fn without_value(told: &str) -> String {
    let is_of_value = told.starts_with("invalid type: ") || told.starts_with("invalid value: ");
    match (told.split_once(['"', '`']), told.rsplit_once(", expected ")) {
        (Some((kind, _)), Some((_, expected))) if is_of_value => {
            format!("{}, expected {expected}", kind.trim_end())
        }
        _ => told.to_owned(),
    }
}

/// A layer: what a handler left unread of its request's body is read before the answer goes out. A client that
/// is still sending would otherwise meet a closed connection instead of the answer, and moby would send its
/// next request into it. What does not end soon costs the connection.
pub(super) async fn leave_no_rest(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let rest = Rest::default();
    let request = request.map(|body| {
        Body::new(Lent {
            body: Some(body),
            rest: rest.clone(),
        })
    });
    let mut response = next.run(request).await;
    if let Some(mut body) = rest.take() {
        let read = async { while let Some(Ok(_)) = body.frame().await {} };
        if tokio::time::timeout(REST, read).await.is_err() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
    response
}

/// Where a handler's body goes when it is dropped before its end.
#[derive(Clone, Default)]
struct Rest(Arc<Mutex<Option<Body>>>);

impl Rest {
    fn take(&self) -> Option<Body> {
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Body>> {
        self.0.lock().expect("nothing panics while it holds a body")
    }
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Option<Body>,
    rest: Rest,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.rest.slot() = Some(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_longer_than_the_limit_does_not_stay() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let sent = |bytes: usize| {
            let pieces = (0..bytes).map(|_| Ok::<_, std::convert::Infallible>("x"));
            spool(
                Body::from_stream(futures::stream::iter(pieces)),
                &store,
                1000,
            )
        };
        assert_eq!(sent(1000).await.unwrap().len(), 1000);
        let error = sent(1001).await.unwrap_err();
        let error = format!("{:?}", ApiError::from(error));
        assert!(error.contains("longer than 1000 bytes"), "{error}");
        let left: Vec<_> = std::fs::read_dir(directory.path().join("ingest"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["lock"]);
    }
}
