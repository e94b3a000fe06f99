//! The parsers of this module for those who feed them with anything: the targets in `fuzz/`, and the test that plays their
//! corpora. Not for others, and hidden from the documentation: the wire's types stay private, and only what a property
//! speaks of comes out. A feature would hide it better, and then the tests would be of another build than the program.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::middleware::from_fn;
use axum::routing::post;
use futures::stream;
use http::Uri;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::archive::ArchiveQuery;
use super::attach::{self, AttachQuery};
use super::body;
use super::container::CreateQuery;
use super::hijack::Hijacks;
use super::image::{BuildQuery, PullQuery};
use super::prefix::{Prefixed, Stripped, strip};
use super::stdcopy::Framing;
use super::tenants::{PathTenant, Tenants, own_tenant};
use super::types::create::CreateBody;
use super::types::{Container, Params};
use crate::container::{CreateSpec, Output};
use crate::names::Tenant;

/// What [`prefix`] takes apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `None` where the path names one that is not known.
    pub tenant: Option<Tenant>,
    /// Major and minor, where the path has them.
    pub version: Option<(u32, u32)>,
    /// What is left, where anything was taken off.
    pub rest: Option<&'a str>,
}

/// Takes the prefixes off a request's target.
pub fn prefix<'a>(target: &'a str, tenants: &Tenants) -> Target<'a> {
    let Stripped {
        path,
        version,
        rest,
    } = strip(target, tenants);
    Target {
        tenant: match path {
            PathTenant::Absent => Some(Tenant::default_tenant()),
            PathTenant::Named(tenant) => Some(tenant),
            PathTenant::Unknown => None,
        },
        version: version.0,
        rest,
    }
}

/// Reads the query of `uri` as each kind that there is; how many of them it can be.
pub fn queries(uri: &Uri) -> usize {
    [
        is::<CreateQuery>(uri),
        is::<PullQuery>(uri),
        is::<BuildQuery>(uri),
        is::<ArchiveQuery>(uri),
        is::<AttachQuery>(uri),
    ]
    .into_iter()
    .filter(|it| *it)
    .count()
}

fn is<T: DeserializeOwned>(uri: &Uri) -> bool {
    axum::extract::Query::<T>::try_from_uri(uri).is_ok()
}

/// The absolute path in the query of an archive request.
pub fn archive_path(uri: &Uri) -> Option<String> {
    let query = axum::extract::Query::<ArchiveQuery>::try_from_uri(uri).ok()?;
    query.absolute().ok().map(str::to_owned)
}

/// Reads the body of `POST /containers/create`; the error is for people.
///
/// # Errors
/// Where it is none.
pub fn create(body: &[u8]) -> Result<CreateSpec, String> {
    let body: CreateBody = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    body.try_into()
        .map_err(|error: super::error::ApiError| format!("{error:?}"))
}

/// What the router does with attach, where every container that can be named is there and has written `output`.
pub fn attachable(output: Bytes) -> Prefixed<Router> {
    let hijacks = Hijacks {
        tasks: TaskTracker::new(),
        closing: CancellationToken::new(),
    };
    let attach = async move |framing: Framing,
                             _: Container,
                             Params(query): Params<AttachQuery>,
                             mut request: Request| {
        let output = Output::Chaincode(Box::pin(stream::iter([Ok(output)])));
        attach::answer(output, framing, query, &mut request, hijacks)
    };
    let router = Router::new()
        .route("/containers/{id}/attach", post(attach))
        .layer(from_fn(own_tenant))
        .layer(from_fn(body::leave_no_rest));
    Prefixed::new(router, Tenants::default())
}
