//! Layers of a base for somebody else, as they come: for a push to another registry, and for whoever pulls an image that
//! stands on the base. Never whole in memory. A layer that is brought whole ends in an error, and without its last piece,
//! when it is not what its digest says; a part of one is as good as its registry, and whoever puts it together checks.

use std::fs::File;
use std::io;
use std::ops::Range;

use bytes::{Buf as _, Bytes};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use oci_client::client::{BlobResponse, LayerDescriptor};
use oci_client::errors::{DigestError, OciDistributionError};

use super::answer::Refusal;
use super::{Registries, held, reference, tell_passed_over};
use crate::names::ImageName;
use crate::store::{self, Blob};

/// Bytes on their way.
pub(super) type Content = BoxStream<'static, io::Result<Bytes>>;

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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Registries {
    /// The bytes `span` of `layer`, one of `base`: of the store where the base is held, else of its registry. What else the
    /// store has under that digest is not for who only names it (design D4).
    ///
    /// # Errors
    /// [`LayerError`].
    pub async fn layer_of(
        &self,
        base: &ImageName,
        layer: &Blob,
        span: Range<u64>,
    ) -> Result<LayerContent, LayerError> {
        let store = &self.0.store;
        let held = held::get(store, base).await?;
        let is_held = held.is_some_and(|image| image.layers.iter().any(|it| it.blob == *layer));
        if is_held && let Some((file, _)) = store.open_blob(&layer.digest).await? {
            return Ok(LayerContent::Held(file));
        }
        let brought = self.bring(base, None, layer, span).await;
        let brought = brought.map_err(|refusal| LayerError::OutOfReach {
            cause: refusal.to_string(),
        })?;
        Ok(LayerContent::Brought(brought))
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
        let last = self.0.places.of(base);
        let mirrors = self.0.places.mirrors(base);
        let first = source.filter(|source| **source != last);
        let others = mirrors.iter().filter(|mirror| Some(*mirror) != first);
        for place in first.into_iter().chain(others) {
            match self.bring_of(base, place, layer, span.clone()).await {
                Ok(brought) => return Ok(brought),
                Err(refusal) => tell_passed_over(base, place, &refusal),
            }
        }
        self.bring_of(base, &last, layer, span).await
    }

    async fn bring_of(
        &self,
        base: &ImageName,
        source: &ImageName,
        layer: &Blob,
        span: Range<u64>,
    ) -> Result<Content, Refusal> {
        let of_layer = |refusal: Refusal| {
            let told = |cause| format!("a layer of its base {base} cannot be read: {cause}");
            match refusal {
                Refusal::Passing(cause) => Refusal::Passing(told(cause)),
                Refusal::Missing(cause) | Refusal::Unknown(cause) => Refusal::Unknown(told(cause)),
            }
        };
        let told = |error: OciDistributionError| of_layer(error.into());
        let digest = layer.digest.to_string();
        let descriptor = LayerDescriptor {
            digest: &digest,
            urls: &None,
        };
        let (client, name) = (self.client(source), source);
        let source = reference(name);
        self.log_in(name, &source).await.map_err(of_layer)?;
        let length = span.end - span.start;
        let (content, skip) = if span == (0..layer.size) {
            let whole = client.pull_blob_stream(&source, &descriptor);
            (whole.await.map_err(told)?.stream, 0)
        } else {
            let part =
                client.pull_blob_stream_partial(&source, &descriptor, span.start, Some(length));
            match part.await.map_err(told)? {
                BlobResponse::Partial(part) => (part.stream, 0),
                // It knows no ranges.
                BlobResponse::Full(whole) => (whole.stream, span.start),
            }
        };
        let is_whole = length == layer.size;
        Ok(Passing::new(content, skip, length, is_whole).stream())
    }
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
    /// What the end shows: whether it is the true one.
    is_whole: bool,
}

impl Passing {
    fn new(content: Content, skip: u64, left: u64, is_whole: bool) -> Self {
        Self {
            // The library's end is told once: after it, it would hold nothing against the digest.
            content: content.fuse().boxed(),
            skip,
            left,
            held_back: None,
            is_whole,
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
            if self.left == 0 && !self.is_whole {
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
            if wanted < piece.len() && self.is_whole {
                let told = "a layer longer than its manifest says";
                return Err(io::Error::new(io::ErrorKind::InvalidData, told));
            }
            piece.truncate(wanted);
            self.left -= wanted as u64;
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
        is_whole: bool,
    ) -> (Vec<u8>, Option<String>) {
        let content = pieces.iter().map(|piece| match piece.len() {
            0 => Err(io::Error::other("not its digest")),
            _ => Ok(Bytes::from_static(piece)),
        });
        let content = stream::iter(content.collect::<Vec<_>>()).boxed();
        let mut passing = Passing::new(content, skip, left, is_whole).stream();
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
        let whole = async |pieces: &[&'static [u8]]| passed(pieces, (0, 6), true).await;
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
            let seen = passed(&[b"abc", b"def"], (skip, left), false).await;
            assert_eq!(seen, (part.as_bytes().to_vec(), None));
        }
        // What comes after it is not waited for.
        let seen = passed(&[b"abc", b""], (0, 3), false).await;
        assert_eq!(seen, (b"abc".to_vec(), None));
    }
}
