//! A client of a few lines that sends what it is told.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes; a test that hangs fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Long enough for an answer that should not be there.
pub(crate) const MOMENT: Duration = Duration::from_millis(150);

/// A client of the server at this address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(pub(crate) SocketAddr);

impl Client {
    pub(crate) async fn connect(self) -> TcpStream {
        TcpStream::connect(self.0).await.unwrap()
    }

    /// Sends `request` as it is and leaves the connection open.
    pub(crate) async fn open(self, request: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Sends a request without a body, and reads to the end of the connection.
    pub(crate) async fn ask(self, method: &str, target: &str) -> Answer {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        Answer::read(&mut self.open(&head).await).await
    }

    /// Sends a request with `body`, and reads to the end of the connection.
    pub(crate) async fn send(self, method: &str, target: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = self.open(&head).await;
        stream.write_all(body).await.unwrap();
        Answer::read(&mut stream).await
    }
}

/// An answer, to the end of its connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut received = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut received)).await;
        read.expect("the connection ends").unwrap();
        Self::parse(&received).unwrap_or_else(|| panic!("closed within a head: {received:?}"))
    }

    /// `None` where the head is not whole.
    pub(crate) fn parse(received: &[u8]) -> Option<Self> {
        let end = head_end(received)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let head = text(&received[..end]);
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self {
            status,
            head,
            body: text(&received[end..]),
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The `message` of an error, whose shape is checked.
    pub(crate) fn message(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn head_end(received: &[u8]) -> Option<usize> {
    let blank = received.windows(4).position(|four| four == b"\r\n\r\n");
    blank.map(|at| at + 4)
}

/// Reads one head; gives it with what came after it.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut received = Vec::new();
    loop {
        if let Some(end) = head_end(&received) {
            let rest = received.split_off(end);
            return (String::from_utf8(received).unwrap(), rest);
        }
        let read = timeout(SOON, stream.read_buf(&mut received)).await;
        let count = read.expect("a head comes").unwrap();
        assert!(count > 0, "closed within a head: {received:?}");
    }
}

/// Reads exactly `count` bytes.
pub(crate) async fn read_exactly(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let read = timeout(SOON, stream.read_exact(&mut bytes)).await;
    read.expect("bytes come").unwrap();
    bytes
}

/// Whether nothing at all comes for a while.
pub(crate) async fn is_silent(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    timeout(MOMENT, stream.read_u8()).await.is_err()
}
