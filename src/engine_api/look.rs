//! What people ask with the `docker` command: lists and details of containers and images, `info`. Peers ask for none of it
//! (protocol §4.1). `types::shown` has the JSON, `filters` what is left out.

use axum::extract::State;
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use wildmatch::WildMatch;

use super::error::ApiError;
use super::filters::{Filters, name_fits};
use super::types::shown::{self, status_word};
use super::types::{Container, Params, switch};
use crate::container::{Containers, Shown};
use crate::image::{Images, Listed};
use crate::names::{ImageName, Tenant};
use crate::runtime;

/// Docker's words for states, of which some never come here.
const STATES: &[&str] = &[
    "created",
    "restarting",
    "running",
    "removing",
    "paused",
    "exited",
    "dead",
];

/// The query of `GET /containers/json`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ListQuery {
    #[serde(deserialize_with = "switch")]
    all: bool,
    /// The last so many that were created; 0 and less for all.
    limit: i64,
    filters: String,
}

/// `GET /containers/json`.
pub(super) async fn containers(
    State(containers): State<Containers>,
    State(images): State<Images>,
    Extension(tenant): Extension<Tenant>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let known = ["name", "id", "label", "status", "ancestor", "exited"];
    let filters = Filters::read(&query.filters, &known)?;
    for word in filters.values("status") {
        if !STATES.contains(&word.as_str()) {
            return Err(ApiError::bad_request(format!(
                "invalid filter 'status={word}'"
            )));
        }
    }
    let mut codes = Vec::new();
    for code in filters.values("exited") {
        let code: i64 = code
            .parse()
            .map_err(|_| ApiError::bad_request(format!("invalid filter 'exited={code}'")))?;
        codes.push(code);
    }
    let ancestors = Ancestors::read(&images, &tenant, filters.values("ancestor")).await?;
    let limit = usize::try_from(query.limit).ok().filter(|limit| *limit > 0);
    let all = query.all || limit.is_some() || !filters.values("status").is_empty();
    let fits = |it: &Shown| {
        let id = it.id.to_string();
        let name = it.name.as_ref().map_or("", |name| name.as_str());
        let code = match &it.state {
            runtime::State::Exited(exit) => Some(exit.code),
            _ => None,
        };
        (all || it.is_running())
            && filters.any("name", |wanted| name_fits(name, wanted))
            && filters.any("id", |wanted| id.starts_with(wanted))
            && filters.any("status", |wanted| status_word(&it.state) == wanted)
            && (codes.is_empty() || code.is_some_and(|code| codes.contains(&code)))
            && ancestors.has(&it.image)
            && filters.labels(&it.labels)
    };
    let listed = containers.list(&tenant).await?.into_iter().filter(fits);
    let now = Timestamp::now();
    let listed = listed.take(limit.unwrap_or(usize::MAX));
    Ok(Json(listed.map(|it| shown::summary(&it, now)).collect()))
}

/// Images that containers are wanted of; `None` for any.
struct Ancestors(Option<Vec<ImageName>>);

impl Ancestors {
    async fn read(images: &Images, tenant: &Tenant, given: &[String]) -> Result<Self, ApiError> {
        if given.is_empty() {
            return Ok(Self(None));
        }
        let mut names = Vec::new();
        for text in given {
            let name: ImageName = text.parse()?;
            // By its id too; one that is not there is the ancestor of none.
            match images.mine(tenant, &name).await {
                Ok(same) => names.extend(same.into_iter().map(|image| image.name)),
                Err(_) => names.push(name),
            }
        }
        Ok(Self(Some(names)))
    }

    fn has(&self, image: &ImageName) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(image))
    }
}

/// `GET /containers/{id}/json`.
pub(super) async fn container(
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    Container(container): Container,
) -> Result<Json<Value>, ApiError> {
    let found = containers.show(&tenant, &container).await?;
    Ok(Json(shown::inspect(&found)))
}

/// The query of `GET /images/json`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ImagesQuery {
    filters: String,
    /// Of old: a pattern for names.
    filter: String,
}

/// `GET /images/json`.
pub(super) async fn images(
    State(images): State<Images>,
    Extension(tenant): Extension<Tenant>,
    Params(query): Params<ImagesQuery>,
) -> Result<Json<Value>, ApiError> {
    let filters = Filters::read(&query.filters, &["reference", "label", "dangling"])?;
    let fits = |it: &Listed| {
        filters.any("reference", |wanted| reference_fits(&it.name, wanted))
            && (query.filter.is_empty() || reference_fits(&it.name, &query.filter))
            && filters.any("dangling", |wanted| matches!(wanted, "false" | "0"))
            && filters.labels(&it.labels)
    };
    let listed: Vec<_> = images
        .list(&tenant)
        .await?
        .into_iter()
        .filter(fits)
        .collect();
    let mut groups: Vec<Vec<&Listed>> = Vec::new();
    for image in &listed {
        match groups.iter_mut().find(|same| same[0].id == image.id) {
            Some(same) => same.push(image),
            None => groups.push(vec![image]),
        }
    }
    Ok(Json(groups.iter().map(|same| shown::image(same)).collect()))
}

/// Docker's `reference`: a pattern for the name with its tag, or without.
fn reference_fits(name: &ImageName, wanted: &str) -> bool {
    let whole = name.to_string();
    let repository = whole
        .rsplit_once([':', '@'])
        .map_or(whole.as_str(), |(repository, _)| repository);
    let pattern = WildMatch::new(wanted);
    pattern.matches(&whole) || pattern.matches(repository)
}

/// The query of `DELETE /images/{name}`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RemoveQuery {
    #[serde(deserialize_with = "switch")]
    force: bool,
}

/// `DELETE /images/{name}`: by name or id; all names of an id by force alone. The layer stays in the store, so that nothing is
/// told to be deleted.
pub(super) async fn remove_image(
    State(images): State<Images>,
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
    axum::extract::Path(name): axum::extract::Path<String>,
    Params(query): Params<RemoveQuery>,
) -> Result<Json<Value>, ApiError> {
    let name: ImageName = name.parse()?;
    let meant = match query.force {
        true => images.mine(&tenant, &name).await?,
        false => {
            let image = images.mine_alone(&tenant, &name).await?;
            containers.check_unused(&tenant, &image.name).await?;
            vec![image]
        }
    };
    let mut untagged = Vec::new();
    for image in &meant {
        images.remove(&tenant, image).await?;
        untagged.push(json!({ "Untagged": image.name.to_string() }));
    }
    Ok(Json(untagged.into()))
}

/// `GET /info`.
pub(super) async fn info(
    State(images): State<Images>,
    State(containers): State<Containers>,
    Extension(tenant): Extension<Tenant>,
) -> Result<Json<Value>, ApiError> {
    let containers = containers.list(&tenant).await?;
    let images = images.list(&tenant).await?;
    Ok(Json(shown::info(&containers, images.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_fit_with_and_without_their_tag() {
        let name: ImageName = "hyperledger/fabric-ccenv:2.5".parse().unwrap();
        for (wanted, fits) in [
            ("hyperledger/fabric-ccenv", true),
            ("hyperledger/fabric-ccenv:2.5", true),
            ("hyperledger/*", true),
            ("*:2.5", true),
            ("fabric-ccenv", false),
            ("*:2.4", false),
        ] {
            assert_eq!(reference_fits(&name, wanted), fits, "{wanted}");
        }
    }
}
