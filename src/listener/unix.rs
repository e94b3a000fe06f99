//! The file of a Unix socket: made with its mode before anybody can connect, taken over from a process that is gone, and
//! removed at the end. `listener` serves what is bound here.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Owner and group may connect, as with Docker's own socket.
const MODE: u32 = 0o660;

/// Connections that wait to be accepted, as many as the system has at most.
const BACKLOG: i32 = 4096;

/// A socket that is bound. Dropped, its file goes, and it closes.
#[derive(Debug)]
pub struct BoundSocket {
    /// Before the listener: as long as somebody listens, no other server takes the name, so that it is ours that is removed.
    file: SocketFile,
    pub(super) listener: UnixListener,
}

/// The socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the socket {}: {reason}", path.display())]
pub struct SocketError {
    path: PathBuf,
    reason: String,
}

/// The file of a socket, as it was when it was ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl BoundSocket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// Listens on a socket at `path`, and nowhere else than in a directory that is there. A socket on which nobody listens any
/// more is replaced.
///
/// # Errors
/// When somebody listens there, when the path is something else than a socket, and what the system says.
pub fn bind_socket(path: &Path) -> Result<BoundSocket, SocketError> {
    let refused = |reason: String| SocketError {
        path: path.to_owned(),
        reason,
    };
    check_free(path).map_err(refused)?;
    // Under another name first, of which no other start knows: under its own it takes the old one's place in one step.
    let mut making = path.as_os_str().to_owned();
    making.push(format!(".{:08x}", rand::random::<u32>()));
    let making = PathBuf::from(making);
    bind(&making, path).map_err(|error| refused(told(path, &error)))
}

fn bind(making: &Path, path: &Path) -> io::Result<BoundSocket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(making)?)?;
    // Nobody can connect before it listens.
    let named = fs::set_permissions(making, Permissions::from_mode(MODE))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| UnixListener::from_std(socket.into()))
        .and_then(|listener| Ok((listener, identity(making)?)))
        .and_then(|made| fs::rename(making, path).map(|()| made));
    match named {
        Ok((listener, identity)) => Ok(BoundSocket {
            listener,
            file: SocketFile {
                path: path.to_owned(),
                identity,
            },
        }),
        Err(error) => {
            let _ = fs::remove_file(making);
            Err(error)
        }
    }
}

/// Whether nothing is there, or a socket that is nobody's.
fn check_free(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(told(path, &error)),
    };
    if !found.file_type().is_socket() {
        return Err(
            "something else than a socket is there, and stays: remove it or name another path"
                .to_owned(),
        );
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err("another process listens there: end it or name another path".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn told(path: &Path, error: &io::Error) -> String {
    match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(parent)) => {
            format!("the directory {} does not exist", parent.display())
        }
        _ => error.to_string(),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have taken the name meanwhile.
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "listener: the socket's file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        let bound = bind_socket(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o7777, MODE);
        let taken = bind_socket(&path).unwrap_err().to_string();
        assert!(taken.contains("another process listens there"), "{taken}");
        drop(bound);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn the_file_of_the_next_server_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        for _ in 0..200 {
            let bound = bind_socket(&path).unwrap();
            let ending = std::thread::spawn(|| drop(bound));
            let next = loop {
                if let Ok(next) = bind_socket(&path) {
                    break next;
                }
            };
            ending.join().unwrap();
            assert!(path.exists());
            drop(next);
        }
    }

    #[tokio::test]
    async fn what_nobody_listens_on_is_replaced_and_what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        // As a process leaves it that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bound = bind_socket(&path).unwrap();
        // One that took the name since is not removed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        drop(bound);
        let refused = bind_socket(&path).unwrap_err().to_string();
        assert!(
            refused.contains("something else than a socket"),
            "{refused}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"other");
        let nowhere = directory.path().join("none/p.sock");
        let refused = bind_socket(&nowhere).unwrap_err().to_string();
        assert!(refused.ends_with("/none does not exist"), "{refused}");
    }
}
