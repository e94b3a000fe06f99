//! THE mapping from the errors of the domain to Docker's: status, `{"message": …}`, and a fixed label for logs.
//! Every `From` into [`ApiError`] is in this file. Some texts decide what a peer does next (protocol
//! §4.5): `No such image` makes it build, `Conflict.` makes it give up a launch. They are the `Display` of
//! their errors; the tests here hold them fast.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use crate::names::InvalidName;
use crate::{archive, container, image, runtime, store};

/// A failure as the client sees it, and what the log says besides.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    failure: Failure,
}

/// An extension of each answer that tells of a failure: `metrics` makes the one log line of it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Fixed, one for each thing that an operator can act upon.
    pub(super) kind: &'static str,
    /// The message and its causes.
    pub(super) chain: Arc<str>,
}

#[derive(Serialize)]
struct Message {
    message: String,
}

impl ApiError {
    /// A failure without a cause below it.
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        let chain = Arc::from(message.as_str());
        Self {
            status,
            message,
            failure: Failure { kind, chain },
        }
    }

    /// A request that does not have the form it should have.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request", message)
    }

    /// A request for what nobody gets.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// A command of Docker's that has no meaning here: what it is, and what does it instead.
    pub(super) fn unsupported(what: &str, instead: Option<String>) -> Self {
        let mut message = format!("not supported by Peitho: {what}");
        if let Some(instead) = instead {
            let _ = write!(message, "; instead: {instead}");
        }
        Self::new(StatusCode::NOT_IMPLEMENTED, "unsupported", message)
    }

    /// The client hears `message`; the log has the cause too.
    pub(super) fn caused_by(
        status: StatusCode,
        kind: &'static str,
        message: impl Into<String>,
        cause: &(dyn std::error::Error + 'static),
    ) -> Self {
        let mut error = Self::new(status, kind, message);
        error.failure.chain = chain(error.message.clone(), Some(cause)).into();
        error
    }

    fn of(
        status: StatusCode,
        kind: &'static str,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let mut this = Self::new(status, kind, error.to_string());
        this.failure.chain = chain(this.message.clone(), error.source()).into();
        this
    }
}

/// `text` and the causes that it does not tell already.
fn chain(mut text: String, cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    let mut cause = cause;
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            let _ = write!(text, ": {told}");
        }
        cause = error.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(Message {
            message: self.message,
        });
        let mut response = (self.status, body).into_response();
        response.extensions_mut().insert(self.failure);
        response
    }
}

impl From<InvalidName> for ApiError {
    fn from(error: InvalidName) -> Self {
        Self::of(StatusCode::BAD_REQUEST, "name", &error)
    }
}

impl From<image::Error> for ApiError {
    fn from(error: image::Error) -> Self {
        use image::Error;
        let (status, kind) = match error {
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "image_not_found"),
            Error::Refused { .. } => (StatusCode::NOT_FOUND, "image_refused"),
            Error::Held(_) => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            Error::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous"),
            Error::ManyNames { .. } => (StatusCode::CONFLICT, "many_names"),
            Error::Context(_) => (StatusCode::BAD_REQUEST, "build_context"),
            Error::Dockerfile { .. } => (StatusCode::BAD_REQUEST, "dockerfile"),
            Error::Archive(ref error) => of_archive(error),
            Error::Push(_) => (StatusCode::INTERNAL_SERVER_ERROR, "image_push"),
            Error::Collected(_) => (StatusCode::INTERNAL_SERVER_ERROR, "image_collected"),
            Error::Store(error) => return error.into(),
        };
        Self::of(status, kind, &error)
    }
}

impl From<container::Error> for ApiError {
    fn from(error: container::Error) -> Self {
        use container::Error;
        let (status, kind) = match error {
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "container_not_found"),
            Error::ImageMissing(_) => (StatusCode::NOT_FOUND, "image_not_found"),
            Error::ImageNotBuilt(_) => (StatusCode::NOT_FOUND, "image_not_built"),
            Error::ImageNotAllowed(_) => (StatusCode::FORBIDDEN, "image_not_allowed"),
            Error::NameInUse { .. } => (StatusCode::CONFLICT, "name_in_use"),
            Error::NotRunning(_) => (StatusCode::CONFLICT, "not_running"),
            Error::Ambiguous(_) => (StatusCode::BAD_REQUEST, "ambiguous"),
            Error::Running(_) => (StatusCode::CONFLICT, "running"),
            Error::ImageInUse { .. } => (StatusCode::CONFLICT, "image_in_use"),
            Error::WholeLog => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            Error::Invalid(_) => (StatusCode::BAD_REQUEST, "request"),
            Error::Archive(ref error) => of_archive(error),
            Error::NoSuchPath { .. } | Error::OutputGone { .. } => {
                (StatusCode::NOT_FOUND, "path_not_found")
            }
            // An exit code carries no text, a status does (design D11).
            Error::NeverStarted(_) => (StatusCode::INTERNAL_SERVER_ERROR, "never_started"),
            // For the log: nobody hears it.
            Error::ClientGone => (StatusCode::BAD_REQUEST, "client_gone"),
            Error::Image(error) => return error.into(),
            Error::Runtime(error) => return error.into(),
            Error::Store(error) => return error.into(),
        };
        Self::of(status, kind, &error)
    }
}

impl From<runtime::Error> for ApiError {
    fn from(error: runtime::Error) -> Self {
        use runtime::Error;
        let (status, kind) = match error {
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "container_not_found"),
            Error::Exists(_) => (StatusCode::CONFLICT, "name_in_use"),
            Error::FilesTooLarge { .. } => (StatusCode::BAD_REQUEST, "files_too_large"),
            // Not a 403 or a 404: on create, 404 makes a 1.4 peer build the image once more.
            Error::Refused(_) => (StatusCode::INTERNAL_SERVER_ERROR, "runtime_refused"),
            Error::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "runtime_unavailable"),
            Error::NeverStarted(_) => (StatusCode::INTERNAL_SERVER_ERROR, "never_started"),
            // Only of a compile, whose run's end says so: no request is answered with it.
            Error::OutOfRoom(_) => (StatusCode::INTERNAL_SERVER_ERROR, "out_of_room"),
        };
        Self::of(status, kind, &error)
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        use store::Error;
        let (status, kind) = match error {
            // Clients only look whether it is 400 or more; proxies and people learn from the 507.
            _ if error.is_full() => (StatusCode::INSUFFICIENT_STORAGE, "store_full"),
            Error::Full { .. }
            | Error::Io { .. }
            | Error::Bucket { .. }
            | Error::Unusable { .. }
            | Error::Mismatch { .. }
            | Error::Damaged { .. }
            | Error::Several { .. }
            | Error::Corrupt { .. }
            | Error::Layout { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
        };
        Self::of(status, kind, &error)
    }
}

/// An archive is the client's, but for what goes wrong when it is written here.
fn of_archive(error: &archive::Error) -> (StatusCode, &'static str) {
    match error {
        archive::Error::Unreadable(_)
        | archive::Error::Member { .. }
        | archive::Error::TooLarge { .. } => (StatusCode::BAD_REQUEST, "archive"),
        archive::Error::Write { .. } | archive::Error::Read { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "store")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::names::ContainerKey;

    fn container_error(error: container::Error) -> ApiError {
        error.into()
    }

    #[test]
    fn peers_branch_on_these_texts_and_codes() {
        let image = || "net-peer-simple".parse().unwrap();
        let named = || "net-peer-simple".parse().unwrap();
        for (error, status, text) in [
            (
                ApiError::from(image::Error::NotFound(image())),
                404,
                "No such image: net-peer-simple:latest",
            ),
            (
                container_error(container::Error::ImageMissing(image())),
                404,
                "No such image: net-peer-simple:latest",
            ),
            (
                container_error(container::Error::ImageNotBuilt(image())),
                404,
                "No such image: net-peer-simple:latest; chaincode runs only",
            ),
            (
                container_error(container::Error::ImageNotAllowed(image())),
                403,
                "image net-peer-simple:latest may not be used to compile",
            ),
            (
                container_error(container::Error::NotFound(named())),
                404,
                "No such container: net-peer-simple",
            ),
            (
                container_error(container::Error::NameInUse {
                    name: "net-peer-simple".parse().unwrap(),
                }),
                409,
                "Conflict. The container name \"/net-peer-simple\" is already in use.",
            ),
            (
                container_error(container::Error::NotRunning(named())),
                409,
                "is not running",
            ),
            (
                container_error(container::Error::NeverStarted("no node fits".into())),
                500,
                "no node fits",
            ),
            (
                container_error(container::Error::Runtime(runtime::Error::Unavailable(
                    "timed out".into(),
                ))),
                503,
                "timed out",
            ),
            (
                container_error(container::Error::Runtime(runtime::Error::Exists(
                    ContainerKey {
                        tenant: crate::names::Tenant::default_tenant(),
                        name: "a".parse().unwrap(),
                    },
                ))),
                409,
                "exists already",
            ),
            (
                ApiError::from(image::Error::Dockerfile {
                    line: 3,
                    reason: "RUN is not supported".into(),
                }),
                400,
                "Dockerfile line 3",
            ),
            (
                ApiError::from(image::Error::Store(store::Error::Full {
                    path: "/s".into(),
                    bytes: 7,
                })),
                507,
                "no space left in /s for 7 bytes",
            ),
        ] {
            assert_eq!(error.status.as_u16(), status, "{error:?}");
            assert!(error.message.contains(text), "{error:?}");
        }
    }

    #[test]
    fn the_chain_tells_each_cause_once() {
        let error = ApiError::from(store::Error::Io {
            action: "writing",
            path: "/s/x".into(),
            source: io::Error::other("the disk is gone"),
        });
        assert_eq!(
            &*error.failure.chain,
            "store: writing /s/x: the disk is gone"
        );
        let error = ApiError::caused_by(
            StatusCode::BAD_REQUEST,
            "body",
            "the body was cut",
            &io::Error::other("connection reset"),
        );
        assert_eq!(error.message, "the body was cut");
        assert_eq!(&*error.failure.chain, "the body was cut: connection reset");
    }
}
