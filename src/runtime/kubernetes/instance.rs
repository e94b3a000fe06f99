//! What all replicas of one Peitho share: the key of the tokens, and the certificate authority of the
//! delivery listener (design D16). It lies in a Secret that the first one makes, so tokens and certificates
//! hold beyond a restart. Called by `serve` before the listeners open.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use secrecy::zeroize::Zeroize as _;
use secrecy::{SecretBox, SecretString};

use super::request::Requests;
use crate::names::InstanceName;
use crate::names::kubernetes as names;
use crate::runtime::Error;

const TOKEN_KEY: &str = "token.key";
const CA_CERT: &str = "delivery-ca.crt";
const CA_KEY: &str = "delivery-ca.key";
const YEARS: i64 = 10;

/// What all replicas of one instance share. `Debug` shows no key.
#[derive(Debug)]
pub struct InstanceMaterial {
    /// The key of [`crate::grant::Grants`].
    pub token_key: SecretBox<[u8; 32]>,
    /// The delivery CA's certificate, PEM.
    pub ca_cert_pem: String,
    /// The delivery CA's private key, PEM (PKCS#8, ECDSA P-256).
    pub ca_key_pem: SecretString,
}

/// Reads the instance's Secret in `namespace`, or makes it: of several that start at once one makes it.
///
/// # Errors
/// [`Error::Refused`] when it is not readable as such or must not be read; [`Error::Unavailable`].
pub async fn load_or_create(
    client: Client,
    namespace: &str,
    instance: &InstanceName,
) -> Result<InstanceMaterial, Error> {
    let requests = Requests::default();
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let name = names::instance_secret(instance);
    let reading = format!("reading secret {namespace}/{name}");
    let get = || async {
        let found = requests.call(|| api.get_opt(&name)).await;
        found.map_err(|failure| failure.into_error(&reading))
    };
    if let Some(secret) = get().await? {
        return read(secret);
    }
    let fresh = generate(instance)?;
    match requests.create(&api, &fresh).await {
        Ok(secret) => read(secret),
        Err(failure) if failure.is_taken() => match get().await? {
            Some(secret) => read(secret),
            None => Err(Error::Refused(format!(
                "secret {namespace}/{name} was deleted while it was read; start again"
            ))),
        },
        Err(failure) => Err(failure.into_error(&format!("creating secret {namespace}/{name}"))),
    }
}

fn generate(instance: &InstanceName) -> Result<Secret, Error> {
    let failed = |error: rcgen::Error| {
        Error::Refused(format!(
            "making the delivery certificate authority: {error}"
        ))
    };
    let key = KeyPair::generate().map_err(failed)?;
    let now = time::OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{instance} delivery"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Clocks of nodes may be behind.
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(365 * YEARS);
    let certificate = params.self_signed(&key).map_err(failed)?;
    let token_key: [u8; 32] = rand::random();
    let data = [
        (TOKEN_KEY, token_key.to_vec()),
        (CA_CERT, certificate.pem().into_bytes()),
        (CA_KEY, key.serialize_pem().into_bytes()),
    ];
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(names::instance_secret(instance)),
            labels: Some(names::instance_labels(instance)),
            annotations: Some(BTreeMap::from([(
                names::DESCRIPTION.to_owned(),
                "Key of the tokens of Peitho's pods and certificate authority of its delivery listener, \
                 shared by all replicas. Peitho makes a new one when this is deleted and it is restarted; \
                 pods that start at that moment fail"
                    .to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        data: Some(
            data.map(|(key, value)| (key.to_owned(), ByteString(value)))
                .into(),
        ),
        ..Secret::default()
    })
}

fn read(secret: Secret) -> Result<InstanceMaterial, Error> {
    let name = secret.metadata.name.unwrap_or_default();
    let mut data = secret.data.unwrap_or_default();
    let unreadable = |key: &str| {
        Error::Refused(format!(
            "secret {name} has no readable {key}; delete it and restart Peitho, which makes a new one"
        ))
    };
    let text = |key: &str| {
        let bytes = data.get(key).map(|value| value.0.clone());
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|text| text.contains("-----BEGIN"))
            .ok_or_else(|| unreadable(key))
    };
    let ca_cert_pem = text(CA_CERT)?;
    let ca_key_pem = SecretString::from(text(CA_KEY)?);
    let token_key = data
        .get(TOKEN_KEY)
        .and_then(|value| <[u8; 32]>::try_from(value.0.as_slice()).ok())
        .map(|key| SecretBox::new(Box::new(key)))
        .ok_or_else(|| unreadable(TOKEN_KEY))?;
    data.values_mut().for_each(|value| value.0.zeroize());
    Ok(InstanceMaterial {
        token_key,
        ca_cert_pem,
        ca_key_pem,
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn what_is_made_is_read_again_and_signs() {
        let secret = generate(&InstanceName::default()).unwrap();
        let material = read(secret.clone()).unwrap();
        let again = read(secret).unwrap();
        assert_eq!(
            material.token_key.expose_secret(),
            again.token_key.expose_secret()
        );
        let key = KeyPair::from_pem(material.ca_key_pem.expose_secret()).unwrap();
        let params = CertificateParams::default();
        let issuer = rcgen::Issuer::from_params(&params, &key);
        let leaf = KeyPair::generate().unwrap();
        CertificateParams::new(vec!["peitho".to_owned()])
            .unwrap()
            .signed_by(&leaf, &issuer)
            .unwrap();
        assert!(material.ca_cert_pem.starts_with("-----BEGIN CERTIFICATE"));
    }

    #[test]
    fn debug_shows_no_key_and_a_broken_secret_says_what_to_do() {
        let mut secret = generate(&InstanceName::default()).unwrap();
        let debug = format!("{:?}", read(secret.clone()).unwrap());
        assert!(!debug.contains("PRIVATE KEY"), "{debug}");
        secret
            .data
            .as_mut()
            .unwrap()
            .insert(TOKEN_KEY.to_owned(), ByteString(vec![1; 31]));
        let error = read(secret).unwrap_err().to_string();
        assert!(
            error.contains("peitho-instance")
                && error.contains(TOKEN_KEY)
                && error.contains("delete it"),
            "{error}"
        );
    }
}
