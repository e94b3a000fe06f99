//! What stands in an X.509 certificate, for logs and for rules on names. Whether it is to be believed is not decided
//! here: that is rustls's.

use std::net::IpAddr;

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// As much of a name as a log line takes.
const SHOWN: usize = 300;

/// The parts of a certificate that people and rules ask for. Text is as the certificate has it, but without control
/// characters and of bounded length: a stranger may have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    /// `O=Org1, CN=peer0.org1.example.com`.
    pub(super) subject: String,
    /// Of the authority, in the same form.
    pub(super) issuer: String,
    /// The common name, and the alternative names: DNS, IP, mail and URI.
    pub(super) names: Vec<String>,
    /// Seconds since the Unix epoch.
    pub(super) not_before: i64,
    /// Seconds since the Unix epoch.
    pub(super) not_after: i64,
}

impl Description {
    /// `None` where `der` is no certificate.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let common = certificate.subject().iter_common_name();
        let common = common.filter_map(|name| name.as_str().ok());
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let alternative = alternative
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(text_of);
        Some(Self {
            subject: shown(&certificate.subject().to_string()),
            issuer: shown(&certificate.issuer().to_string()),
            names: common.map(shown).chain(alternative).collect(),
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

fn text_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some(shown(text))
        }
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let sixteen = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| sixteen()).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn shown(text: &str) -> String {
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
        assert_eq!(
            description.names,
            ["peer0\u{fffd}error: forged", "peer0.org1", "10.1.2.3"]
        );
        assert_eq!(time(description.not_after), "2030-01-02T00:00:00Z");
        assert_eq!(Description::of(b"none"), None);
    }
}
