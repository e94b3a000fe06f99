//! What `binpackage.tar` holds, as the file tree that unpacking it would make: names in memory, content in one
//! file. Because a later member may replace an earlier one and links are resolved here, all archives that
//! unpack to the same tree give the same [`Tree`]. `context` reads it, `layer` writes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::Error;
use crate::archive::{self, Kind, Limits, Member};
use crate::image_spec::{TopEntry, TopKind};
use crate::store::{self, Ingest};

/// The names are in memory, so their number and length are bounded (design D20).
const MOST_NAMES: usize = 250_000;
const MOST_NAME_BYTES: usize = 32 << 20;

/// The mode of directories that the archive implies without holding them.
pub(super) const DIRECTORY_MODE: u32 = 0o755;

/// A name's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// With its permission bits.
    Directory(u32),
    /// Several names may mean one file: hard links.
    File(FileId),
    /// With its target as written.
    Symlink(PathBuf),
}

/// A file of a [`Tree`], whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId(usize);

/// Where a file's content lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) mode: u32,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    files: Vec<Content>,
    contents: Ingest,
    name_bytes: usize,
}

impl Tree {
    /// Reads the archive `tar`, gzip or not; the content of its files goes to `contents`.
    ///
    /// # Errors
    /// [`Error::Context`] for a damaged archive, one that holds no file, or one that is no layer;
    /// [`Error::Store`].
    pub(super) fn read(tar: impl Read, contents: Ingest) -> Result<Self, Error> {
        let mut tree = Self {
            nodes: BTreeMap::new(),
            files: Vec::new(),
            contents,
            name_bytes: 0,
        };
        archive::read(tar, Limits::default(), |member, content| {
            tree.take(member, content)
        })
        .map_err(|error| match error {
            // Or it would read as if the outer archive were meant.
            Error::Archive(inner) => refused(inner.to_string()),
            error => error,
        })?;
        tree.complete()?;
        Ok(tree)
    }

    fn take(&mut self, member: &Member, content: &mut dyn Read) -> Result<(), Error> {
        let path = &member.path;
        if path
            .components()
            .any(|part| part.as_os_str().as_bytes().starts_with(b".wh."))
        {
            let reason = "in a layer, names that begin with .wh. delete files";
            return Err(refused_member(path, reason));
        }
        let node = match &member.kind {
            Kind::Directory => Node::Directory(member.mode),
            Kind::Symlink { target } => {
                self.name_bytes += target.as_os_str().len();
                Node::Symlink(target.clone())
            }
            Kind::Hardlink { target } => match self.nodes.get(target) {
                Some(node @ (Node::File(_) | Node::Symlink(_))) => node.clone(),
                _ => {
                    let reason = "a hard link to something that is no file before it";
                    return Err(refused_member(path, reason));
                }
            },
            Kind::File { .. } => {
                let offset = self.contents.len();
                // A failed read is reported by the archive itself, so what fails here is the store.
                let size = io::copy(content, &mut self.contents).map_err(copy_failed)?;
                self.files.push(Content {
                    offset,
                    size,
                    mode: member.mode,
                });
                Node::File(FileId(self.files.len() - 1))
            }
        };
        self.insert(path.clone(), node)
    }

    fn insert(&mut self, path: PathBuf, node: Node) -> Result<(), Error> {
        let bytes = path.as_os_str().len();
        if self.nodes.insert(path, node).is_none() {
            self.name_bytes += bytes;
        }
        if self.nodes.len() > MOST_NAMES {
            return Err(refused(format!("more than {MOST_NAMES} names")));
        }
        if self.name_bytes > MOST_NAME_BYTES {
            let reason = format!("more than {MOST_NAME_BYTES} bytes of names and link targets");
            return Err(refused(reason));
        }
        Ok(())
    }

    /// Adds the directories that are only implied, and makes sure that it is a tree, and not an empty one.
    fn complete(&mut self) -> Result<(), Error> {
        let mut implied = BTreeMap::new();
        let mut implied_bytes = 0;
        for path in self.nodes.keys() {
            for above in path.ancestors().skip(1) {
                if above.as_os_str().is_empty() || implied.contains_key(above) {
                    break;
                }
                match self.nodes.get(above) {
                    // Its own ancestors have their own turn.
                    Some(Node::Directory(_)) => break,
                    Some(_) => {
                        let reason = format!("{above:?}, above it, is not a directory");
                        return Err(refused_member(path, &reason));
                    }
                    None => {
                        implied_bytes += above.as_os_str().len();
                        implied.insert(above.to_owned(), Node::Directory(DIRECTORY_MODE));
                        if implied.len() > MOST_NAMES || implied_bytes > MOST_NAME_BYTES {
                            return Err(refused("too many directories".to_owned()));
                        }
                    }
                }
            }
        }
        for (path, node) in implied {
            self.insert(path, node)?;
        }
        if !self
            .nodes
            .values()
            .any(|node| matches!(node, Node::File(_)))
        {
            let reason = "it holds no file: the compile left nothing in /chaincode/output, and an image \
                          without a program could not be launched; see the compile's output";
            return Err(refused(reason.to_owned()));
        }
        if let Some(path) =
            (self.top()).find_map(|(path, _)| path.to_str().is_none().then_some(path))
        {
            return Err(refused_member(path, "the name is not UTF-8"));
        }
        Ok(())
    }

    /// All names, each directory before what is in it.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    pub(super) fn content(&self, file: FileId) -> Content {
        self.files[file.0]
    }

    /// The file in which the contents lie.
    pub(super) fn contents(&self) -> Result<File, Error> {
        Ok(self.contents.reader()?)
    }

    /// What lies directly in the root, sorted by name.
    pub(super) fn top_entries(&self) -> Vec<TopEntry> {
        self.top()
            .map(|(path, node)| TopEntry {
                name: path.to_string_lossy().into_owned(),
                kind: match node {
                    Node::Directory(_) => TopKind::Directory,
                    Node::File(_) => TopKind::File,
                    Node::Symlink(_) => TopKind::Symlink,
                },
            })
            .collect()
    }

    fn top(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes().filter(|(path, _)| {
            path.parent()
                .is_some_and(|above| above.as_os_str().is_empty())
        })
    }
}

/// The store's error inside one of `std::io`.
pub(super) fn copy_failed(error: io::Error) -> Error {
    Error::Store(match error.downcast::<store::Error>() {
        Ok(error) => error,
        Err(source) => store::Error::Io {
            action: "copying",
            path: PathBuf::from("binpackage.tar"),
            source,
        },
    })
}

fn refused(reason: String) -> Error {
    Error::Context(format!("binpackage.tar: {reason}"))
}

fn refused_member(path: &Path, reason: &str) -> Error {
    refused(format!("{path:?}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixtures::{Entry, Scratch, entries};

    async fn tree(members: &[Entry<'_>]) -> Result<Tree, Error> {
        let contents = Scratch::new().await.store.ingest().await.unwrap();
        Tree::read(entries(members).as_slice(), contents)
    }

    #[tokio::test]
    async fn the_tree_is_what_unpacking_would_make() {
        let tree = tree(&[
            Entry::File("b/deep/file", b"first"),
            Entry::Hardlink("a", "b/deep/file"),
            Entry::File("b/deep/file", b"second"),
            Entry::Symlink("c", "../anywhere"),
            Entry::Hardlink("d", "c"),
            Entry::Directory("./"),
        ])
        .await
        .unwrap();
        let names: Vec<_> = tree
            .nodes()
            .map(|(path, _)| path.to_str().unwrap())
            .collect();
        assert_eq!(names, ["a", "b", "b/deep", "b/deep/file", "c", "d"]);
        let node = |name: &str| tree.nodes[Path::new(name)].clone();
        assert_ne!(node("a"), node("b/deep/file"), "a keeps the replaced file");
        assert_eq!(node("c"), node("d"));
        assert_eq!(node("b"), Node::Directory(DIRECTORY_MODE));
        let kinds: Vec<_> = tree.top_entries().iter().map(|top| top.kind).collect();
        use TopKind::{Directory, File, Symlink};
        assert_eq!(kinds, [File, Directory, Symlink, Symlink]);
    }

    #[tokio::test]
    async fn what_is_no_layer_is_refused() {
        for (members, said) in [
            (vec![Entry::Directory("./")], "holds no file"),
            (
                vec![Entry::Directory("d"), Entry::Symlink("l", "d")],
                "holds no file",
            ),
            (vec![Entry::File("d/.wh.x", b"")], ".wh."),
            (vec![Entry::File(".wh..wh..opq/x", b"")], ".wh."),
            (
                vec![Entry::Symlink("l", "/etc"), Entry::File("l/passwd", b"x")],
                "not a directory",
            ),
            (
                vec![Entry::File("d/x", b"x"), Entry::File("d", b"x")],
                "not a directory",
            ),
            (vec![Entry::Hardlink("h", "nothing")], "hard link"),
            (
                vec![Entry::Directory("d"), Entry::Hardlink("h", "d")],
                "hard link",
            ),
        ] {
            let error = tree(&members).await.unwrap_err();
            assert!(matches!(error, Error::Context(_)), "{error:?}");
            assert!(error.to_string().contains(said), "{said}: {error}");
        }
    }

    #[tokio::test]
    async fn implied_directories_are_bounded_too() {
        let deep = |i: usize| format!("{i}/{}x", "d/".repeat(100));
        let paths: Vec<_> = (0..3000).map(deep).collect();
        let members: Vec<_> = paths.iter().map(|path| Entry::File(path, b"")).collect();
        let error = tree(&members).await.unwrap_err().to_string();
        assert!(error.contains("too many directories"), "{error}");
    }
}
