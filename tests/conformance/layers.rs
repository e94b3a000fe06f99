//! The layers that the cases put into containers, member by member.

use peitho::image_spec::{Layer, TopEntry, TopKind};
use peitho::names::Digest;
use peitho::store::Store;

/// Where layers put their files.
pub(crate) const DESTINATION: &str = "/usr/local/bin";

/// The one program of most layers.
pub(crate) const ANSWER: Member<'_> =
    Member::File("answer", 0o755, "#!/bin/sh\necho the answer is 42\n");

/// A member of a layer, below [`DESTINATION`].
#[derive(Clone, Copy)]
pub(crate) enum Member<'a> {
    /// With its permission bits.
    File(&'a str, u32, &'a str),
    Directory(&'a str),
    /// With its target.
    Symlink(&'a str, &'a str),
}

impl Member<'_> {
    fn path(&self) -> &str {
        match self {
            Self::File(path, ..) | Self::Directory(path) | Self::Symlink(path, _) => path,
        }
    }

    fn append_to(&self, archive: &mut tar::Builder<Vec<u8>>, above: &str) {
        let path = format!("{above}{}", self.path());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        let appended = match self {
            Self::File(_, mode, content) => {
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, path, content.as_bytes())
            }
            Self::Directory(_) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                archive.append_data(&mut header, path, std::io::empty())
            }
            Self::Symlink(_, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(&mut header, path, target)
            }
        };
        appended.unwrap();
    }

    /// What it is at the top of the layer, where it lies there.
    fn top_entry(&self) -> Option<TopEntry> {
        let name = self.path();
        let kind = match self {
            Self::File(..) => TopKind::File,
            Self::Directory(_) => TopKind::Directory,
            Self::Symlink(..) => TopKind::Symlink,
        };
        (!name.contains('/')).then(|| TopEntry {
            name: name.to_owned(),
            kind,
        })
    }
}

/// A layer with these members, each directory before what is in it.
pub(crate) async fn layer(store: &Store, members: &[Member<'_>]) -> Layer {
    let mut archive = tar::Builder::new(Vec::new());
    for directory in ["usr", "usr/local", "usr/local/bin"] {
        Member::Directory(directory).append_to(&mut archive, "");
    }
    for member in members {
        member.append_to(&mut archive, "usr/local/bin/");
    }
    let plain = archive.into_inner().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &plain).unwrap();
    let mut ingest = store.ingest().await.unwrap();
    ingest.append(&packed.finish().unwrap()).await.unwrap();
    Layer {
        blob: store.commit(ingest).await.unwrap(),
        diff_id: Digest::of(&plain),
        destination: DESTINATION.to_owned(),
        entries: members.iter().filter_map(Member::top_entry).collect(),
    }
}
