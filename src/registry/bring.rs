//! Layers of a base for somebody else, as they come: for a push to another registry, and for whoever pulls an image that
//! stands on the base. Never whole in memory. A layer that is brought whole ends in an error, and without its last piece,
//! when it is not what its digest says; a part of one is as good as its registry, and whoever puts it together checks.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use oci_client::client::{BlobResponse, LayerDescriptor};
use oci_client::errors::DigestError;
use tokio::sync::Semaphore;

use super::answer::{Refusal, asked_for_as};
use super::{Registries, held, outside, reference};
use crate::names::ImageName;
use crate::store::{self, Blob};

/// Bytes on their way.
pub(super) type Content = BoxStream<'static, io::Result<Bytes>>;

/// So many layers pass through at once, each with a connection on both sides: clients of people ask for three to six.
const MOST: usize = 64;

/// How many more may pass.
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// Where a layer of a base comes from.
pub enum LayerContent {
    /// The base is held: the whole layer, at its first byte.
    Held(File),
    /// Its registry sends what was asked for.
    Brought(Content),
}

/// Why a layer of a base cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Its registry does not give it: who says so, and why.
    #[error("{cause}; pull again when that is mended")]
    OutOfReach {
        /// Names the base.
        cause: String,
    },
    /// The base was brought anew under its name, as another image, and nobody gives the old one.
    #[error(
        "{cause}; the {base} that Peitho holds is another image than the one that was built on: bring that one once more, \
         with `peitho images import FILE --name` and a name of its own, or install again"
    )]
    Replaced {
        /// The base.
        base: ImageName,
        /// What its registry says.
        cause: String,
    },
    /// As many layers are on their way already as may be.
    #[error(
        "{MOST} layers of base images are on their way to others already; pull again in a moment"
    )]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Registries {
    /// The bytes `span` of `layer`, one of `base`: of the store where it has what came from outside under that digest, else of
    /// the base's registry. What else the store has is not for who only names it (design D4).
    ///
    /// # Errors
    /// [`LayerError`].
    pub async fn layer_of(
        &self,
        base: &ImageName,
        layer: &Blob,
        span: Range<u64>,
    ) -> Result<LayerContent, LayerError> {
        if let Some(file) = self.held_layer(base, layer).await? {
            return Ok(LayerContent::Held(file));
        }
        let room = Arc::clone(&self.0.room.0);
        let permit = room.try_acquire_owned().map_err(|_| LayerError::Busy)?;
        let brought = self.bring(base, None, layer, span).await;
        match brought {
            // It has its place until it is dropped.
            Ok(brought) => Ok(LayerContent::Brought(
                brought.inspect(move |_| _ = &permit).boxed(),
            )),
            Err(refusal) => {
                let cause = refusal.to_string();
                let base = base.clone();
                Err(match held::get(&self.0.store, &base).await? {
                    Some(image) if !image.has(layer) => LayerError::Replaced { base, cause },
                    _ => LayerError::OutOfReach { cause },
                })
            }
        }
    }

    /// `layer`, one of `base`, where the store has it and it may be had: it came from outside, if only with another base, or
    /// with what was under this name before.
    pub(super) async fn held_layer(
        &self,
        base: &ImageName,
        layer: &Blob,
    ) -> Result<Option<File>, store::Error> {
        let store = &self.0.store;
        let is_known = outside::has(store, layer).await?
            || (held::get(store, base).await?).is_some_and(|image| image.has(layer));
        if !is_known {
            return Ok(None);
        }
        let found = store.open_blob(&layer.digest).await?;
        Ok(found.map(|(file, _)| file))
    }

    /// The same of the first place that has it, whatever is held: of `source`, where the base was found, and then of its mirrors
    /// and of where it is for everybody. A mirror may have an image and not what is in it.
    pub(super) async fn bring(
        &self,
        base: &ImageName,
        source: Option<&ImageName>,
        layer: &Blob,
        span: Range<u64>,
    ) -> Result<Content, Refusal> {
        let span = &span;
        let work = |place: ImageName, _| async move {
            Ok::<_, Infallible>(self.bring_of(base, &place, layer, span.clone()).await)
        };
        let Ok(brought) = self.first_that_has(base, source, work).await;
        brought
    }

    /// It begins within the time of a look-up.
    async fn bring_of(
        &self,
        base: &ImageName,
        source: &ImageName,
        layer: &Blob,
        span: Range<u64>,
    ) -> Result<Content, Refusal> {
        let begun = self.begin(base, source, layer, span);
        let begun = tokio::time::timeout(self.0.timeout, begun).await;
        begun.unwrap_or_else(|_| {
            let (host, limit) = (source.registry(), self.0.timeout.as_secs());
            let told = format!("{host} sent nothing of it within {limit} s");
            Err(Refusal::Passing(unreadable(base, &told)))
        })
    }

    async fn begin(
        &self,
        base: &ImageName,
        source: &ImageName,
        layer: &Blob,
        span: Range<u64>,
    ) -> Result<Content, Refusal> {
        let end = match span == (0..layer.size) {
            true => End::Whole,
            false => End::Part,
        };
        let content = self.open(source, layer, span, end).await;
        let content =
            content.map_err(|refusal| refusal.of_part(|cause| unreadable(base, cause)))?;
        if source == base {
            return Ok(content);
        }
        // Who is told of it knows the base by its own name.
        let place = source.clone();
        Ok(content
            .map_err(move |error| told_at(&place, &error))
            .boxed())
    }
}

impl Registries {
    /// The bytes `span` of `layer` as the registry of `name` sends them.
    pub(super) async fn open(
        &self,
        name: &ImageName,
        layer: &Blob,
        span: Range<u64>,
        end: End,
    ) -> Result<Content, Refusal> {
        let digest = layer.digest.to_string();
        let descriptor = LayerDescriptor {
            digest: &digest,
            urls: &None,
        };
        let (client, reference) = (self.client(name), reference(name));
        // A token may have run out since the last time.
        self.log_in(name, &reference).await?;
        let length = span.end - span.start;
        let (content, skip) = if span == (0..layer.size) {
            let whole = client.pull_blob_stream(&reference, &descriptor);
            (whole.await?.stream, 0)
        } else {
            let part =
                client.pull_blob_stream_partial(&reference, &descriptor, span.start, Some(length));
            match part.await? {
                BlobResponse::Partial(part) => (part.stream, 0),
                // It knows no ranges.
                BlobResponse::Full(whole) => (whole.stream, span.start),
            }
        };
        Ok(Passing::new(content, skip, length, end).stream())
    }
}

/// The error with the place that it came from, of the same kind.
fn told_at(place: &ImageName, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), asked_for_as(&error.to_string(), place))
}

pub(super) fn unreadable(base: &ImageName, cause: &str) -> String {
    format!("a layer of its base {base} cannot be read: {cause}")
}

/// What is at the end of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// That of a whole layer: the library holds it against its digest there, and the last piece waits for that.
    Whole,
    /// More of the layer: what comes after is not waited for.
    Part,
    /// That of a layer of which somebody has the beginning, and holds it against its digest himself.
    Rest,
}

/// What comes of a registry, held against the length that was promised.
struct Passing {
    content: Content,
    /// To be left out.
    skip: u64,
    /// Still wanted.
    left: u64,
    /// The piece that is held back, as it may be the last one.
    held_back: Option<Bytes>,
    /// What the end shows.
    end: End,
}

impl Passing {
    fn new(content: Content, skip: u64, left: u64, end: End) -> Self {
        Self {
            // The library's end is told once: after it, it would hold nothing against the digest.
            content: content.fuse().boxed(),
            skip,
            left,
            held_back: None,
            end,
        }
    }

    fn stream(self) -> Content {
        stream::try_unfold(self, |mut this| async move {
            Ok(this.next().await?.map(|piece| (piece, this)))
        })
        .boxed()
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            // The library holds the whole against the digest, and says so at its end.
            if self.left == 0 && self.end != End::Whole {
                return Ok(self.held_back.take());
            }
            let Some(mut piece) = self.content.try_next().await.map_err(judged)? else {
                return match self.left {
                    0 => Ok(self.held_back.take()),
                    left => Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("the registry ended a layer early, {left} bytes before its end"),
                    )),
                };
            };
            let skipped = fitting(self.skip, piece.len());
            piece.advance(skipped);
            self.skip -= skipped as u64;
            let wanted = fitting(self.left, piece.len());
            if wanted < piece.len() && self.end != End::Part {
                let told = "a layer longer than its manifest says";
                return Err(io::Error::new(io::ErrorKind::InvalidData, told));
            }
            piece.truncate(wanted);
            self.left -= wanted as u64;
            if !piece.is_empty() && self.end == End::Rest {
                return Ok(Some(piece));
            }
            if !piece.is_empty()
                && let Some(before) = self.held_back.replace(piece)
            {
                return Ok(Some(before));
            }
        }
    }
}

/// The error, its kind by whether asking again may help: what is not its digest is [`io::ErrorKind::InvalidData`].
fn judged(error: io::Error) -> io::Error {
    match error.get_ref() {
        Some(cause) if cause.is::<DigestError>() => {
            let told = format!("the registry sends a damaged layer: {error}");
            io::Error::new(io::ErrorKind::InvalidData, told)
        }
        _ => error,
    }
}

/// The smaller of the two.
fn fitting(bytes: u64, length: usize) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of `pieces`, and how it ends.
    async fn passed(
        pieces: &[&'static [u8]],
        (skip, left): (u64, u64),
        end: End,
    ) -> (Vec<u8>, Option<String>) {
        let content = pieces.iter().map(|piece| match piece.len() {
            0 => Err(io::Error::other("not its digest")),
            _ => Ok(Bytes::from_static(piece)),
        });
        let content = stream::iter(content.collect::<Vec<_>>()).boxed();
        let mut passing = Passing::new(content, skip, left, end).stream();
        let mut seen = Vec::new();
        loop {
            match passing.try_next().await {
                Ok(Some(piece)) => seen.extend_from_slice(&piece),
                Ok(None) => return (seen, None),
                Err(error) => return (seen, Some(error.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn the_last_piece_waits_for_the_end_to_be_true() {
        let whole = async |pieces: &[&'static [u8]]| passed(pieces, (0, 6), End::Whole).await;
        assert_eq!(whole(&[b"abc", b"def"]).await, (b"abcdef".to_vec(), None));
        for (pieces, passes, told) in [
            (&[b"abc", b"def", &b""[..]][..], "abc", "not its digest"),
            (&[b"abc", b"de"], "abc", "1 bytes before its end"),
            (&[b"abc", b"defg"], "", "longer than its manifest"),
            (&[b"abc", b"def", b"g"], "abc", "longer than its manifest"),
        ] {
            let (seen, error) = whole(pieces).await;
            assert_eq!(seen, passes.as_bytes(), "{told}");
            assert!(error.unwrap().contains(told), "{told}");
        }
    }

    #[tokio::test]
    async fn a_part_is_cut_out_where_the_registry_sends_all() {
        for (skip, left, part) in [(0, 2, "ab"), (2, 3, "cde"), (4, 2, "ef"), (3, 1, "d")] {
            let seen = passed(&[b"abc", b"def"], (skip, left), End::Part).await;
            assert_eq!(seen, (part.as_bytes().to_vec(), None));
        }
        // What comes after it is not waited for.
        let seen = passed(&[b"abc", b""], (0, 3), End::Part).await;
        assert_eq!(seen, (b"abc".to_vec(), None));
    }

    #[tokio::test]
    async fn all_that_came_of_a_rest_is_had_when_it_is_cut() {
        for (pieces, skip, passes, told) in [
            (&[b"abc", b"def", &b""[..]][..2], 0, "abcdef", None),
            (&[b"abc", b"def"], 3, "def", None),
            (&[b"abc", b"de"], 0, "abcde", Some("1 bytes before its end")),
            (&[b"abc", &b""[..]], 0, "abc", Some("not its digest")),
            (
                &[b"abc", b"defg"],
                0,
                "abc",
                Some("longer than its manifest"),
            ),
        ] {
            let left = 6 - skip;
            let (seen, error) = passed(pieces, (skip, left), End::Rest).await;
            assert_eq!(seen, passes.as_bytes(), "{told:?}");
            let is_told = match (told, &error) {
                (Some(told), Some(error)) => error.contains(told),
                (told, error) => told.is_none() && error.is_none(),
            };
            assert!(is_told, "{told:?}: {error:?}");
        }
    }
}
