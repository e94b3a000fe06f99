//! The way of a blob into the bucket: from its file on the local volume, a part at a time, so that memory does not grow with it.
//! The bucket shows nothing before the end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::super::volume;
use super::Bucket;

/// The least that S3 takes as a part that is not the last one. A smaller blob is one request.
const PART: u64 = 5 << 20;
/// The most parts that S3 takes.
const MOST_PARTS: u64 = 10_000;
/// Parts in memory at once, over all uploads: 20 MiB.
pub(super) const AT_ONCE: usize = 4;

/// Why an upload ended.
pub(in crate::store) enum Stop {
    /// The file cannot be read.
    Volume(io::Error),
    /// The bucket does not take it.
    Bucket(object_store::Error),
}

impl From<object_store::Error> for Stop {
    fn from(error: object_store::Error) -> Self {
        Self::Bucket(error)
    }
}

/// An upload that is neither complete nor given up. It is given up when this is dropped, since its parts cost money: with the
/// future of a commit, too, that nobody waits for any more.
struct Begun(Option<Box<dyn MultipartUpload>>);

impl Drop for Begun {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            // Best effort, and nobody waits for it: the bucket's rule for incomplete uploads does the rest.
            runtime.spawn(async move { upload.abort().await });
        }
    }
}

impl Bucket {
    /// Makes the `size` bytes of `file` the object `key`. Durable when this returns; nothing is visible otherwise.
    pub(in crate::store) async fn upload(
        &self,
        objects: &Arc<dyn ObjectStore>,
        key: &Key,
        file: Arc<File>,
        size: u64,
    ) -> Result<(), Stop> {
        if size <= PART {
            let (payload, _memory) = self.part(&file, 0, size).await?;
            objects.put(key, payload).await?;
            return Ok(());
        }
        let mut begun = Begun(Some(objects.put_multipart(key).await?));
        let Some(upload) = &mut begun.0 else {
            return Ok(());
        };
        self.send(&mut **upload, &file, size).await?;
        if let Err(error) = upload.complete().await {
            // An earlier attempt may have done it, and its answer have been lost: the upload is unknown since then.
            match self.impatient.head(key).await {
                Ok(found) if found.size == size => {}
                _ => return Err(error.into()),
            }
        }
        begun.0 = None;
        Ok(())
    }

    async fn send(
        &self,
        upload: &mut dyn MultipartUpload,
        file: &Arc<File>,
        size: u64,
    ) -> Result<(), Stop> {
        let step = PART.max(size.div_ceil(MOST_PARTS));
        // Tasks, which go on while this one waits for memory: else all of it could be held by parts that do not move.
        let mut sending = JoinSet::new();
        let mut position = 0;
        while position < size {
            let length = step.min(size - position);
            let (payload, memory) = self.part(file, position, length).await?;
            let part = upload.put_part(payload);
            sending.spawn(async move {
                let sent = part.await;
                drop(memory);
                sent
            });
            position += length;
            while let Some(sent) = sending.try_join_next() {
                taken(sent)?;
            }
        }
        while let Some(sent) = sending.join_next().await {
            taken(sent)?;
        }
        Ok(())
    }

    /// Reads a part, once there is memory for it.
    async fn part(
        &self,
        file: &Arc<File>,
        position: u64,
        length: u64,
    ) -> Result<(PutPayload, OwnedSemaphorePermit), Stop> {
        let memory = Semaphore::acquire_owned(Arc::clone(&self.parts)).await;
        let memory = memory.map_err(|closed| Stop::Volume(io::Error::other(closed)))?;
        let file = Arc::clone(file);
        let read = volume::blocking(move || {
            let mut piece = vec![0; length as usize];
            file.read_exact_at(&mut piece, position)?;
            Ok(piece)
        });
        let piece = read.await.map_err(Stop::Volume)?;
        Ok((piece.into(), memory))
    }
}

fn taken(sent: Result<object_store::Result<()>, tokio::task::JoinError>) -> Result<(), Stop> {
    match sent {
        Ok(sent) => Ok(sent?),
        Err(error) => Err(Stop::Volume(io::Error::other(error))),
    }
}
