//! What there is to pull: the repositories of a tenant and their tags, a page at a time (OCI distribution specification 1.1,
//! "Content Discovery").

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::Delivery;
use super::failure::Failure;
use crate::names::{ImageName, Tenant};

/// Names on one page at the most: some hundred KiB.
const LONGEST_PAGE: usize = 1000;

/// The part of a list that is wanted.
#[derive(Deserialize)]
pub(super) struct Page {
    /// How many names.
    n: Option<String>,
    /// The last one that is known already.
    last: Option<String>,
}

/// What is said of a page, as far as it can be read.
pub(super) type AskedPage = Result<Query<Page>, QueryRejection>;

pub(super) async fn catalog(
    State(delivery): State<Delivery>,
    page: AskedPage,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let tenant = delivery.may_read(&headers)?;
    let page = legible(page)?;
    let names = delivery.images.repositories(&tenant).await?;
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("{tenant}/{name}"))
        .collect();
    let (names, next) = page.of(&names)?;
    let body = json!({ "repositories": names });
    Ok(with_link("/v2/_catalog", next, body))
}

pub(super) async fn tags(
    delivery: &Delivery,
    tenant: &Tenant,
    repository: &ImageName,
    page: AskedPage,
) -> Result<Response, Failure> {
    let page = legible(page)?;
    let tags = delivery.images.tags(tenant, repository).await?;
    let name = format!("{tenant}/{}", repository.familiar());
    if tags.is_empty() {
        return Err(Failure::new(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            format!("there is no image {name}; /v2/_catalog lists those that there are"),
        ));
    }
    let (tags, next) = page.of(&tags)?;
    let body = json!({ "name": name, "tags": tags });
    Ok(with_link(&format!("/v2/{name}/tags/list"), next, body))
}

fn legible(page: AskedPage) -> Result<Page, Failure> {
    match page {
        Ok(Query(page)) => Ok(page),
        Err(error) => Err(Failure::invalid(error.to_string())),
    }
}

/// How the list goes on.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    n: usize,
    last: String,
}

impl Page {
    /// The page of `names`, which are sorted; what the next one is to be asked with, if there is one.
    fn of<'a>(&self, names: &'a [String]) -> Result<(&'a [String], Option<Next>), Failure> {
        let n = match self.n.as_deref().map(str::parse::<usize>) {
            None => LONGEST_PAGE,
            Some(Ok(n)) => n.min(LONGEST_PAGE),
            Some(Err(_)) => {
                let told = "n has to be a number, of names on one page";
                let code = "PAGINATION_NUMBER_INVALID";
                return Err(Failure::new(StatusCode::BAD_REQUEST, code, told));
            }
        };
        let known = match &self.last {
            Some(last) => names.partition_point(|name| name <= last),
            None => 0,
        };
        let rest = &names[known..];
        let page = &rest[..n.min(rest.len())];
        let next = page.last().filter(|_| page.len() < rest.len());
        let next = next.map(|last| Next {
            n,
            last: last.clone(),
        });
        Ok((page, next))
    }
}

fn with_link(path: &str, next: Option<Next>, body: serde_json::Value) -> Response {
    let mut response = Json(body).into_response();
    // Names of repositories and tags are text that needs no escape in a query.
    let link = next.map(|Next { n, last }| format!("<{path}?n={n}&last={last}>; rel=\"next\""));
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        let page = |n: &str, last: Option<&str>| {
            let page = Page {
                n: Some(n.to_owned()),
                last: last.map(str::to_owned),
            };
            let (names, next) = page.of(&names).unwrap();
            (names.concat(), next.map(|next| next.last))
        };
        let goes_on = |last: &str| Some(last.to_owned());
        assert_eq!(page("2", None), ("ab".to_owned(), goes_on("b")));
        assert_eq!(page("2", Some("b")), ("cd".to_owned(), goes_on("d")));
        assert_eq!(page("2", Some("d")), ("e".to_owned(), None));
        // One that was removed in the meantime.
        assert_eq!(page("2", Some("bb")), ("cd".to_owned(), goes_on("d")));
        assert_eq!(page("5", None), ("abcde".to_owned(), None));
        assert_eq!(page("0", None), (String::new(), None));
        assert_eq!(page("9", Some("e")), (String::new(), None));
        let wrong = Page {
            n: Some("-1".to_owned()),
            last: None,
        };
        assert!(wrong.of(&names).is_err());
    }
}
