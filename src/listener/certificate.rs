//! What stands in an X.509 certificate, for logs and for rules on names. Whether it is to be believed is not decided
//! here: that is rustls's.

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// As much of a name as a log line takes.
const SHOWN: usize = 300;

/// The parts of a certificate that people and rules ask for. Text for people is as the certificate has it, but without control
/// characters and of bounded length: a stranger may have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    /// `O=Org1, CN=peer0.org1.example.com`.
    pub(super) subject: String,
    /// Of the authority, in the same form.
    pub(super) issuer: String,
    /// The common name, whole: rules are about it. A certificate has one.
    pub(super) common_name: Option<String>,
    /// Seconds since the Unix epoch.
    pub(super) not_before: i64,
    /// Seconds since the Unix epoch.
    pub(super) not_after: i64,
}

impl Description {
    /// `None` where `der` is no certificate.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut common = certificate.subject().iter_common_name();
        // Of several none is the one that was meant.
        let common_name = match (common.next(), common.next()) {
            (Some(name), None) => name.as_str().ok().map(str::to_owned),
            _ => None,
        };
        Some(Self {
            subject: shown(&certificate.subject().to_string()),
            issuer: shown(&certificate.issuer().to_string()),
            common_name,
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// `2026-11-27T10:00:00Z`.
pub(super) fn time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{seconds} s after 1970"),
    }
}

pub(super) fn shown(text: &str) -> String {
    let plain = text.chars().map(|letter| match letter.is_control() {
        true => '\u{fffd}',
        false => letter,
    });
    plain.take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn names_and_times_are_read() {
        let hosts = ["peer0.org1".to_owned(), "10.1.2.3".to_owned()];
        let mut parameters = CertificateParams::new(hosts).unwrap();
        let name = &mut parameters.distinguished_name;
        name.push(DnType::OrganizationName, "Org1");
        name.push(DnType::CommonName, "peer0\nerror: forged");
        parameters.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let description = Description::of(certificate.der()).unwrap();
        assert!(description.subject.contains("O=Org1"), "{description:?}");
        assert!(!description.subject.contains('\n'), "{description:?}");
        let common_name = description.common_name.as_deref();
        assert_eq!(common_name, Some("peer0\nerror: forged"));
        assert_eq!(time(description.not_after), "2030-01-02T00:00:00Z");
        assert_eq!(Description::of(b"none"), None);
    }
}
