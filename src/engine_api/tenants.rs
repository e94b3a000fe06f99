//! For which tenant a request speaks (design D14): what the client's certificate proves, else what the path says as far as
//! it is believed. `prefix` reads the path and asks here; [`own_tenant`] refuses what does not fit. A certificate is
//! verified by `listener`, long before.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use crate::listener::tls::ClientIdentity;
use crate::names::Tenant;

/// The tenants that a path may name, and those of clients without a certificate. There are none but `default` unless
/// tenants are configured: a path is never what makes a tenant (design D14).
#[derive(Clone, Debug)]
pub struct Tenants {
    known: Arc<BTreeSet<Tenant>>,
    /// For whom a client may speak that proves nothing.
    unproven: Arc<[Tenant]>,
}

impl Tenants {
    /// A path may name those of `known`, but a client without a certificate speaks for those of `unproven` only.
    pub fn new(
        known: impl IntoIterator<Item = Tenant>,
        unproven: impl IntoIterator<Item = Tenant>,
    ) -> Self {
        Self {
            known: Arc::new(known.into_iter().collect()),
            unproven: unproven.into_iter().collect(),
        }
    }
}

impl Default for Tenants {
    fn default() -> Self {
        Self::new([], [Tenant::default_tenant()])
    }
}

impl FromIterator<Tenant> for Tenants {
    /// Tenants that every path is believed for.
    fn from_iter<I: IntoIterator<Item = Tenant>>(tenants: I) -> Self {
        let known: BTreeSet<Tenant> = tenants.into_iter().collect();
        let unproven: Vec<Tenant> = known.iter().cloned().collect();
        Self::new(
            known,
            unproven.into_iter().chain([Tenant::default_tenant()]),
        )
    }
}

/// The client may not speak for whom the request is: why, for it and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotTheirs(String);

impl Tenants {
    /// Whether a path may name `tenant`.
    pub(super) fn know(&self, tenant: &Tenant) -> bool {
        self.known.contains(tenant)
    }

    /// For whom a request speaks; `None` where its path names nobody.
    pub(super) fn of(
        &self,
        path: PathTenant,
        identity: Option<&ClientIdentity>,
    ) -> Result<Option<Tenant>, NotTheirs> {
        let theirs = identity.map_or(&*self.unproven, |identity| &identity.tenants);
        match (path, theirs) {
            (PathTenant::Unknown, _) => Ok(None),
            (PathTenant::Named(tenant), _) if theirs.contains(&tenant) => Ok(Some(tenant)),
            (PathTenant::Absent, [tenant]) => Ok(Some(tenant.clone())),
            (PathTenant::Absent, _) if theirs.contains(&Tenant::default_tenant()) => {
                Ok(Some(Tenant::default_tenant()))
            }
            (PathTenant::Named(tenant), _) => Err(NotTheirs(match identity {
                Some(ClientIdentity { subject, tenants }) => format!(
                    "the path names the tenant {tenant}, but the certificate of {subject} is one of {}: use its \
                     path or none",
                    listed(tenants)
                ),
                None => format!(
                    "the path names the tenant {tenant}, which only a client with a certificate of that tenant may"
                ),
            })),
            (PathTenant::Absent, _) => Err(NotTheirs(match identity {
                Some(ClientIdentity { subject, tenants }) => format!(
                    "the certificate of {subject} is one of several tenants: name one by the path of the endpoint, \
                     /t/ with one of {}",
                    listed(tenants)
                ),
                None => "a client without a certificate has to name its tenant by the path of the endpoint, /t/<name>"
                    .to_owned(),
            })),
        }
    }
}

fn listed(tenants: &[Tenant]) -> String {
    let names: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
    names.join(", ")
}

/// A layer: refuses requests for a tenant that is not the client's.
pub(super) async fn own_tenant(request: Request, next: Next) -> Response {
    if let Some(NotTheirs(why)) = request.extensions().get() {
        return ApiError::forbidden(why.clone()).into_response();
    }
    next.run(request).await
}

/// Whom a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathTenant {
    /// Nobody.
    Absent,
    /// A tenant that there is.
    Named(Tenant),
    /// One that there is not.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom a path names, of those that the server knows.
    fn named(path: &str) -> PathTenant {
        match path
            .strip_prefix("/t/")
            .and_then(|rest| rest.split('/').next())
        {
            Some(name) => PathTenant::Named(name.parse().unwrap()),
            None => PathTenant::Absent,
        }
    }

    fn tenants(names: &[&str]) -> Vec<Tenant> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_certificate_says_who_and_the_path_may_only_agree() {
        let server = Tenants::new(
            tenants(&["org1", "org2", "org3"]),
            tenants(&["default", "org3"]),
        );
        let client = |names: &[&str]| ClientIdentity {
            subject: "CN=peer0".to_owned(),
            tenants: tenants(names),
        };
        let (one, two, general) = (
            client(&["org1"]),
            client(&["org1", "org2"]),
            client(&["default", "org3"]),
        );
        // client, path, tenant
        for (identity, path, tenant) in [
            (Some(&one), "/_ping", Some("org1")),
            (Some(&one), "/t/org1/_ping", Some("org1")),
            (Some(&one), "/t/org2/_ping", None),
            (Some(&two), "/t/org2/_ping", Some("org2")),
            (Some(&two), "/_ping", None),
            (Some(&general), "/_ping", Some("default")),
            (Some(&general), "/t/org3/_ping", Some("org3")),
            (Some(&general), "/t/org1/_ping", None),
            (None, "/_ping", Some("default")),
            (None, "/t/org3/_ping", Some("org3")),
            (None, "/t/org1/_ping", None),
        ] {
            let found = server.of(named(path), identity);
            let expected = tenant.map(|name| Some(name.parse().unwrap()));
            assert_eq!(found.clone().ok(), expected, "{path}: {found:?}");
        }
        let told = server.of(named("/t/org2/_ping"), Some(&one));
        let NotTheirs(told) = told.unwrap_err();
        assert!(told.contains("CN=peer0") && told.contains("org1"), "{told}");
        // Where also those without a path have to prove themselves.
        let strict = Tenants::new(tenants(&["default"]), []);
        assert!(strict.of(PathTenant::Absent, None).is_err());
    }
}
