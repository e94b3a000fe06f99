//! A listener of Peitho: accepts connections, speaks HTTP/1.1 on them, and drains them at the end. `serve`
//! opens one for each of the three (design D17) and gives it a service; this module knows nothing of what
//! is served. Its rules come from peers: connections are idle for days under `wait` and `attach`, so there
//! is no timeout but for a head and a handshake, and TCP keepalive finds the dead (protocol §7.5, §9).

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

mod socket;

pub use socket::Departure;
use socket::Socket;

/// For the head of a request, and between two requests of one connection: moby keeps idle connections for
/// 30 s and must not meet a closed one (protocol §1).
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);

/// The longest head of a request, and what a connection holds of a body that comes quicker than it is taken. HTTP's own
/// limit is 400 KiB, which each of many connections would use up.
const BUFFER: usize = 64 << 10;

/// For a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is silent before TCP asks whether its other end still exists, and how long between
/// two such questions.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How many such questions stay unanswered before the connection counts as lost: a client whose machine went
/// away without a word has departed after two minutes.
const KEEPALIVE_RETRIES: u32 = 3;

/// After `accept` failed for want of descriptors or memory: until a connection ends, at most this long.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Linux without IPv6 (`EAFNOSUPPORT`).
const NO_SUCH_FAMILY: i32 = 97;

/// A listener that has its address already: with port 0, the one that the system chose.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source}")]
pub struct BindError {
    addr: SocketAddr,
    source: io::Error,
}

/// The other end of a connection: an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote(pub SocketAddr);

/// How a listener ends.
#[derive(Clone, Debug)]
pub struct Drain {
    /// When cancelled, no connection is accepted any more, and idle ones are closed.
    pub stop: CancellationToken,
    /// How long requests may go on after that. What is open then is dropped: `wait` never ends by itself.
    pub grace: Duration,
}

/// Listens on `addr`. `[::]` takes IPv4 as well, and on a machine without IPv6 only that.
///
/// # Errors
/// When the address is taken or not one of this machine.
pub async fn bind(addr: SocketAddr) -> Result<Bound, BindError> {
    let listener = match TcpListener::bind(addr).await {
        Err(error)
            if error.raw_os_error() == Some(NO_SUCH_FAMILY) && addr.ip().is_unspecified() =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await
        }
        other => other,
    };
    let bound = listener.and_then(|listener| {
        let addr = listener.local_addr()?;
        Ok(Bound { listener, addr })
    });
    bound.map_err(|source| BindError { addr, source })
}

/// Serves `service` on `bound`, with TLS where `tls` is given, until `drain` has ended. Connections that
/// were upgraded belong to who upgraded them, and are not waited for.
pub async fn serve<S, B>(
    bound: Bound,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: S,
    drain: Drain,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let Bound { listener, addr } = bound;
    let tls = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = drain.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, remote)) => {
                prepare(&stream);
                let (tls, service, stop) = (tls.clone(), service.clone(), drain.stop.clone());
                connections.spawn(connection(stream, Remote(remote), tls, service, stop));
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%addr, %error, "listener: no connection can be accepted for now");
                let one_ends = async {
                    if connections.join_next().await.is_none() {
                        pending::<()>().await;
                    }
                };
                let _ = timeout(ACCEPT_PAUSE, one_ends).await;
            }
        }
    }
    drop(listener);
    let all_end = async { while connections.join_next().await.is_some() {} };
    if timeout(drain.grace, all_end).await.is_err() {
        tracing::info!(%addr, connections = connections.len(), "listener: requests that still go on are dropped");
        connections.shutdown().await;
    }
}

/// Failures of `accept` that tell of the one connection that was to be accepted, not of this machine.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// A connection works without either option, so that a refusal of the system is not one of ours.
fn prepare(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE)
        .with_retries(KEEPALIVE_RETRIES);
    let set = socket2::SockRef::from(stream)
        .set_tcp_keepalive(&keepalive)
        .and_then(|()| stream.set_nodelay(true));
    if let Err(error) = set {
        tracing::debug!(%error, "listener: a socket option was refused");
    }
}

/// The stream of a connection: after the handshake where there is one, `None` where that failed.
async fn secured(
    stream: Socket,
    remote: Remote,
    tls: Option<TlsAcceptor>,
) -> Option<Either<Socket, TlsStream<Socket>>> {
    let Some(tls) = tls else {
        return Some(Either::Left(stream));
    };
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some(Either::Right(stream)),
        // A probe that only connects.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Ok(Err(error)) => {
            tracing::info!(remote = %remote.0, %error, "listener: TLS handshake failed");
        }
        Err(_) => tracing::info!(remote = %remote.0, "listener: no TLS handshake in time"),
    }
    None
}

async fn connection<S, B>(
    stream: TcpStream,
    remote: Remote,
    tls: Option<TlsAcceptor>,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let stream = Socket::new(stream);
    let departure = stream.departure();
    let Some(stream) = secured(stream, remote, tls).await else {
        return;
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(remote);
        request.extensions_mut().insert(departure.clone());
        service.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        // A client may send FIN and still want its answer (protocol rule 11). HTTP then sees that a client is
        // gone only when something is written to it: who must know earlier asks its `Departure`.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients go away whenever they like; what it means is known where the request is handled.
        tracing::debug!(remote = %remote.0, error = &error as &dyn StdError, "listener: connection ended early");
    }
}
