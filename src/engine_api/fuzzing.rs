//! The parsers of this module for those who feed them with anything: the targets in `fuzz/`, and the test that plays their
//! corpora. Not for others, and hidden from the documentation: the wire's types stay private, and only what a property
//! speaks of comes out. A feature would hide it better, and then the tests would be of another build than the program.

use http::Uri;
use serde::de::DeserializeOwned;

use super::archive::ArchiveQuery;
use super::attach::AttachQuery;
use super::container::CreateQuery;
use super::image::{BuildQuery, PullQuery};
use super::prefix::{Stripped, strip};
use super::tenants::{PathTenant, Tenants};
use super::types::create::CreateBody;
use crate::container::CreateSpec;
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
