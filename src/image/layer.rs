//! The one layer of a build: a tree below the destination of `ADD`, as gzip(tar) whose bytes depend on names,
//! permissions and content and on nothing else (design D3). Blocks: `image` runs it beside the async runtime.

mod gzip;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::Error;
use super::tree::{DIRECTORY_MODE, FileId, Node, Tree, copy_failed};
use crate::image_spec::{Layer, TopEntry};
use crate::names::{Digest, Hasher};
use crate::store::{Blob, Ingest};

/// A layer that is written but not yet in the store.
#[derive(Debug)]
pub(super) struct Draft {
    diff_id: Digest,
    destination: String,
    entries: Vec<TopEntry>,
}

impl Draft {
    /// The layer, once the store has its bytes.
    pub(super) fn stored(self, blob: Blob) -> Layer {
        Layer {
            blob,
            diff_id: self.diff_id,
            destination: self.destination,
            entries: self.entries,
        }
    }
}

/// Writes `tree` below `destination` to `to`; gives the bytes back with what they are.
///
/// The destination and what is above it come first, as directories of root with mode 0755: container
/// runtimes disagree about directories that a layer implies but does not hold.
///
/// # Errors
/// [`Error::Store`].
pub(super) fn write(
    tree: &Tree,
    destination: String,
    to: Ingest,
) -> Result<(Draft, Ingest), Error> {
    let root = PathBuf::from(destination.trim_start_matches('/'));
    let contents = tree.contents()?;
    let (diff_id, ingest) = write_layer(tree, contents, &root, to).map_err(copy_failed)?;
    let entries = tree.top_entries();
    let draft = Draft {
        diff_id,
        destination,
        entries,
    };
    Ok((draft, ingest))
}

fn write_layer(
    tree: &Tree,
    contents: File,
    root: &Path,
    to: Ingest,
) -> io::Result<(Digest, Ingest)> {
    gzip::compressed(to, |to| {
        let mut tar = tar::Builder::new(Hashing {
            inner: to,
            hasher: Hasher::default(),
        });
        write_members(&mut tar, tree, contents, root)?;
        Ok(tar.into_inner()?.hasher.finish())
    })
}

fn write_members(
    tar: &mut tar::Builder<impl Write>,
    tree: &Tree,
    contents: File,
    root: &Path,
) -> io::Result<()> {
    let mut above: Vec<&Path> = root.ancestors().collect();
    above.pop(); // the empty path
    for directory in above.into_iter().rev() {
        append_directory(tar, directory, DIRECTORY_MODE)?;
    }
    let mut contents = BufReader::with_capacity(64 << 10, contents);
    let mut position = 0_u64;
    // The first name of a file carries its content, in order of names, whichever came first in the archive.
    let mut written: HashMap<FileId, PathBuf> = HashMap::new();
    for (path, node) in tree.nodes() {
        let path = root.join(path);
        match node {
            Node::Directory(mode) => append_directory(tar, &path, *mode)?,
            Node::Symlink(target) => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, &path, target)?;
            }
            Node::File(file) => {
                let content = tree.content(*file);
                if let Some(first) = written.get(file) {
                    let mut header = header(EntryType::Link, content.mode, 0);
                    tar.append_link(&mut header, &path, first)?;
                    continue;
                }
                // Mostly the next byte: relative seeks keep what was read ahead.
                contents.seek_relative(content.offset.wrapping_sub(position).cast_signed())?;
                position = content.offset + content.size;
                let mut header = header(EntryType::Regular, content.mode, content.size);
                tar.append_data(&mut header, &path, contents.by_ref().take(content.size))?;
                written.insert(*file, path);
            }
        }
    }
    Ok(())
}

fn append_directory(tar: &mut tar::Builder<impl Write>, path: &Path, mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("/");
    tar.append_data(
        &mut header(EntryType::Directory, mode, 0),
        PathBuf::from(name),
        io::empty(),
    )
}

/// Owner 0, no owner's name, time 0: the zeros of an empty header.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Hashes what it passes on.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;
    use crate::image::fixtures::{Entry, Scratch, entries, stamped};

    /// The layer of an archive: its gzip bytes and what is said of it.
    async fn layer(archive: &[u8], destination: &str) -> (Vec<u8>, Draft) {
        let scratch = Scratch::new().await;
        let tree = Tree::read(archive, scratch.store.ingest().await.unwrap()).unwrap();
        let to = scratch.store.ingest().await.unwrap();
        let (draft, ingest) = write(&tree, destination.to_owned(), to).unwrap();
        let mut bytes = Vec::new();
        ingest.reader().unwrap().read_to_end(&mut bytes).unwrap();
        (bytes, draft)
    }

    fn unzipped(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    }

    /// Per member: path, type, mode, link target, content.
    fn listing(plain: &[u8]) -> Vec<(String, char, u32, String, String)> {
        let mut archive = tar::Archive::new(plain);
        let members = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!(header.mtime().unwrap(), 0);
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.username(), Ok(Some("")));
            assert_eq!(header.groupname(), Ok(Some("")));
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let link = entry.link_name_bytes().unwrap_or_default();
            (
                String::from_utf8(entry.path_bytes().into_owned()).unwrap(),
                char::from(header.entry_type().as_byte()),
                header.mode().unwrap(),
                String::from_utf8(link.into_owned()).unwrap(),
                content,
            )
        });
        members.collect()
    }

    #[tokio::test]
    async fn members_lie_sorted_below_the_destination() {
        let long = format!("d/{}", "n".repeat(150));
        let archive = entries(&[
            Entry::Directory("./"),
            Entry::File(&long, b"long"),
            Entry::File("chaincode", b"program"),
            Entry::Hardlink("also", "chaincode"),
            Entry::Symlink("d/up", "../chaincode"),
        ]);
        let (bytes, draft) = layer(&archive, "/usr/local/bin").await;
        let plain = unzipped(&bytes);
        assert_eq!(draft.diff_id, Digest::of(&plain));
        let member = |path: &str, kind, mode, link: &str, content: &str| {
            let path = path.to_owned();
            (path, kind, mode, link.to_owned(), content.to_owned())
        };
        let long = format!("usr/local/bin/{long}");
        let expected = [
            member("usr/", '5', 0o755, "", ""),
            member("usr/local/", '5', 0o755, "", ""),
            member("usr/local/bin/", '5', 0o755, "", ""),
            member("usr/local/bin/also", '0', 0o755, "", "program"),
            member(
                "usr/local/bin/chaincode",
                '1',
                0o755,
                "usr/local/bin/also",
                "",
            ),
            member("usr/local/bin/d/", '5', 0o755, "", ""),
            member(&long, '0', 0o755, "", "long"),
            member("usr/local/bin/d/up", '2', 0o777, "../chaincode", ""),
        ];
        assert_eq!(listing(&plain), expected);
        let names: Vec<_> = draft.entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["also", "chaincode", "d"]);
        assert_eq!(bytes[4..8], [0; 4], "gzip's own time");
    }

    #[tokio::test]
    async fn which_of_two_hard_links_came_first_does_not_matter() {
        let one = entries(&[Entry::File("a", b"x"), Entry::Hardlink("b", "a")]);
        let other = entries(&[Entry::File("b", b"x"), Entry::Hardlink("a", "b")]);
        assert_eq!(layer(&one, "/d").await.0, layer(&other, "/d").await.0);
    }

    fn files() -> impl Strategy<Value = BTreeMap<String, (Vec<u8>, u32)>> {
        let content = prop::collection::vec(any::<u8>(), 0..200);
        let mode = prop::sample::select(vec![0o644, 0o755, 0o600]);
        prop::collection::btree_map("[a-c]/[a-z]{1,3}", (content, mode), 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn order_times_and_owners_do_not_matter_but_content_does(
            files in files(), seed in any::<u64>(), time in 0..4_000_000_000_u64, owner in 0..70_000_u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let sorted: Vec<_> = files.into_iter().collect();
            let mut shuffled = sorted.clone();
            shuffled.sort_by_key(|(name, _)| {
                Digest::of(format!("{seed}{name}").as_bytes())
            });
            let (one, draft) = runtime.block_on(layer(&stamped(&sorted, 0, 0), "/x/y"));
            let (other, _) = runtime.block_on(layer(&stamped(&shuffled, time, owner), "/x/y"));
            prop_assert_eq!(Digest::of(&one), Digest::of(&other));
            let mut changed = sorted;
            changed[0].1.0.push(0);
            let (_, changed) = runtime.block_on(layer(&stamped(&changed, 0, 0), "/x/y"));
            prop_assert_ne!(draft.diff_id, changed.diff_id);
        }
    }
}
