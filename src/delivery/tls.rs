//! The certificate of the delivery listener: made at start from the instance's CA, whose certificate every
//! pod gets with its token (design D16). `serve` calls it; it knows nothing of what is delivered.
//!
//! It is good for this machine's own name too: people reach it through a forwarded port (`kubectl port-forward`).
//!
//! The certificate is made anew at each start and lives in memory only. It is good for a year: a server that
//! runs longer has to be restarted before that.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Uri;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use time::{Duration, OffsetDateTime};

/// How the near end of a forwarded port is reached.
const FORWARDED: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `delivery.address` is not the address of an https server.
    #[error("delivery.address {0:?}: expected https://host:port, as pods reach this server")]
    Address(String),
    /// The CA's certificate or key cannot be used.
    #[error("the CA of this instance: {0}")]
    Authority(#[source] rcgen::Error),
    /// No certificate for this host.
    #[error("a certificate for {hosts}: {source}")]
    Certificate {
        /// The hosts of the addresses.
        hosts: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The TLS library refuses key or certificate.
    #[error("TLS for the delivery listener: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS for the listener that containers reach under `addresses`, each `https://host:port` with a DNS name or an IP
/// address: http/1.1, no client certificates, a certificate signed by the CA of `ca_certificate` and
/// `ca_key`, both PEM.
///
/// # Errors
/// When an address has no host or the CA cannot sign.
pub fn server_config(
    ca_certificate: &str,
    ca_key: &SecretString,
    addresses: &[String],
) -> Result<Arc<ServerConfig>, Error> {
    let hosts = addresses
        .iter()
        .map(|address| host_of(address).ok_or_else(|| Error::Address(address.clone())))
        .chain(FORWARDED.map(|host| Ok(host.to_owned())))
        .collect::<Result<BTreeSet<_>, _>>()?;
    let hosts = Vec::from_iter(hosts);
    let authority = KeyPair::from_pem(ca_key.expose_secret())
        .and_then(|key| Issuer::from_ca_cert_pem(ca_certificate, key))
        .map_err(Error::Authority)?;
    let certificate = |source| Error::Certificate {
        hosts: hosts.join(", "),
        source,
    };
    let key = KeyPair::generate().map_err(certificate)?;
    let signed = parameters(&hosts)
        .and_then(|parameters| parameters.signed_by(&key, &authority))
        .map_err(certificate)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn parameters(hosts: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(hosts)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "peitho delivery");
    let now = OffsetDateTime::now_utc();
    // Clocks of nodes differ; an hour is more than they should.
    parameters.not_before = now - Duration::HOUR;
    parameters.not_after = now + Duration::days(365);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

fn host_of(address: &str) -> Option<String> {
    let address: Uri = address.parse().ok()?;
    if address.scheme_str() != Some("https") {
        return None;
    }
    let host = address.host()?.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_is_a_name_or_an_ip_address() {
        for (address, host) in [
            ("https://peitho:8081", Some("peitho")),
            ("https://peitho.fabric.svc:8081/", Some("peitho.fabric.svc")),
            ("https://10.1.2.3:8081", Some("10.1.2.3")),
            ("https://[fd00::1]:8081", Some("fd00::1")),
            ("http://peitho:8081", None),
            ("peitho:8081", None),
            ("", None),
        ] {
            assert_eq!(host_of(address).as_deref(), host, "{address}");
        }
    }

    #[test]
    fn what_is_wrong_with_address_or_authority_is_said() {
        let no_key = SecretString::from("no key");
        let told = |address| {
            server_config("no certificate", &no_key, &[str::to_owned(address)])
                .unwrap_err()
                .to_string()
        };
        assert!(
            told("peitho:8081").contains("expected https://host:port"),
            "{}",
            told("peitho:8081")
        );
        assert!(
            told("https://peitho:8081").contains("the CA of this instance"),
            "{}",
            told("https://peitho:8081")
        );
    }
}
