//! A connection to the server as bytes: what is sent is sent as it stands, and replies are taken apart here, so that no
//! library's idea of HTTP comes between a recording and the server.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Longer than anything takes here: what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Connection {
    stream: TcpStream,
    /// Read, and not taken yet.
    buffer: Vec<u8>,
}

/// A whole reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// How far a connection has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Open,
    Ended,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// Sends FIN; replies still come.
    pub(crate) fn half_close(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("half-close")
    }

    /// Makes the end of the connection a reset.
    pub(crate) fn reset(&self) -> Result<()> {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).context("linger")
    }

    /// From here on what cannot be sent for so long is an error.
    pub(crate) fn send_for(&self, most: Duration) -> Result<()> {
        Ok(self.stream.set_write_timeout(Some(most))?)
    }

    /// The reply to a request with this method.
    pub(crate) fn reply(&mut self, method: &str) -> Result<Reply> {
        let mut reply = self.head()?;
        let none = method == "HEAD" || reply.status < 200 || [204, 304].contains(&reply.status);
        reply.body = if none {
            Vec::new()
        } else if reply.header("transfer-encoding") == Some("chunked") {
            self.chunks()?
        } else if let Some(length) = reply.header("content-length") {
            let length = length.parse().context("Content-Length")?;
            self.exactly(length)?
        } else {
            self.rest()?
        };
        Ok(reply)
    }

    fn head(&mut self) -> Result<Reply> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().context("no whole head of a reply")?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head)?;
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .with_context(|| format!("no status line: {first:?}"))?;
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").context("no header line")?;
            Ok((name.to_ascii_lowercase(), value.to_owned()))
        };
        Ok(Reply {
            status,
            headers: lines.map(header).collect::<Result<_>>()?,
            body: Vec::new(),
        })
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break self.buffer.drain(..end + 2).collect::<Vec<_>>();
                }
                self.more().context("within chunks")?;
            };
            let size = std::str::from_utf8(&line)?.trim_end();
            let size = usize::from_str_radix(size, 16).context("the size of a chunk")?;
            body.extend(self.exactly(size)?);
            ensure!(self.exactly(2)? == b"\r\n", "a chunk without its end");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.more().context("within a body")?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// All that comes until the server closes.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.buffer)?;
        Ok(std::mem::take(&mut self.buffer))
    }

    /// The same, where the server may have closed without taking all that was sent.
    pub(crate) fn rest_or_reset(&mut self) -> Result<Vec<u8>> {
        match self.stream.read_to_end(&mut self.buffer) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                Err(error).context("the server does not close")
            }
            // What was read before the reset stays.
            _ => Ok(std::mem::take(&mut self.buffer)),
        }
    }

    /// All that is there by now, without waiting.
    pub(crate) fn arrived(&mut self) -> Result<(Vec<u8>, Progress)> {
        self.stream.set_nonblocking(true)?;
        let read = self.stream.read_to_end(&mut self.buffer);
        self.stream.set_nonblocking(false)?;
        let progress = match read {
            Ok(_) => Progress::Ended,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Open,
            Err(error) => return Err(error.into()),
        };
        Ok((std::mem::take(&mut self.buffer), progress))
    }

    /// That the server has closed it, with nothing more to say.
    pub(crate) fn is_closed(&mut self) -> Result<()> {
        let rest = self.rest()?;
        ensure!(rest.is_empty(), "after the reply: {}", shown(&rest));
        Ok(())
    }

    fn more(&mut self) -> Result<()> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes)? {
            0 => bail!("the server closed; before that: {}", shown(&self.buffer)),
            count => self.buffer.extend_from_slice(&bytes[..count]),
        }
        Ok(())
    }
}

impl Reply {
    /// By its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(it, _)| it == name)
            .map(|(_, value)| &**value)
    }

    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.shown()))
    }

    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.status, shown(&self.body))
    }
}

/// `body` in chunks of at most 32 KiB, as Go copies, without the last empty one.
pub(crate) fn chunked(body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for piece in body.chunks(32 << 10) {
        wire.extend(format!("{:x}\r\n", piece.len()).bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// What ends a chunked body.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|it| it == part)
}

pub(crate) fn shown(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
    format!("{text:?}")
}
