//! How a request fails: one shape for all endpoints, that of the OCI distribution specification
//! (`{"errors":[{"code","message"}]}`), so that the agent and any other client of registries can show why.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::compile::ReportError;
use crate::image::{self, PullError};
use crate::registry::LayerError;
use crate::store;

/// A refusal with its reason.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        let status = match error {
            // Not a passing fault: the agent gives up instead of keeping a peer waiting.
            store::Error::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, "STORE", error.to_string())
    }
}

impl From<image::Error> for Failure {
    fn from(error: image::Error) -> Self {
        match error {
            image::Error::Store(error) => error.into(),
            other => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                other.to_string(),
            ),
        }
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Image(error) => error.into(),
            PullError::Unknown(_) | PullError::Partial { .. } => {
                Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", error.to_string())
            }
        }
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Store(error) => error.into(),
            LayerError::OutOfReach { .. } | LayerError::Replaced { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", error.to_string())
            }
            LayerError::Busy => Self::unavailable(error.to_string()),
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Store(error) => error.into(),
            ReportError::Unknown(_) | ReportError::UnknownSpare(_) => {
                Self::new(StatusCode::NOT_FOUND, "COMPILE_UNKNOWN", error.to_string())
            }
            ReportError::Offset { .. } => {
                Self::new(StatusCode::CONFLICT, "RANGE_INVALID", error.to_string())
            }
            ReportError::NoIncrement(_) => {
                Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", error.to_string())
            }
            ReportError::Superseded | ReportError::Unwanted => {
                Self::new(StatusCode::CONFLICT, "DENIED", error.to_string())
            }
            ReportError::Output(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "OUTPUT_INVALID",
                error.to_string(),
            ),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = self.status.as_u16(), "delivery: {}", self.message);
        }
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // For people's clients. Agents know what to show; were `Bearer` named, clients would look for a token service.
            let challenge = HeaderValue::from_static("Basic realm=\"peitho\"");
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
