//! Archives on their way into containers: streamed, never whole in memory, and never a part that looks like the whole.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio_util::io::{ReaderStream, SyncIoBridge};

/// Bytes of an archive.
pub(super) type Body = BoxStream<'static, io::Result<Bytes>>;

/// Where an archive is written to.
pub(super) type Writer = tar::Builder<BufWriter<SyncIoBridge<tokio::io::DuplexStream>>>;

const BUFFER: usize = 64 << 10;

/// The archive that is in `file`.
pub(super) fn of_file(file: File) -> Body {
    ReaderStream::with_capacity(tokio::fs::File::from_std(file), BUFFER).boxed()
}

/// The archive that `write` makes. Where that fails the stream ends with the error, and so does the request.
pub(super) fn written(write: impl FnOnce(&mut Writer) -> io::Result<()> + Send + 'static) -> Body {
    let (reader, writer) = tokio::io::duplex(BUFFER);
    let writing = tokio::task::spawn_blocking(move || {
        let mut archive =
            tar::Builder::new(BufWriter::with_capacity(BUFFER, SyncIoBridge::new(writer)));
        write(&mut archive)?;
        archive.into_inner()?.flush()
    });
    let end = stream::once(writing).filter_map(|written| async {
        match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    ReaderStream::with_capacity(reader, BUFFER)
        .chain(end)
        .boxed()
}

/// Adds a directory.
pub(super) fn directory(archive: &mut Writer, path: &str, mode: u32) -> io::Result<()> {
    let mut header = header(tar::EntryType::Directory, mode, 0);
    archive.append_data(&mut header, relative(path), io::empty())
}

/// Adds a file of root's.
pub(super) fn file(archive: &mut Writer, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
    archive.append_data(&mut header, relative(path), content)
}

/// Adds the file that `from` names, executable for all.
pub(super) fn program(archive: &mut Writer, path: &str, from: &Path) -> io::Result<()> {
    let program = File::open(from)?;
    let length = program.metadata()?.len();
    let mut header = header(tar::EntryType::Regular, 0o755, length);
    archive.append_data(&mut header, relative(path), program.take(length))
}

/// Adds what the gzip-compressed archive in `layer` has below `directory`, by its path below that.
pub(super) fn below(archive: &mut Writer, layer: File, directory: &str) -> io::Result<()> {
    let directory = Path::new(relative(directory));
    let inside = |path: &Path| -> Option<std::path::PathBuf> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = path.strip_prefix(".").unwrap_or(path);
        let rest = path.strip_prefix(directory).ok()?;
        (!rest.as_os_str().is_empty()).then(|| rest.to_owned())
    };
    let mut layer = tar::Archive::new(GzDecoder::new(layer));
    for entry in layer.entries()? {
        let mut entry = entry?;
        let Some(path) = inside(&entry.path()?) else {
            continue;
        };
        let mut header = entry.header().clone();
        match header.entry_type() {
            tar::EntryType::Symlink => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                archive.append_link(&mut header, path, target)?;
            }
            tar::EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                let target = inside(&target).unwrap_or(target);
                archive.append_link(&mut header, path, target)?;
            }
            _ => archive.append_data(&mut header, path, &mut entry)?,
        }
    }
    Ok(())
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    let now = jiff::Timestamp::now().as_second();
    header.set_mtime(u64::try_from(now).unwrap_or(0));
    header
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    async fn collected(body: Body) -> io::Result<Vec<u8>> {
        let parts: Vec<Bytes> = body.try_collect().await?;
        Ok(parts.concat())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_written_arrives_and_what_fails_is_told() {
        let body = written(|archive| {
            directory(archive, "/run/peitho", 0o755)?;
            file(archive, "/run/peitho/a", 0o600, &[7; 200_000])
        });
        let bytes = collected(body).await.unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["run/peitho", "run/peitho/a"]);
        let broken = written(|archive| {
            file(archive, "/a", 0o600, b"a")?;
            program(archive, "/b", Path::new("/no/such/program"))
        });
        let error = collected(broken).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_layer_is_taken_below_its_destination() {
        let mut layer = tar::Builder::new(flate2::write::GzEncoder::new(
            tempfile::tempfile().unwrap(),
            flate2::Compression::fast(),
        ));
        let mut dir = header(tar::EntryType::Directory, 0o755, 0);
        layer
            .append_data(&mut dir, "usr/local/bin", io::empty())
            .unwrap();
        let mut one = header(tar::EntryType::Regular, 0o755, 3);
        layer
            .append_data(&mut one, "usr/local/bin/chaincode", &b"abc"[..])
            .unwrap();
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        layer
            .append_link(&mut link, "usr/local/bin/cc", "chaincode")
            .unwrap();
        let mut other = header(tar::EntryType::Regular, 0o644, 1);
        layer
            .append_data(&mut other, "usr/local/binary", &b"x"[..])
            .unwrap();
        let mut file = layer.into_inner().unwrap().finish().unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let body = written(move |archive| below(archive, file, "/usr/local/bin"));
        let bytes = collected(body).await.unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let members: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.size())
            })
            .collect();
        assert_eq!(members, [("chaincode".to_owned(), 3), ("cc".to_owned(), 0)]);
    }
}
