//! [`InstanceMaterial`] in a Secret that the first replica makes and all share. Called by `serve` before the
//! listeners open, and for jobs of the command line beside it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};

use super::request::Requests;
use crate::names::InstanceName;
use crate::names::kubernetes as names;
use crate::runtime::{Error, InstanceMaterial};

const TOKEN_KEY: &str = "token.key";
const CA_CERT: &str = "delivery-ca.crt";
const CA_KEY: &str = "delivery-ca.key";

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
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = names::instance_secret(instance);
    let found = || load(client.clone(), namespace, instance);
    if let Some(material) = found().await? {
        return Ok(material);
    }
    let fresh = generate(instance)?;
    match requests.create(&api, &fresh).await {
        Ok(secret) => read(secret),
        Err(failure) if failure.is_taken() => match found().await? {
            Some(material) => Ok(material),
            None => Err(Error::Refused(format!(
                "secret {namespace}/{name} was deleted while it was read; start again"
            ))),
        },
        Err(failure) => Err(failure.into_error(&format!("creating secret {namespace}/{name}"))),
    }
}

/// Reads the instance's Secret in `namespace`; `None` where no Peitho of this name has made it.
///
/// # Errors
/// As [`load_or_create`].
pub async fn load(
    client: Client,
    namespace: &str,
    instance: &InstanceName,
) -> Result<Option<InstanceMaterial>, Error> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let name = names::instance_secret(instance);
    let found = Requests::default().call(|| api.get_opt(&name)).await;
    let reading = format!("reading secret {namespace}/{name}");
    let found = found.map_err(|failure| failure.into_error(&reading))?;
    found.map(read).transpose()
}

fn generate(instance: &InstanceName) -> Result<Secret, Error> {
    let made = InstanceMaterial::generate(instance).map_err(|error| {
        Error::Refused(format!(
            "making the delivery certificate authority: {error}"
        ))
    })?;
    let data = [
        (TOKEN_KEY, made.token_key.expose_secret().to_vec()),
        (CA_CERT, made.ca_cert_pem.into_bytes()),
        (CA_KEY, made.ca_key_pem.expose_secret().as_bytes().to_vec()),
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
    use super::*;

    #[test]
    fn what_is_made_is_read_again() {
        let secret = generate(&InstanceName::default()).unwrap();
        let material = read(secret.clone()).unwrap();
        let again = read(secret).unwrap();
        assert_eq!(
            material.token_key.expose_secret(),
            again.token_key.expose_secret()
        );
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
