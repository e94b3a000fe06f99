//! Layers put over each other by copying, for hosts that cannot mount an overlay: what an overlay would show, in one
//! directory. Slower and larger, and told to the operator. [`super::root`] calls it.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use super::namespaces::Rights;
use super::tree;

/// Puts copies of `layers`, the topmost first, over each other into the directory `into`.
pub(super) fn all(layers: &[PathBuf], into: &Path, rights: Rights) -> io::Result<()> {
    for layer in layers.iter().rev() {
        let mut copy = Copy {
            rights,
            linked: HashMap::new(),
        };
        copy.directory(layer, into)?;
    }
    Ok(())
}

struct Copy {
    rights: Rights,
    /// Files with several names: what was made of the first.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    /// `into` is a directory.
    fn directory(&mut self, from: &Path, into: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            self.entry(&entry.path(), &into.join(entry.file_name()))?;
        }
        self.attributes(&fs::metadata(from)?, into)
    }

    fn entry(&mut self, from: &Path, into: &Path) -> io::Result<()> {
        let source = fs::symlink_metadata(from)?;
        let below = fs::symlink_metadata(into).ok();
        let merges = source.is_dir() && below.as_ref().is_some_and(Metadata::is_dir);
        match below {
            Some(below) if below.is_dir() && !merges => tree::remove(into)?,
            Some(_) if !merges => fs::remove_file(into)?,
            _ => {}
        }
        let kind = source.file_type();
        if kind.is_dir() {
            if !merges {
                fs::create_dir(into)?;
            }
            self.directory(from, into)
        } else if kind.is_symlink() {
            symlink(fs::read_link(from)?, into)?;
            self.owner(&source, into)
        } else if kind.is_file() {
            self.file(from, &source, into)
        } else if kind.is_char_device() && source.rdev() == 0 {
            // An overlay's mark for "removed", and so it is.
            Ok(())
        } else {
            // The runtime makes the devices that there are; a socket is nothing without its process.
            Ok(())
        }
    }

    fn file(&mut self, from: &Path, source: &Metadata, into: &Path) -> io::Result<()> {
        if source.nlink() > 1 {
            let identity = (source.dev(), source.ino());
            if let Some(first) = self.linked.get(&identity) {
                return fs::hard_link(first, into);
            }
            self.linked.insert(identity, into.to_owned());
        }
        fs::copy(from, into)?;
        self.attributes(source, into)
    }

    /// The owner first: the kernel takes the setuid bit away with a change of it.
    fn attributes(&self, source: &Metadata, into: &Path) -> io::Result<()> {
        self.owner(source, into)?;
        fs::set_permissions(into, source.permissions())
    }

    fn owner(&self, source: &Metadata, into: &Path) -> io::Result<()> {
        match self.rights {
            Rights::Root => lchown(into, Some(source.uid()), Some(source.gid())),
            Rights::User => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_upper_layer_wins_and_directories_merge() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for folder in ["low/etc", "low/was-dir/x", "up/etc", "root"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for (file, text) in [
            ("low/etc/a", "low"),
            ("low/etc/b", "low"),
            ("low/was-file", "low"),
            ("up/etc/b", "up"),
            ("up/was-dir", "up"),
        ] {
            fs::write(at(file), text).unwrap();
        }
        fs::create_dir(at("up/was-file")).unwrap();
        symlink("../outside", at("low/link")).unwrap();
        fs::hard_link(at("up/etc/b"), at("up/etc/c")).unwrap();
        fs::set_permissions(at("up/etc/b"), Permissions::from_mode(0o4711)).unwrap();
        let rights = match rustix::process::geteuid().is_root() {
            true => Rights::Root,
            false => Rights::User,
        };
        all(&[at("up"), at("low")], &at("root"), rights).unwrap();
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        assert_eq!(read("root/etc/a"), "low");
        assert_eq!(read("root/etc/b"), "up");
        assert_eq!(read("root/was-dir"), "up");
        assert!(at("root/was-file").is_dir());
        assert_eq!(
            fs::read_link(at("root/link")).unwrap(),
            Path::new("../outside")
        );
        let b = fs::metadata(at("root/etc/b")).unwrap();
        assert_eq!(b.ino(), fs::metadata(at("root/etc/c")).unwrap().ino());
        assert_eq!(b.mode() & 0o7777, 0o4711);
    }
}
