//! What stands before the dialect in a path: `/t/{tenant}` and `/vN.NN`, in this order, each optional. Both
//! are taken off before routing, since a router matches before its own layers run, and travel on as
//! extensions of the request. Percent-encoding is left as it is: handlers decode what they extract.
//!
//! Here also is decided for which tenant a request speaks (design D14): what the client's certificate proves, else what
//! the path says as far as it is believed. [`own_tenant`] refuses what does not fit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request as AxumRequest;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::Request;
use http::uri::{PathAndQuery, Uri};
use tower::Service;

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
struct NotTheirs(String);

/// The `vN.NN` of a request's path: `None` where there was none. It decides the framing of attach (protocol
/// rule 13), and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApiVersion(pub(super) Option<(u32, u32)>);

/// The path named a tenant that is not known: the router then finds nothing under the whole path, and the
/// fallback can say why.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnknownTenant;

/// `inner` behind the prefixes.
#[derive(Clone, Debug)]
pub struct Prefixed<S> {
    inner: S,
    tenants: Tenants,
}

impl<S> Prefixed<S> {
    pub(super) fn new(inner: S, tenants: Tenants) -> Self {
        Self { inner, tenants }
    }
}

impl<S, B> Service<Request<B>> for Prefixed<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let target = request.uri().path_and_query().map(PathAndQuery::as_str);
        let Stripped {
            path,
            version,
            rest,
        } = strip(target.unwrap_or_default(), &self.tenants);
        if let Some(Ok(rest)) = rest.map(str::parse::<PathAndQuery>) {
            *request.uri_mut() = Uri::from(rest);
        }
        let extensions = request.extensions_mut();
        let identity = extensions.get::<Arc<ClientIdentity>>().cloned();
        match self.tenants.of(path, identity.as_deref()) {
            Ok(Some(tenant)) => {
                extensions.insert(tenant);
            }
            Ok(None) => {
                extensions.insert(UnknownTenant);
            }
            Err(refused) => {
                extensions.insert(refused);
            }
        }
        extensions.insert(version);
        self.inner.call(request)
    }
}

impl Tenants {
    /// For whom a request speaks; `None` where its path names nobody.
    fn of(
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
pub(super) async fn own_tenant(request: AxumRequest, next: Next) -> Response {
    if let Some(NotTheirs(why)) = request.extensions().get() {
        return ApiError::forbidden(why.clone()).into_response();
    }
    next.run(request).await
}

/// Whom a path names.
#[derive(Debug, PartialEq, Eq)]
enum PathTenant {
    /// Nobody.
    Absent,
    /// A tenant that there is.
    Named(Tenant),
    /// One that there is not.
    Unknown,
}

/// A request's target without its prefixes.
#[derive(Debug, PartialEq, Eq)]
struct Stripped<'a> {
    path: PathTenant,
    version: ApiVersion,
    /// What is left, where anything was taken off: starts with `/`.
    rest: Option<&'a str>,
}

fn strip<'a>(target: &'a str, tenants: &Tenants) -> Stripped<'a> {
    let mut stripped = Stripped {
        path: PathTenant::Absent,
        version: ApiVersion(None),
        rest: None,
    };
    let mut target = target;
    if let Some(rest) = target.strip_prefix("/t/") {
        let (segment, rest) = split_segment(rest);
        let named = segment.parse().ok();
        let Some(tenant) = named.filter(|tenant| tenants.known.contains(tenant)) else {
            stripped.path = PathTenant::Unknown;
            return stripped;
        };
        stripped.path = PathTenant::Named(tenant);
        stripped.rest = Some(rest);
        target = rest;
    }
    if let Some(rest) = target.strip_prefix("/v") {
        let (segment, rest) = split_segment(rest);
        if let Some(version) = version(segment)
            && rest.starts_with('/')
        {
            stripped.version = ApiVersion(Some(version));
            stripped.rest = Some(rest);
        }
    }
    stripped
}

/// The text up to the next `/` or `?`, and the rest from there.
fn split_segment(text: &str) -> (&str, &str) {
    text.split_at(text.find(['/', '?']).unwrap_or(text.len()))
}

fn version(segment: &str) -> Option<(u32, u32)> {
    let (major, minor) = segment.split_once('.')?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    Some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_taken_off_in_their_order() {
        let tenants: Tenants = ["default", "org1-peer0"]
            .into_iter()
            .map(|name| name.parse().unwrap())
            .collect();
        // target, tenant of the path ("-": it names none), version, rest
        for (target, tenant, version, rest) in [
            ("/_ping", Some("-"), None, None),
            (
                "/v1.25/build?t=x",
                Some("-"),
                Some((1, 25)),
                Some("/build?t=x"),
            ),
            (
                "/v1.52/containers/a/kill?",
                Some("-"),
                Some((1, 52)),
                Some("/containers/a/kill?"),
            ),
            (
                "/t/org1-peer0/_ping",
                Some("org1-peer0"),
                None,
                Some("/_ping"),
            ),
            (
                "/t/org1-peer0/v1.44/_ping",
                Some("org1-peer0"),
                Some((1, 44)),
                Some("/_ping"),
            ),
            (
                "/t/default/images/v1.2/json",
                Some("default"),
                None,
                Some("/images/v1.2/json"),
            ),
            // Not a tenant that is known, or not of the form of one: nothing is taken off.
            ("/t/org2/_ping", None, None, None),
            ("/t/ORG1/_ping", None, None, None),
            ("/t/org1%2dpeer0/_ping", None, None, None),
            ("/t//_ping", None, None, None),
            ("/t/", None, None, None),
            // The other way round, and versions that are none.
            (
                "/v1.44/t/default/_ping",
                Some("-"),
                Some((1, 44)),
                Some("/t/default/_ping"),
            ),
            ("/version", Some("-"), None, None),
            ("/v1/_ping", Some("-"), None, None),
            ("/v1.+4/_ping", Some("-"), None, None),
            ("/v1.44", Some("-"), None, None),
            ("/v1.44?x", Some("-"), None, None),
            ("", Some("-"), None, None),
            ("*", Some("-"), None, None),
        ] {
            let path = match tenant {
                Some("-") => PathTenant::Absent,
                Some(name) => PathTenant::Named(name.parse().unwrap()),
                None => PathTenant::Unknown,
            };
            let expected = Stripped {
                path,
                version: ApiVersion(version),
                rest,
            };
            assert_eq!(strip(target, &tenants), expected, "{target}");
        }
    }

    #[test]
    fn without_tenants_no_path_names_one() {
        let none = Tenants::default();
        assert_eq!(strip("/t/default/_ping", &none).path, PathTenant::Unknown);
        let absent = none.of(strip("/_ping", &none).path, None);
        assert_eq!(absent, Ok(Some(Tenant::default_tenant())));
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
            let found = server.of(strip(path, &server).path, identity);
            let expected = tenant.map(|name| Some(name.parse().unwrap()));
            assert_eq!(found.clone().ok(), expected, "{path}: {found:?}");
        }
        let told = server.of(strip("/t/org2/_ping", &server).path, Some(&one));
        let NotTheirs(told) = told.unwrap_err();
        assert!(told.contains("CN=peer0") && told.contains("org1"), "{told}");
        // Where also those without a path have to prove themselves.
        let strict = Tenants::new(tenants(&["default"]), []);
        assert!(strict.of(PathTenant::Absent, None).is_err());
    }
}
