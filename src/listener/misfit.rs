//! Clients that speak plain HTTP where TLS is spoken, or the other way round: what they get is an answer of HTTP, which
//! both kinds of Go's clients show to people, where a closed connection says nothing. `listener` looks at the first
//! byte of each connection; here is no other knowledge of HTTP.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// The first byte of a TLS connection: a record of a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// How long what a client still sends is read after the last word to it, and how much of that.
const REST: Duration = Duration::from_secs(5);
const REST_BYTES: u64 = 1 << 20;

/// What is wrong with how a client began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Plain HTTP on a listener with TLS.
    Plain,
    /// TLS on a listener without.
    Tls,
}

impl Misfit {
    /// Of a client that began with `byte`, where the listener has TLS.
    pub(super) fn with_tls(byte: u8) -> Option<Self> {
        // A method. Anything else is for the handshake to refuse.
        byte.is_ascii_uppercase().then_some(Self::Plain)
    }

    /// The same where it has none.
    pub(super) fn without_tls(byte: u8) -> Option<Self> {
        (byte == TLS_HANDSHAKE).then_some(Self::Tls)
    }

    /// For the client and the log.
    pub(super) fn message(self, advice: &str) -> String {
        let wrong = match self {
            Self::Plain => "this address speaks TLS, and the client began with plain HTTP",
            Self::Tls => "this address speaks plain HTTP, and the client began with TLS",
        };
        format!("{wrong}: {advice}")
    }
}

/// Answers 400 with Docker's form of `message`, and ends the connection. Go's clients that began with TLS know the first
/// bytes of such an answer and say that an HTTP response came.
pub(super) async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    message: &str,
) -> io::Result<()> {
    let body = serde_json::json!({ "message": message }).to_string();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    part(stream).await
}

/// Ends a connection whose client may still be sending. Closed with bytes unread, it would be reset, and the last word,
/// an answer or an alert of TLS, would be lost on its way.
pub(super) async fn part(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    let mut sink = tokio::io::sink();
    let mut rest = stream.take(REST_BYTES);
    match timeout(REST, tokio::io::copy(&mut rest, &mut sink)).await {
        Ok(read) => read.map(drop),
        Err(_) => Ok(()),
    }
}
