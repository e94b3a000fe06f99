//! How what surrounds compiles gets into pods: all of it travels in the compile's own Secret. Pure; used by
//! `compile_pod`.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, KeyToPath, SecretKeySelector};

use crate::runtime::surroundings::{BUNDLE, Surroundings};

/// What goes into the compile's Secret.
pub(super) fn data(surroundings: &Surroundings) -> BTreeMap<String, ByteString> {
    let proxies = surroundings.proxies();
    let proxies = proxies.iter().map(|proxy| (proxy.key, proxy.address));
    let bundle = surroundings.bundle().map(|bundle| (BUNDLE, bundle));
    proxies
        .chain(bundle)
        .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
        .collect()
}

/// The file of certificates, where there is one.
pub(super) fn file(surroundings: &Surroundings) -> Option<KeyToPath> {
    surroundings.bundle().map(|_| KeyToPath {
        key: BUNDLE.to_owned(),
        path: BUNDLE.to_owned(),
        mode: Some(0o444),
    })
}

/// Variables whose values stand in the Secret `secret`.
pub(super) fn secret_variables(surroundings: &Surroundings, secret: &str) -> Vec<EnvVar> {
    let variable = |name: &str, key: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: key.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let proxies = surroundings.proxies();
    let variables = proxies
        .iter()
        .flat_map(|proxy| proxy.variables.map(|name| variable(name, proxy.key)));
    variables.collect()
}
