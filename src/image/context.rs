//! The body of `/build`: a tar, gzip or not, with `Dockerfile` and `binpackage.tar`. Read once, from a file,
//! with nothing but the Dockerfile in memory. Blocks: `image` runs it beside the async runtime.

use std::io::{self, Read};

use super::Error;
use super::dockerfile::{self, BINPACKAGE, Dockerfile};
use super::tree::Tree;
use crate::archive::{self, Kind, Limits};
use crate::names::{Digest, Hasher};
use crate::store::Ingest;

/// A peer's is 250 bytes (protocol §3.3). What it sets is looked through for each variable, and stands in every
/// record and pod.
const LARGEST_DOCKERFILE: u64 = 64 << 10;

/// The two members and room for strangers; contents are bounded as everywhere.
const LIMITS: Limits = Limits {
    entries: 1_000,
    bytes: 16 << 30,
};

/// What a complete body holds.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) dockerfile: Dockerfile,
    /// The members of `binpackage.tar`.
    pub(super) tree: Tree,
    /// The digest of its bytes, which are those of the compile's output.
    pub(super) output: Digest,
}

/// Passes bytes on and hashes them.
struct Hashing<R> {
    from: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

/// Reads `body`; the content of the files goes to `contents`. Members other than the two are ignored, as
/// dockerd does.
///
/// # Errors
/// [`Error::Context`] for what is missing, [`Error::Archive`] for a damaged body, [`Error::Dockerfile`].
pub(super) fn read(body: &Ingest, contents: Ingest) -> Result<Context, Error> {
    let mut contents = Some(contents);
    let mut dockerfile = None;
    let mut tree = None;
    archive::read(body.reader()?, LIMITS, |member, content| {
        let name = match member.path.to_str() {
            Some(name @ ("Dockerfile" | BINPACKAGE)) => name,
            _ => return Ok(()),
        };
        let Kind::File { size } = member.kind else {
            return Err(Error::Context(format!("{name} is not a regular file")));
        };
        if name == BINPACKAGE {
            let contents = contents.take().ok_or_else(|| twice(name))?;
            let mut hashing = Hashing {
                from: content,
                hasher: Hasher::default(),
            };
            let read = Tree::read(&mut hashing, contents)?;
            // What comes after the archive's end counts too.
            io::copy(&mut hashing, &mut io::sink()).map_err(archive::Error::Unreadable)?;
            tree = Some((read, hashing.hasher.finish()));
        } else if dockerfile.is_some() {
            return Err(twice(name));
        } else {
            dockerfile = Some(text(size, content)?);
        }
        Ok(())
    })?;
    let dockerfile =
        dockerfile.ok_or_else(|| Error::Context("Dockerfile is missing".to_owned()))?;
    let (tree, output) = tree.ok_or_else(|| {
        // Protocol rule 8.
        let reason = "binpackage.tar is missing: that is how a peer's body ends when the compile of the \
                      chaincode failed; the compile's own output has the reason";
        Error::Context(reason.to_owned())
    })?;
    Ok(Context {
        dockerfile: dockerfile::parse(&dockerfile)?,
        tree,
        output,
    })
}

fn twice(name: &str) -> Error {
    Error::Context(format!("{name} is there twice"))
}

fn text(size: u64, content: &mut dyn Read) -> Result<String, Error> {
    if size > LARGEST_DOCKERFILE {
        let reason = format!("Dockerfile has {size} bytes, more than {LARGEST_DOCKERFILE}");
        return Err(Error::Context(reason));
    }
    let mut bytes = Vec::new();
    content
        .take(LARGEST_DOCKERFILE)
        .read_to_end(&mut bytes)
        .map_err(archive::Error::Unreadable)?;
    String::from_utf8(bytes).map_err(|_| Error::Context("Dockerfile is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::image::fixtures::{Scratch, tar};

    const DOCKERFILE: &[u8] = b"FROM base\nADD binpackage.tar /usr/local/bin";

    async fn read_bytes(bytes: &[u8]) -> Result<Context, Error> {
        let scratch = Scratch::new().await;
        let body = scratch.filled(bytes).await;
        read(&body, scratch.store.ingest().await.unwrap())
    }

    fn binpackage() -> Vec<u8> {
        tar(&[("chaincode", b"program")])
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn a_complete_body_is_read_gzip_or_plain_in_any_order() {
        let inner = binpackage();
        for body in [
            tar(&[("Dockerfile", DOCKERFILE), (BINPACKAGE, &inner)]),
            gzip(&tar(&[("Dockerfile", DOCKERFILE), (BINPACKAGE, &inner)])),
            tar(&[
                (BINPACKAGE, &gzip(&inner)),
                ("README", b"ignored"),
                ("Dockerfile", DOCKERFILE),
            ]),
        ] {
            let context = read_bytes(&body).await.unwrap();
            assert_eq!(context.dockerfile.destination, "/usr/local/bin");
            assert_eq!(context.tree.top_entries()[0].name, "chaincode");
        }
    }

    #[tokio::test]
    async fn what_a_peer_would_not_send_is_refused_with_its_cause() {
        let inner = binpackage();
        let whole = gzip(&tar(&[("Dockerfile", DOCKERFILE), (BINPACKAGE, &inner)]));
        let large = vec![b'#'; (LARGEST_DOCKERFILE + 1) as usize];
        for (body, said) in [
            (
                gzip(&tar(&[("Dockerfile", DOCKERFILE)])),
                "binpackage.tar is missing",
            ),
            (tar(&[(BINPACKAGE, &inner)]), "Dockerfile is missing"),
            (whole[..whole.len() - 20].to_vec(), "not a readable tar"),
            (b"not an archive".to_vec(), "not a readable tar"),
            (
                tar(&[("Dockerfile", DOCKERFILE), (BINPACKAGE, b"junk")]),
                "binpackage.tar: not a readable tar",
            ),
            (
                tar(&[
                    ("Dockerfile", DOCKERFILE),
                    (BINPACKAGE, &inner),
                    (BINPACKAGE, &inner),
                ]),
                "binpackage.tar is there twice",
            ),
            (
                tar(&[("Dockerfile", b"FROM a"), ("Dockerfile", DOCKERFILE)]),
                "Dockerfile is there twice",
            ),
            (
                tar(&[("Dockerfile", &large), (BINPACKAGE, &inner)]),
                "more than 65536",
            ),
            (
                tar(&[("Dockerfile", b"\xff"), (BINPACKAGE, &inner)]),
                "not UTF-8",
            ),
            (
                tar(&[("Dockerfile", b"RUN x"), (BINPACKAGE, &inner)]),
                "Dockerfile line 1",
            ),
        ] {
            let error = read_bytes(&body).await.unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
