//! Docker's `USER`: a number or a name, looked up in `/etc/passwd` and `/etc/group` of the layers by Docker's rules
//! (`moby/sys/user`, `GetExecUser`). The layers may be hostile: links in them are followed inside of them only.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

/// More than any image has.
const LARGEST: u64 = 1024 * 1024;

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All groups, the first among them.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// What `text` means to an image of `layers`, the topmost first.
///
/// # Errors
/// Docker's words for who is not there, or why the files cannot be read.
pub(super) fn look_up(text: &str, layers: &[PathBuf]) -> Result<User, String> {
    let passwd =
        file(layers, "etc/passwd").map_err(|error| format!("/etc/passwd of the image: {error}"))?;
    let group =
        file(layers, "etc/group").map_err(|error| format!("/etc/group of the image: {error}"))?;
    resolve(text, &passwd, &group)
}

/// The topmost `path` that there is; nothing when none has it.
fn file(layers: &[PathBuf], path: &str) -> io::Result<String> {
    for layer in layers {
        if let Some(text) = file_of(layer, path)? {
            return Ok(text);
        }
    }
    Ok(String::new())
}

fn file_of(layer: &Path, path: &str) -> io::Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let root = open(layer, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let opened = openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn resolve(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, wanted_group) = text.split_once(':').unwrap_or((text, ""));
    // Nobody is root.
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 4 && (fields[0] == user || fields[2] == user));
    let known = entry.as_ref().and_then(|fields| {
        Some((
            number(fields[2])?,
            number(fields[3])?,
            fields.get(5).copied().unwrap_or("/"),
        ))
    });
    let (uid, mut gid, home) = match known {
        Some(known) => known,
        None => (
            number(user).ok_or_else(|| {
                format!("unable to find user {user}: no matching entries in passwd file")
            })?,
            0,
            "/",
        ),
    };
    let mut groups = Vec::new();
    let entries = || {
        group
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
    };
    if !wanted_group.is_empty() {
        let found = entries().find(|fields| {
            fields.len() >= 3 && (fields[0] == wanted_group || fields[2] == wanted_group)
        });
        gid = found
            .and_then(|fields| number(fields[2]))
            .or_else(|| number(wanted_group))
            .ok_or_else(|| {
                format!("unable to find group {wanted_group}: no matching entries in group file")
            })?;
    } else if let Some(fields) = &entry {
        let member = |list: &&str| list.split(',').any(|name| name == fields[0]);
        groups = entries()
            .filter(|fields| fields.get(3).is_some_and(member))
            .filter_map(|fields| number(fields[2]))
            .collect();
    }
    groups.retain(|other| *other != gid);
    groups.insert(0, gid);
    Ok(User {
        uid,
        gid,
        groups,
        home: home.to_owned(),
    })
}

/// An id of a user or group. The kernel has -1 for none, and Docker takes no more than 31 bits.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= u32::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# odd\nchaincode:x:500:501::/home/chaincode:/bin/sh\nshort:x\n";
    const GROUP: &str =
        "root:x:0:\nchaincode:x:501:\nextra:x:7:other,chaincode\nwheel:x:10:root,chaincode\n";

    fn found(text: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(text, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(found(""), (0, 0, vec![0, 10], "/root".into()));
        let chaincode = (500, 501, vec![501, 7, 10], "/home/chaincode".into());
        assert_eq!(found("chaincode"), chaincode);
        assert_eq!(found("500"), chaincode);
        assert_eq!(found("500:7"), (500, 7, vec![7], "/home/chaincode".into()));
        assert_eq!(
            found("chaincode:wheel"),
            (500, 10, vec![10], "/home/chaincode".into())
        );
        assert_eq!(found("1234"), (1234, 0, vec![0], "/".into()));
        assert_eq!(found("1234:99"), (1234, 99, vec![99], "/".into()));
    }

    #[test]
    fn who_is_not_there_is_told_in_dockers_words() {
        assert_eq!(
            resolve("ghost", PASSWD, GROUP).unwrap_err(),
            "unable to find user ghost: no matching entries in passwd file"
        );
        assert_eq!(
            resolve("500:ghost", PASSWD, GROUP).unwrap_err(),
            "unable to find group ghost: no matching entries in group file"
        );
        assert!(resolve("4294967295", PASSWD, GROUP).is_err());
    }

    #[test]
    fn a_link_out_of_the_image_leads_nowhere() {
        let layer = tempfile::tempdir().unwrap();
        std::fs::create_dir(layer.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layer.path().join("etc/group")).unwrap();
        std::os::unix::fs::symlink(
            "../../../../../../etc/hostname",
            layer.path().join("etc/passwd"),
        )
        .unwrap();
        let layers = [layer.path().to_owned()];
        assert_eq!(file(&layers, "etc/passwd").unwrap(), "");
        // Seen from the image, `/etc/passwd` is the link beside it.
        assert_eq!(file(&layers, "etc/group").unwrap(), "");
        std::fs::write(layer.path().join("etc/hostname"), "inside").unwrap();
        assert_eq!(file(&layers, "etc/passwd").unwrap(), "inside");
    }
}
