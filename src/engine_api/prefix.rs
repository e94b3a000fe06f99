//! What stands before the dialect in a path: `/t/{tenant}` and `/vN.NN`, in this order, each optional. Both
//! are taken off before routing, since a router matches before its own layers run, and travel on as
//! extensions of the request. Percent-encoding is left as it is: handlers decode what they extract. Whether the client
//! may speak for the tenant of the path is decided in `tenants`.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use http::uri::{PathAndQuery, Uri};
use tower::Service;

use super::tenants::{PathTenant, Tenants};
use crate::listener::tls::ClientIdentity;

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

/// A request's target without its prefixes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stripped<'a> {
    pub(super) path: PathTenant,
    pub(super) version: ApiVersion,
    /// What is left, where anything was taken off: starts with `/`.
    pub(super) rest: Option<&'a str>,
}

pub(super) fn strip<'a>(target: &'a str, tenants: &Tenants) -> Stripped<'a> {
    let mut stripped = Stripped {
        path: PathTenant::Absent,
        version: ApiVersion(None),
        rest: None,
    };
    let mut target = target;
    if let Some(rest) = target.strip_prefix("/t/") {
        let (segment, rest) = split_segment(rest);
        let named = segment.parse().ok();
        let Some(tenant) = named.filter(|tenant| tenants.know(tenant)) else {
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
    use crate::names::Tenant;

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
}
