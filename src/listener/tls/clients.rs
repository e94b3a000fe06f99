//! Who a client is, by its certificate: which of the configured authorities vouches for it, and why it is refused where
//! none does. Each authority is asked on its own, so that a certificate belongs to who really signed it: two authorities
//! of one name are two, and what another's has as its subject proves nothing (design D14).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::super::certificate::{self, Description, time};
use crate::config::Pattern;
use crate::names::Tenant;

/// What the clients of some authorities may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRule {
    /// For whom they may speak: one of these.
    pub tenants: Vec<Tenant>,
    /// Where not empty, one of these has to match the certificate's common name. Not its alternative names: Fabric's CA lets whoever
    /// enrols write those as he likes.
    pub subjects: Vec<Pattern>,
}

/// Who a client proved to be: an extension of each request on its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate's subject.
    pub subject: String,
    /// For whom the client may speak, each one once, in order. Never empty.
    pub tenants: Vec<Tenant>,
}

/// All authorities in force.
#[derive(Debug)]
pub(super) struct Clients(Vec<Authority>);

/// Those of one file.
#[derive(Debug)]
pub(super) struct Authority {
    /// Of the configuration, for messages.
    pub(super) key: String,
    pub(super) rule: ClientRule,
    /// The subjects of its certificates.
    pub(super) subjects: Vec<String>,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

/// Examines the one certificate that the client of one handshake shows, and remembers the outcome.
#[derive(Debug)]
pub(in crate::listener) struct Examiner {
    clients: Arc<Clients>,
    outcome: Mutex<Option<Outcome>>,
}

/// Of an examination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::listener) enum Outcome {
    Known(Arc<ClientIdentity>),
    Refused { subject: String, reason: String },
}

impl Clients {
    /// `None` where there are no authorities.
    pub(super) fn new(authorities: Vec<Authority>) -> Option<Self> {
        (!authorities.is_empty()).then_some(Self(authorities))
    }

    fn examine(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientIdentity, (Outcome, rustls::Error)> {
        let Some(shown) = Description::of(certificate) else {
            let reason = "what was shown is no X.509 certificate".to_owned();
            let error = CertificateError::BadEncoding.into();
            return Err((refused("none", reason), error));
        };
        let mut tenants = Vec::new();
        let mut nearest: Option<(u8, String, rustls::Error)> = None;
        for authority in &self.0 {
            let verified = authority.verify(certificate, intermediates, &shown, now);
            let (rank, reason, error) = match verified {
                Ok(_) if authority.rule.admits(shown.common_name.as_deref()) => {
                    tenants.extend(authority.rule.tenants.iter().cloned());
                    continue;
                }
                Ok(_) => authority.not_among_subjects(&shown),
                Err(error) => authority.why(&shown, error, now),
            };
            if nearest.as_ref().is_none_or(|(other, ..)| *other < rank) {
                nearest = Some((rank, reason, error));
            }
        }
        tenants.sort();
        tenants.dedup();
        match nearest {
            Some((_, reason, error)) if tenants.is_empty() => {
                Err((refused(&shown.subject, reason), error))
            }
            _ => Ok(ClientIdentity {
                subject: shown.subject,
                tenants,
            }),
        }
    }
}

fn refused(subject: &str, reason: String) -> Outcome {
    Outcome::Refused {
        subject: subject.to_owned(),
        reason,
    }
}

impl ClientRule {
    fn admits(&self, common_name: Option<&str>) -> bool {
        let is_named = |pattern: &Pattern| common_name.is_some_and(|name| pattern.matches(name));
        self.subjects.is_empty() || self.subjects.iter().any(is_named)
    }
}

/// Of several authorities' reasons the one of the highest rank is told: who signed comes before what he signed.
mod rank {
    pub(super) const NOT_SIGNED: u8 = 0;
    pub(super) const SAME_NAME: u8 = 1;
    pub(super) const SIGNED: u8 = 2;
}

impl Authority {
    /// As the verifier does, but that who signed comes before when: the verifier looks at the time first, and a certificate that
    /// this authority did not sign is no matter of its dates.
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        shown: &Description,
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        use CertificateError as Wrong;
        let verify = |at| {
            self.verifier
                .verify_client_cert(certificate, intermediates, at)
        };
        let verified = verify(now);
        let is_of_dates = matches!(
            verified,
            Err(rustls::Error::InvalidCertificate(
                Wrong::Expired
                    | Wrong::ExpiredContext { .. }
                    | Wrong::NotValidYet
                    | Wrong::NotValidYetContext { .. }
            ))
        );
        if !is_of_dates {
            return verified;
        }
        let valid = Duration::from_secs(u64::try_from(shown.not_before).unwrap_or(0));
        match verify(UnixTime::since_unix_epoch(valid)) {
            Err(
                error @ rustls::Error::InvalidCertificate(
                    Wrong::UnknownIssuer | Wrong::BadSignature,
                ),
            ) => Err(error),
            // Let in it is not, whatever was so then.
            _ => verified,
        }
    }

    fn not_among_subjects(&self, shown: &Description) -> (u8, String, rustls::Error) {
        let of = self.key.trim_end_matches("clientCaFile");
        let name = shown.common_name.as_deref().map_or_else(
            || "it has not one common name, to be".to_owned(),
            |name| format!("its common name {} is not", certificate::shown(name)),
        );
        let reason = format!("signed by {}, but {name} in {of}subjects", self.key);
        let error = CertificateError::ApplicationVerificationFailure;
        (rank::SIGNED, reason, error.into())
    }

    /// The words for `error`, with what an operator compares.
    fn why(
        &self,
        shown: &Description,
        error: rustls::Error,
        now: UnixTime,
    ) -> (u8, String, rustls::Error) {
        use CertificateError as Wrong;
        let rustls::Error::InvalidCertificate(wrong) = &error else {
            return (rank::NOT_SIGNED, error.to_string(), error);
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let issuer = &shown.issuer;
        let is_namesake = self.subjects.contains(issuer);
        let (rank, reason) = match wrong {
            Wrong::Expired | Wrong::ExpiredContext { .. } if shown.not_after < now => {
                let reason = format!("it expired at {}", time(shown.not_after));
                (rank::SIGNED, reason)
            }
            Wrong::NotValidYet | Wrong::NotValidYetContext { .. } if shown.not_before > now => {
                let reason = format!(
                    "it is not valid before {}, and this machine's clock says {}",
                    time(shown.not_before),
                    time(now)
                );
                (rank::SIGNED, reason)
            }
            Wrong::UnknownIssuer | Wrong::BadSignature if is_namesake => {
                let reason = format!(
                    "its issuer has the name of one in {}, {issuer}, but signed with another key",
                    self.key
                );
                // For the client too, which would otherwise hear of a decryption that failed.
                return (rank::SAME_NAME, reason, Wrong::UnknownIssuer.into());
            }
            Wrong::UnknownIssuer | Wrong::BadSignature => {
                let reason = format!("its issuer is none of those that are trusted: {issuer}");
                (rank::NOT_SIGNED, reason)
            }
            Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
                let reason = "its extended key usage does not allow clientAuth".to_owned();
                (rank::SIGNED, reason)
            }
            // The words of the verifier: such as an authority's certificate where a client's should be.
            Wrong::Other(inner) => (
                rank::SIGNED,
                format!("it or one of its issuers: {}", inner.0),
            ),
            // Of an issuer on the way, or rare.
            other => (rank::SIGNED, format!("it or one of its issuers: {other}")),
        };
        (rank, reason, error)
    }
}

impl Examiner {
    pub(super) fn new(clients: Arc<Clients>) -> Self {
        Self {
            clients,
            outcome: Mutex::default(),
        }
    }

    /// Of the examination; `None` where no certificate was shown.
    pub(in crate::listener) fn outcome(&self) -> Option<Outcome> {
        self.slot().clone()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All verifiers check signatures of handshakes in the same way.
    fn any(&self) -> &dyn ClientCertVerifier {
        &*self.clients.0[0].verifier
    }
}

impl ClientCertVerifier for Examiner {
    /// No names of authorities are sent. Go's clients keep a certificate to themselves that fits none of them, and nobody
    /// would learn what was wrong with it; and strangers need not see who the tenants are.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let (outcome, verified) = match self.clients.examine(certificate, intermediates, now) {
            Ok(identity) => (
                Outcome::Known(Arc::new(identity)),
                Ok(ClientCertVerified::assertion()),
            ),
            Err((outcome, error)) => (outcome, Err(error)),
        };
        *self.slot() = Some(outcome);
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any()
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any()
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any().supported_verify_schemes()
    }
}

impl Authority {
    /// The authority of `certificates`.
    pub(super) fn new(
        key: String,
        rule: ClientRule,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, rustls::Error> {
        let subjects = certificates
            .iter()
            .filter_map(|it| Description::of(it))
            .map(|it| it.subject)
            .collect();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), super::provider());
        let verifier = builder
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self {
            key,
            rule,
            subjects,
            verifier,
        })
    }
}
