//! Owns plain HTTP to programs on this machine: health checks and the few calls of dockerd's API. Enough for one request on one
//! connection, so that the testbed needs no HTTP library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The status and the raw rest of an answer; chunk sizes are left in.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends one request without a body and reads until the server closes.
pub(crate) fn request(
    method: &str,
    address: SocketAddr,
    path: &str,
    timeout: Duration,
) -> Result<Answer> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    // `kubectl proxy` serves no other host than its own.
    exchange(stream, &address.to_string(), method, path)
}

/// The same by a Unix socket.
pub(crate) fn request_by_socket(
    method: &str,
    socket: &Path,
    path: &str,
    timeout: Duration,
) -> Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(timeout))?;
    exchange(stream, "localhost", method, path)
}

fn exchange(mut stream: impl Read + Write, host: &str, method: &str, path: &str) -> Result<Answer> {
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("no HTTP status")?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}

/// Whether the address answers this path with 200.
pub(crate) fn is_healthy(address: SocketAddr, path: &str) -> bool {
    request("GET", address, path, Duration::from_secs(2)).is_ok_and(|answer| answer.status == 200)
}
