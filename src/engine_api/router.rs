//! The dialect on one page: every path that a peer asks for, and what becomes of all others.

use axum::Router;
use axum::extract::{self, FromRef};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use http::{Extensions, Method, StatusCode, Uri};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::ApiError;
use super::hijack::Hijacks;
use super::metrics::{self, Requests};
use super::prefix::{Prefixed, UnknownTenant};
use super::tenants::{Tenants, own_tenant};
use super::{archive, attach, body, container, events, image, logs, look, system, unsupported};
use crate::container::Containers;
use crate::image::Images;
use crate::names::Tenant;
use crate::store::Store;

/// What handlers work with; each takes the parts that it needs.
#[derive(Clone)]
pub struct State {
    /// The door to images.
    pub images: Images,
    /// The door to containers.
    pub containers: Containers,
    /// Where bodies go while they come.
    pub store: Store,
    /// Owns what outlives its request: builds whose body is complete, and attached connections.
    pub tasks: TaskTracker,
    /// When cancelled, attached connections are dropped, so that `tasks` can end.
    pub closing: CancellationToken,
}

/// The service for the Engine API's listener.
pub fn router(state: State, tenants: Tenants, requests: Requests) -> Prefixed<Router> {
    let router = Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(look::info))
        .route("/events", get(events::events))
        .route("/images/create", post(image::pull))
        .route("/images/json", get(look::images))
        // A name holds slashes; the handler takes the `/json` off its end.
        .route(
            "/images/{*name}",
            get(image::inspect).delete(look::remove_image),
        )
        .route("/build", post(image::build))
        .route("/containers/create", post(container::create))
        .route("/containers/json", get(look::containers))
        .route("/containers/{id}/json", get(look::container))
        .route("/containers/{id}/logs", get(logs::logs))
        .route(
            "/containers/{id}/archive",
            get(archive::get).put(archive::put),
        )
        .route("/containers/{id}/attach", post(attach::attach))
        .route("/containers/{id}/start", post(container::start))
        .route("/containers/{id}/wait", post(container::wait))
        .route("/containers/{id}/stop", post(container::stop))
        .route("/containers/{id}/kill", post(container::kill))
        .route("/containers/{id}", delete(container::remove))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(own_tenant))
        .layer(from_fn(body::leave_no_rest))
        .layer(from_fn_with_state(requests, metrics::observe))
        .with_state(state);
    Prefixed::new(router, tenants)
}

/// Peers ask for nothing else (protocol §4.1); people with a Docker client do.
pub(super) async fn unknown_path(
    extract::State(containers): extract::State<Containers>,
    method: Method,
    uri: Uri,
    extensions: Extensions,
) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    if extensions.get::<UnknownTenant>().is_some() {
        return ApiError::new(
            StatusCode::NOT_FOUND,
            "unknown_tenant",
            format!(
                "unknown tenant: {method} {path}: the path names a tenant that is not configured"
            ),
        );
    }
    match refusal(&containers, &method, &uri, &extensions).await {
        Some(refusal) => refusal,
        None => ApiError::new(
            StatusCode::NOT_FOUND,
            "unknown_path",
            format!("page not found: {method} {path} is not among what Fabric peers ask of Docker"),
        ),
    }
}

async fn wrong_method(
    extract::State(containers): extract::State<Containers>,
    method: Method,
    uri: Uri,
    extensions: Extensions,
) -> ApiError {
    match refusal(&containers, &method, &uri, &extensions).await {
        Some(refusal) => refusal,
        None => {
            let path: String = uri.path().chars().take(200).collect();
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                format!("method not allowed: {method} {path}"),
            )
        }
    }
}

/// The refusal of one of Docker's requests that are not served.
async fn refusal(
    containers: &Containers,
    method: &Method,
    uri: &Uri,
    extensions: &Extensions,
) -> Option<ApiError> {
    let tenant = extensions.get::<Tenant>()?;
    unsupported::refusal(containers, tenant, method, uri.path()).await
}

impl FromRef<State> for Images {
    fn from_ref(state: &State) -> Self {
        state.images.clone()
    }
}

impl FromRef<State> for Containers {
    fn from_ref(state: &State) -> Self {
        state.containers.clone()
    }
}

impl FromRef<State> for Store {
    fn from_ref(state: &State) -> Self {
        state.store.clone()
    }
}

impl FromRef<State> for TaskTracker {
    fn from_ref(state: &State) -> Self {
        state.tasks.clone()
    }
}

impl FromRef<State> for Hijacks {
    fn from_ref(state: &State) -> Self {
        Self {
            tasks: state.tasks.clone(),
            closing: state.closing.clone(),
        }
    }
}
