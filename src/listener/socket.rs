//! A connection that is held twice: HTTP reads and writes it, and who answers a request may ask whether the
//! client is still there. HTTP alone cannot tell while an answer is awaited: it reads on only after that.
//! `listener` makes one for each connection; nothing here knows what is said on it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// The connection as HTTP, or TLS below it, uses it.
#[derive(Debug)]
pub(super) struct Socket(Arc<Stream>);

/// Tells when the client of a request has gone: an extension of each request. It does not keep the connection
/// open.
#[derive(Clone, Debug)]
pub struct Departure(Weak<Stream>);

/// What clients come by.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    fn try_read_buf(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    fn try_write_vectored(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(bytes),
            Self::Unix(stream) => stream.try_write_vectored(bytes),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
        }
    }
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Self {
        Self(Arc::new(stream))
    }

    pub(super) fn departure(&self) -> Departure {
        Departure(Arc::downgrade(&self.0))
    }

    /// The first byte that the client sends, which stays unread; `None` when it sends none. Of a Unix socket nothing is
    /// asked: it has no TLS that could be missed.
    pub(super) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let Stream::Tcp(stream) = &*self.0 else {
            return Ok(None);
        };
        let mut byte = [0; 1];
        let count = stream.peek(&mut byte).await?;
        Ok((count > 0).then_some(byte[0]))
    }
}

impl Departure {
    /// Waits until the client has closed its end, or the connection is lost. A FIN counts: whether this client
    /// may send one and still want its answer, as fsouza's does on attach (protocol rule 11), is for the caller
    /// to know.
    pub async fn seen(&self) {
        let Some(stream) = self.0.upgrade() else {
            return;
        };
        // Nobody asks for urgent data, so that this ends with nothing but the end of reading: bytes that the
        // client sends meanwhile stay where they are. An error is the end of the runtime itself.
        let _ = stream.ready(Interest::PRIORITY).await;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The kernel has no buffer of ours to wait for.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);
    const MOMENT: Duration = Duration::from_millis(100);

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (
            client.unwrap(),
            Socket::new(Stream::Tcp(accepted.unwrap().0)),
        )
    }

    #[tokio::test]
    async fn bytes_are_no_departure_and_a_fin_behind_them_is_one() {
        let (mut client, mut server) = pair().await;
        let departure = server.departure();
        client.write_all(b"unread").await.unwrap();
        assert!(timeout(MOMENT, departure.seen()).await.is_err());
        client.shutdown().await.unwrap();
        timeout(SOON, departure.seen()).await.unwrap();
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"unread");
        // The other direction is still open.
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"unreadanswer");
    }

    #[tokio::test]
    async fn a_reset_is_a_departure_while_the_connection_is_read() {
        let (client, mut server) = pair().await;
        let departure = server.departure();
        let mut byte = [0; 1];
        let reading = server.read(&mut byte);
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        let (read, ()) = tokio::join!(reading, departure.seen());
        assert!(read.is_err(), "{read:?}");
    }

    #[tokio::test]
    async fn who_asks_does_not_keep_a_connection_open() {
        let (mut client, server) = pair().await;
        let departure = server.departure();
        drop(server);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        timeout(SOON, departure.seen()).await.unwrap();
    }

    #[tokio::test]
    async fn the_same_on_a_unix_socket() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let server = Socket::new(Stream::Unix(server));
        let departure = server.departure();
        client.write_all(b"unread").await.unwrap();
        assert!(timeout(MOMENT, departure.seen()).await.is_err());
        client.shutdown().await.unwrap();
        timeout(SOON, departure.seen()).await.unwrap();
    }

    #[tokio::test]
    async fn a_first_byte_stays_unread() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"GET").await.unwrap();
        assert_eq!(server.first_byte().await.unwrap(), Some(b'G'));
        assert_eq!(server.first_byte().await.unwrap(), Some(b'G'));
        let mut read = [0; 3];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"GET");
        drop(client);
        assert_eq!(server.first_byte().await.unwrap(), None);
    }
}
