//! Error responses of the API: `{"status":"error","message","details","code"}`.

use std::io::Cursor;
use std::sync::Arc;

use callscope_common::ErrorCode;
use callscope_common::api::ErrorBody;
use rocket::http::{ContentType, Header, Status};
use rocket::request::Request;
use rocket::response::{self, Responder, Response};
use tracing::error;

use crate::store::StoreError;
use crate::transport::connections::LimitReached;

/// An error response.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The HTTP status.
    pub status: Status,
    /// The code for programs.
    pub code: ErrorCode,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where it is wrong, or what to do.
    pub details: Option<String>,
    /// The methods of the header `Allow`, for status 405.
    pub allow: Option<String>,
    /// The error of the storage. It is logged with the response and not shown to the client.
    cause: Option<Arc<StoreError>>,
}

impl ApiError {
    /// Makes an error with this status.
    #[must_use]
    pub fn new(status: Status, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: None, allow: None, cause: None }
    }

    /// Adds where it is wrong, or what to do.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// Makes a 400.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Status::BadRequest, ErrorCode::InvalidRequest, message)
    }

    /// Makes a 404 for a call.
    #[must_use]
    pub fn no_call() -> Self {
        Self::new(Status::NotFound, ErrorCode::CallNotFound, "no such call")
    }

    /// Makes a 405 with the methods that are served.
    #[must_use]
    pub fn method_not_allowed(allow: String) -> Self {
        Self { allow: Some(allow), ..Self::of_status(Status::MethodNotAllowed) }
    }

    /// Makes a 403.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Status::Forbidden, ErrorCode::Forbidden, message)
    }

    /// Makes a 503, which asks the client to retry.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Status::ServiceUnavailable, ErrorCode::Unavailable, message)
    }

    /// Makes an error with the general code and message of a status.
    #[must_use]
    pub fn of_status(status: Status) -> Self {
        let (code, message) = match status.code {
            400 => (ErrorCode::InvalidRequest, "the request cannot be read"),
            401 => (ErrorCode::AuthenticationFailed, "no token"),
            403 => (ErrorCode::Forbidden, "not allowed"),
            404 => (ErrorCode::NotFound, "no such path"),
            405 => (ErrorCode::MethodNotAllowed, "this method is not served here"),
            413 => (ErrorCode::PayloadTooLarge, "the body is too large"),
            422 => (ErrorCode::InvalidRequest, "the request has a wrong shape"),
            503 => (ErrorCode::Unavailable, "try again"),
            500.. => (ErrorCode::Internal, "the server failed"),
            _ => (ErrorCode::Error, status.reason_lossy()),
        };
        Self::new(status, code, message)
    }

    /// Returns the JSON body.
    #[must_use]
    pub fn body(&self) -> String {
        let body = ErrorBody {
            status: "error".into(),
            message: self.message.clone(),
            details: self.details.clone(),
            code: Some(self.code.into()),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let answer = match &error {
            StoreError::Overloaded => return Self::unavailable("the server is overloaded"),
            StoreError::Closing => return Self::unavailable("the server is shutting down"),
            error if error.is_unstorable_text() => {
                return Self::bad_request("a text contains a NUL, which the database cannot store");
            }
            error if error.is_fault() => Self::of_status(Status::InternalServerError),
            _ => Self::unavailable("the storage does not answer"),
        };
        Self { cause: Some(Arc::new(error)), ..answer }
    }
}

impl From<LimitReached> for ApiError {
    fn from(limit: LimitReached) -> Self {
        let setting = match limit {
            LimitReached::All => return Self::unavailable(limit.as_str()),
            LimitReached::Token => "max_connections_per_token",
            LimitReached::Address => "max_connections_per_address",
        };
        Self::new(Status::TooManyRequests, ErrorCode::TooManyConnections, limit.as_str())
            .details(format!("the server's setting `{setting}`"))
    }
}

impl<'r> Responder<'r, 'static> for ApiError {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match &self.cause {
            Some(error) if self.status == Status::InternalServerError => error!(%error, "a request failed"),
            Some(error) => error!(%error, "the storage does not answer"),
            None => {}
        }
        let body = self.body();
        let mut response = Response::build();
        response.status(self.status).header(ContentType::JSON).sized_body(body.len(), Cursor::new(body));
        match self.status.code {
            // Webhooks are authenticated by their signature, so no token is asked for.
            401 if !request.uri().path().starts_with("/webhooks") => {
                response.header(Header::new("WWW-Authenticate", "Bearer"));
            }
            429 | 503 => {
                response.header(Header::new("Retry-After", "1"));
            }
            405 => {
                response.header(Header::new("Allow", self.allow.unwrap_or_default()));
            }
            426 => {
                response.header(Header::new("Upgrade", "websocket"));
                response.header(Header::new("Connection", "Upgrade"));
                response.header(Header::new("Sec-WebSocket-Version", "13"));
            }
            _ => {}
        }
        response.ok()
    }
}
