//! `peitho agent fetch`: the init container of a chaincode pod. It brings the one layer that was built, checks
//! its digest before a byte is unpacked, and leaves the content of the layer's destination in a volume, from
//! where Kubernetes mounts it into the base image (design D5).

use std::fs::{self, File, Permissions};
use std::io::{self, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use super::client::{self, Client};
use super::download;
pub use super::download::Bounds;
use crate::archive::{self, Limits};
use crate::names::Digest;

/// Arguments of `peitho agent fetch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The delivery address of Peitho, https://host:port
    #[arg(long)]
    pub address: String,
    /// The digest of the layer, sha256:...
    #[arg(long)]
    pub digest: Digest,
    /// The directory that gets the content; temporary files lie there too
    #[arg(long)]
    pub into: PathBuf,
    /// The directory inside the layer whose content is wanted
    #[arg(long)]
    pub strip: PathBuf,
    /// A name that must be there in the end; may be given several times
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub expect: Vec<String>,
    /// The directory with `token` and `ca.crt`
    #[arg(long)]
    pub credentials: PathBuf,
}

/// Why a layer was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be fetched.
    #[error("fetching the layer: {0}")]
    Client(#[from] client::Error),
    /// What came is something else.
    #[error(
        "the layer is damaged: expected {expected}, received {actual}; run `peitho images verify` where the server is, and do what it says"
    )]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// It cannot be unpacked.
    #[error("unpacking the layer {digest}: {source}")]
    Unpack {
        /// The layer.
        digest: Digest,
        /// Why.
        source: archive::Error,
    },
    /// The volume refused.
    #[error("{path:?}: {source}")]
    Volume {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that would be mounted is not there. Kubernetes would make an empty directory in its place
    /// and start the chaincode (k8s-measurements §5).
    #[error("the layer {digest} has no {name:?} in {strip:?}, which was to be mounted")]
    Missing {
        /// The layer.
        digest: Digest,
        /// The name.
        name: String,
        /// Where it should be.
        strip: PathBuf,
    },
}

/// Fetches the layer and unpacks it.
///
/// # Errors
/// When anything of it failed; what lies in the directory then is of no use.
pub async fn run(args: Args) -> Result<(), Error> {
    run_within(args, Bounds::default()).await
}

/// The same, within other bounds than a pod's.
///
/// # Errors
/// As [`run`].
pub async fn run_within(args: Args, bounds: Bounds) -> Result<(), Error> {
    let client = Client::new(&args.address, &args.credentials)?;
    let layer = download::layer(&client, &args.digest, &args.into, bounds).await?;
    tokio::task::spawn_blocking(move || unpack(layer, &args))
        .await
        .expect("unpacking does not panic")
}

fn unpack(mut layer: File, args: &Args) -> Result<(), Error> {
    let into = &args.into;
    layer.rewind().map_err(volume(into))?;
    // On the same volume: from there it is renamed, not copied.
    let whole = tempfile::Builder::new()
        .prefix(".layer-")
        .tempdir_in(into)
        .map_err(volume(into))?;
    archive::unpack(&layer, Limits::default(), whole.path()).map_err(|source| Error::Unpack {
        digest: args.digest,
        source,
    })?;
    if let Some(content) = below(whole.path(), &args.strip) {
        for entry in fs::read_dir(&content).map_err(volume(&content))? {
            let entry = entry.map_err(volume(&content))?;
            take(&entry.path(), &into.join(entry.file_name()))?;
        }
    }
    whole.close().map_err(volume(into))?;
    for name in &args.expect {
        let is_name = matches!(
            Path::new(name).components().collect::<Vec<_>>()[..],
            [Component::Normal(_)]
        );
        if !is_name || into.join(name).symlink_metadata().is_err() {
            return Err(Error::Missing {
                digest: args.digest,
                name: name.clone(),
                strip: args.strip.clone(),
            });
        }
    }
    Ok(())
}

/// The directory `strip` of the layer in `root`, if the layer has it; reached through directories only, for a
/// link in its place could lead anywhere.
fn below(root: &Path, strip: &Path) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for part in strip.components() {
        match part {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => path.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
        if !path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return None;
        }
    }
    Some(path)
}

/// Moves `from` to `to`, in place of what an earlier run of this container left there.
fn take(from: &Path, to: &Path) -> Result<(), Error> {
    match to.symlink_metadata() {
        Ok(old) if old.is_dir() => fs::remove_dir_all(to).map_err(volume(to))?,
        Ok(_) => fs::remove_file(to).map_err(volume(to))?,
        Err(_) => {}
    }
    let metadata = from.symlink_metadata().map_err(volume(from))?;
    if !metadata.is_dir() {
        return fs::rename(from, to).map_err(volume(to));
    }
    // Moving a directory writes its `..`: its owner, unless root, needs the right to write it.
    let mode = metadata.permissions().mode();
    fs::set_permissions(from, Permissions::from_mode(mode | 0o700)).map_err(volume(from))?;
    fs::rename(from, to).map_err(volume(to))?;
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(volume(to))
}

pub(super) fn volume(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Volume {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_is_reached_through_directories_only() {
        let layer = tempfile::tempdir().unwrap();
        let root = layer.path();
        fs::create_dir_all(root.join("usr/local/bin")).unwrap();
        std::os::unix::fs::symlink("/", root.join("root")).unwrap();
        std::os::unix::fs::symlink("usr", root.join("link")).unwrap();
        fs::write(root.join("usr/file"), "").unwrap();
        let found = |strip: &str| below(root, Path::new(strip));
        for strip in ["/usr/local/bin", "usr/local/bin", "usr/local/bin/"] {
            assert_eq!(found(strip), Some(root.join("usr/local/bin")), "{strip}");
        }
        assert_eq!(found("/"), Some(root.to_owned()));
        for strip in [
            "/root/etc",
            "/link/local",
            "/usr/file",
            "/missing",
            "/usr/../..",
        ] {
            assert_eq!(found(strip), None, "{strip}");
        }
    }

    #[test]
    fn what_an_earlier_run_left_is_replaced() {
        let volume = tempfile::tempdir().unwrap();
        let path = |name: &str| volume.path().join(name);
        for (from, to) in [("new/dir", "old/dir"), ("new/inner", "old")] {
            fs::create_dir_all(path(from)).unwrap();
            fs::create_dir_all(path(to)).unwrap();
        }
        fs::write(path("old/dir/left"), "").unwrap();
        fs::write(path("new/dir/came"), "").unwrap();
        fs::set_permissions(path("new/dir"), Permissions::from_mode(0o555)).unwrap();
        take(&path("new/dir"), &path("old/dir")).unwrap();
        assert!(path("old/dir/came").exists());
        assert!(!path("old/dir/left").exists());
        let mode = path("old/dir").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o555);
        fs::write(path("file"), "new").unwrap();
        fs::write(path("old/file"), "old").unwrap();
        take(&path("file"), &path("old/file")).unwrap();
        assert_eq!(fs::read_to_string(path("old/file")).unwrap(), "new");
    }
}
