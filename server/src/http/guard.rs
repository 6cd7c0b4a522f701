//! Request guards: which tokens may use a route.

use callscope_common::ErrorCode;
use callscope_common::claims::Role;
use parking_lot::Mutex;
use rocket::Request;
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};

use super::AppState;
use crate::auth::{Identity, TokenError};
use crate::clock;
use crate::http::error::ApiError;

/// The holder of a valid token.
#[derive(Debug)]
pub struct Viewer(pub Identity);

/// The holder of a valid token with the role of an admin.
#[derive(Debug)]
pub struct Admin(pub Identity);

/// The error of a guard. It is kept with the request until the catcher renders it.
struct GuardError(Mutex<Option<ApiError>>);

/// Takes the error that a guard kept for the catcher.
pub(super) fn take_guard_error(request: &Request<'_>) -> Option<ApiError> {
    request.local_cache(|| GuardError(Mutex::new(None))).0.lock().take()
}

/// Returns the outcome of a guard, and leaves its error for the catcher.
fn outcome<T>(request: &Request<'_>, result: Result<T, ApiError>) -> Outcome<T, ()> {
    match result {
        Ok(value) => Outcome::Success(value),
        Err(error) => {
            let status = error.status;
            *request.local_cache(|| GuardError(Mutex::new(None))).0.lock() = Some(error);
            Outcome::Error((status, ()))
        }
    }
}

/// Returns the token of an `Authorization: Bearer` header.
pub(super) fn bearer<'r>(request: &'r Request<'_>) -> Option<&'r str> {
    let (scheme, token) = request.headers().get_one("Authorization")?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

pub(super) fn unauthenticated(error: TokenError) -> ApiError {
    ApiError::new(Status::Unauthorized, ErrorCode::AuthenticationFailed, error.to_string())
        .details("send `Authorization: Bearer <token>`; `callscope-server token` makes one")
}

fn identify(request: &Request<'_>) -> Result<Identity, ApiError> {
    let app = request.rocket().state::<AppState>().ok_or_else(|| ApiError::of_status(Status::InternalServerError))?;
    let token = bearer(request).ok_or(TokenError::Missing).map_err(unauthenticated)?;
    app.tokens.verify(token, clock::now()).map_err(unauthenticated)
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Viewer {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        outcome(request, identify(request).map(Self))
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Admin {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let admin = identify(request).and_then(|identity| match identity.role {
            Role::Admin => Ok(Self(identity)),
            Role::Viewer => Err(ApiError::forbidden("this takes an admin's token")),
        });
        outcome(request, admin)
    }
}
