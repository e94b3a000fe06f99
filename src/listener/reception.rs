//! The beginning of a connection: whether it speaks as the listener does, the TLS handshake, and the line that says why
//! a client was turned away. `listener` serves what is let in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::misfit::{self, Misfit};
use super::notices::Notices;
use super::socket::Socket;
use super::tls::{ClientIdentity, Examiner, Outcome, Tls};
use super::{HEAD_TIMEOUT, Remote, Speech};

/// For a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Of one listener.
pub(super) struct Reception {
    speech: Speech,
    notices: Notices,
}

/// A connection on which requests may come.
pub(super) struct Admitted {
    pub(super) stream: Either<Socket, TlsStream<Socket>>,
    /// Who the client proved to be, where it was asked.
    pub(super) identity: Option<Arc<ClientIdentity>>,
}

impl Reception {
    pub(super) fn new(speech: Speech) -> Self {
        Self {
            speech,
            notices: Notices::default(),
        }
    }

    /// A client that said nothing for long had to go for the next one.
    pub(super) fn tell_of_a_crowd(&self, place: &str) {
        if let Some(untold) = self.notices.admit() {
            tracing::warn!(
                addr = place,
                untold,
                "listener: too many clients neither sent a request nor showed a certificate that is accepted; for each that comes now the one that waits longest is closed"
            );
        }
    }

    /// `accept` failed.
    pub(super) fn tell_of_failure(&self, place: &str, error: &io::Error) {
        if let Some(untold) = self.notices.admit() {
            tracing::warn!(addr = place, %error, untold, "listener: no connection can be accepted for now");
        }
    }

    /// `socket` as HTTP may use it; `None` where the client was turned away or has left.
    pub(super) async fn admit(&self, mut socket: Socket, remote: Remote) -> Option<Admitted> {
        let (patience, misfit): (_, fn(u8) -> Option<Misfit>) = match self.speech.tls {
            Some(_) => (HANDSHAKE_TIMEOUT, Misfit::with_tls),
            None => (HEAD_TIMEOUT, Misfit::without_tls),
        };
        let Ok(first) = timeout(patience, socket.first_byte()).await else {
            tracing::debug!(%remote, "listener: the client says nothing");
            return None;
        };
        if let Some(misfit) = first.ok()?.and_then(misfit) {
            self.turn_away(&mut socket, remote, misfit).await;
            return None;
        }
        match &self.speech.tls {
            None => Some(Admitted {
                stream: Either::Left(socket),
                identity: None,
            }),
            Some(tls) => match timeout(HANDSHAKE_TIMEOUT, self.secure(tls, socket, remote)).await {
                Ok(admitted) => admitted,
                Err(_) => {
                    self.tell(&remote, "none came in time");
                    None
                }
            },
        }
    }

    async fn turn_away(&self, socket: &mut Socket, remote: Remote, misfit: Misfit) {
        let message = misfit.message(self.speech.advice);
        if let Some(untold) = self.notices.admit_once(remote.ip()) {
            tracing::warn!(%remote, untold, "listener: {message}");
        }
        if let Err(error) = misfit::answer(socket, &message).await {
            tracing::debug!(%remote, %error, "listener: the client left before its answer");
        }
    }

    async fn secure(&self, tls: &Tls, socket: Socket, remote: Remote) -> Option<Admitted> {
        let handshake = match tls.handshake() {
            Ok(handshake) => handshake,
            Err(error) => {
                self.tell(&remote, &error.to_string());
                return None;
            }
        };
        let accepted = TlsAcceptor::from(handshake.config).accept(socket);
        match (accepted.into_fallible().await, handshake.examiner) {
            (Ok(stream), None) => Some(Admitted {
                stream: Either::Right(stream),
                identity: None,
            }),
            (Ok(stream), Some(examiner)) => match examiner.outcome() {
                Some(Outcome::Known(identity)) => {
                    let version = stream.get_ref().1.protocol_version();
                    tracing::debug!(
                        %remote, subject = identity.subject,
                        version = version.and_then(|it| it.as_str()),
                        "tls: client let in"
                    );
                    Some(Admitted {
                        stream: Either::Right(stream),
                        identity: Some(identity),
                    })
                }
                // Not without a certificate, and not with one that was refused.
                _ => None,
            },
            (Err((error, socket)), examiner) => {
                self.refuse(&error, socket, remote, examiner).await;
                None
            }
        }
    }

    /// Says why a handshake failed, and lets the alert that the client was sent reach it.
    async fn refuse(
        &self,
        error: &io::Error,
        mut socket: Socket,
        remote: Remote,
        examiner: Option<Arc<Examiner>>,
    ) {
        let is_without = is_without_certificate(error);
        match examiner.and_then(|it| it.outcome()) {
            Some(Outcome::Refused { subject, reason }) => {
                if let Some(untold) = self.notices.admit() {
                    tracing::warn!(%remote, subject, reason, untold, "tls: client certificate refused");
                }
            }
            _ if is_without => {
                if let Some(untold) = self.notices.admit() {
                    tracing::warn!(
                        %remote, untold,
                        reason = "none was shown; a peer shows that of CORE_VM_DOCKER_TLS_CERT_FILE and _KEY_FILE",
                        "tls: client certificate refused"
                    );
                }
            }
            // A probe that only connects.
            _ if error.kind() == io::ErrorKind::UnexpectedEof => return,
            _ => self.tell(&remote, &error.to_string()),
        }
        if let Err(error) = misfit::part(&mut socket).await {
            tracing::debug!(%remote, %error, "listener: the client left before the last word");
        }
    }

    fn tell(&self, remote: &Remote, error: &str) {
        if let Some(untold) = self.notices.admit() {
            tracing::info!(%remote, error, untold, "tls: handshake failed");
        }
    }
}

fn is_without_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|it| it.downcast_ref());
    matches!(inner, Some(rustls::Error::NoCertificatesPresented))
}
