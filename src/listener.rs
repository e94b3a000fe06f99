//! A listener of Peitho: accepts connections, speaks HTTP/1.1 on them, and drains them at the end. `serve`
//! opens one for each of the three (design D17) and gives it a service; this module knows nothing of what
//! is served. Its rules come from peers: connections are idle for days under `wait` and `attach`, so there
//! is no timeout but for a head and a handshake, and TCP keepalive finds the dead (protocol §7.5, §9).

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

mod certificate;
mod misfit;
mod notices;
mod reception;
mod socket;
mod strangers;
pub mod tls;
mod unix;

use reception::{Admitted, Reception};
pub use socket::Departure;
use socket::{Socket, Stream};
pub use strangers::Crowd;
use strangers::{Known, Room, Stranger, Strangers};
use tls::Tls;
pub use unix::{BoundSocket, SocketError, bind_socket};

/// For the head of a request, and between two requests of one connection: moby keeps idle connections for
/// 30 s and must not meet a closed one (protocol §1).
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);

/// The longest head of a request, and what a connection holds of a body that comes quicker than it is taken. HTTP's own
/// limit is 400 KiB, which each of many connections would use up.
const BUFFER: usize = 64 << 10;

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

/// What a listener is bound to.
#[derive(Debug)]
pub enum Door {
    /// An address.
    Tcp(Bound),
    /// A Unix socket.
    Unix(BoundSocket),
}

/// How connections begin.
#[derive(Clone, Debug, Default)]
pub struct Speech {
    /// With TLS where it is given.
    pub tls: Option<Tls>,
    /// For clients that begin in the other way: what their operator does about it.
    pub advice: &'static str,
    /// How many may be about to begin.
    pub crowd: Crowd,
}

/// The other end of a connection: an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Its address.
    Tcp(SocketAddr),
    /// A process of this machine; `None` where the system does not say which.
    Unix {
        /// Its user.
        uid: Option<u32>,
        /// The process.
        pid: Option<i32>,
    },
}

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

/// Serves `service` on `door`, with TLS where `speech` says so, until `drain` has ended. Connections that
/// were upgraded belong to who upgraded them, and are not waited for.
pub async fn serve<S, B>(door: impl Into<Door>, speech: impl Into<Speech>, service: S, drain: Drain)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let door = door.into();
    let place = door.to_string();
    let speech = speech.into();
    let strangers = Arc::new(Strangers::new(speech.crowd));
    let reception = Arc::new(Reception::new(speech));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = drain.stop.cancelled() => break,
            accepted = door.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((socket, remote)) => {
                let (stranger, room) = strangers.take();
                if room == Room::Made {
                    reception.tell_of_a_crowd(&place);
                }
                let client = Client {
                    socket,
                    remote,
                    stranger,
                };
                let (reception, service) = (Arc::clone(&reception), service.clone());
                connections.spawn(connection(client, reception, service, drain.stop.clone()));
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                reception.tell_of_failure(&place, &error);
                let one_ends = async {
                    if connections.join_next().await.is_none() {
                        pending::<()>().await;
                    }
                };
                let _ = timeout(ACCEPT_PAUSE, one_ends).await;
            }
        }
    }
    drop(door);
    let all_end = async { while connections.join_next().await.is_some() {} };
    if timeout(drain.grace, all_end).await.is_err() {
        tracing::info!(
            addr = place,
            connections = connections.len(),
            "listener: requests that still go on are dropped"
        );
        connections.shutdown().await;
    }
}

impl Door {
    async fn accept(&self) -> io::Result<(Socket, Remote)> {
        match self {
            Self::Tcp(bound) => {
                let (stream, remote) = bound.listener.accept().await?;
                prepare(&stream);
                Ok((Socket::new(Stream::Tcp(stream)), Remote::Tcp(remote)))
            }
            Self::Unix(bound) => {
                let (stream, _) = bound.listener.accept().await?;
                let remote = Remote::of(&stream);
                Ok((Socket::new(Stream::Unix(stream)), remote))
            }
        }
    }
}

impl Remote {
    fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self::Unix {
            uid: credentials.map(|it| it.uid()),
            pid: credentials.and_then(|it| it.pid()),
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid, pid } => {
                f.write_str("socket")?;
                if let Some(uid) = uid {
                    write!(f, " uid={uid}")?;
                }
                pid.map_or(Ok(()), |pid| write!(f, " pid={pid}"))
            }
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(bound) => bound.addr.fmt(f),
            Self::Unix(bound) => bound.path().display().fmt(f),
        }
    }
}

impl From<Bound> for Door {
    fn from(bound: Bound) -> Self {
        Self::Tcp(bound)
    }
}

impl From<BoundSocket> for Door {
    fn from(bound: BoundSocket) -> Self {
        Self::Unix(bound)
    }
}

impl From<Option<Arc<rustls::ServerConfig>>> for Speech {
    fn from(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self {
            tls: tls.map(Tls::from),
            ..Self::default()
        }
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

/// A connection as it was accepted.
struct Client {
    socket: Socket,
    remote: Remote,
    stranger: Stranger,
}

async fn connection<S, B>(
    client: Client,
    reception: Arc<Reception>,
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
    let Client {
        socket,
        remote,
        stranger,
    } = client;
    let departure = socket.departure();
    let admitted = tokio::select! {
        admitted = reception.admit(socket, remote) => admitted,
        () = stop.cancelled() => return,
        () = stranger.crowded_out() => return,
    };
    let Some(Admitted { stream, identity }) = admitted else {
        return;
    };
    if identity.is_some() && stranger.is_known() == Known::TooLate {
        return;
    }
    let stranger = Arc::new(stranger);
    let asking = Arc::clone(&stranger);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let known = asking.is_known();
        let extensions = request.extensions_mut();
        extensions.insert(remote);
        extensions.insert(departure.clone());
        if let Some(identity) = &identity {
            extensions.insert(Arc::clone(identity));
        }
        let service = service.clone();
        async move {
            if known == Known::TooLate {
                // What was begun would be dropped with the connection, half done.
                std::future::pending::<()>().await;
            }
            service.oneshot(request).await
        }
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
        () = stranger.crowded_out() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients go away whenever they like; what it means is known where the request is handled.
        tracing::debug!(%remote, error = &error as &dyn StdError, "listener: connection ended early");
    }
}
