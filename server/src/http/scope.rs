//! The scope of a token: the calls that its holder may access.

use callscope_common::api::CallView;
use callscope_common::{ErrorCode, Identifier};
use rocket::http::Status;

use super::AppState;
use crate::auth::Identity;
use crate::http::error::ApiError;

pub(super) fn parse_identifier(text: &str) -> Result<Identifier, ApiError> {
    Identifier::parse(text)
        .map_err(|error| ApiError::new(Status::BadRequest, ErrorCode::InvalidIdentifier, error.to_string()))
}

/// Finds the call that `id` names, if the token allows it. If not, neither the answer nor its duration shows whether
/// the call exists.
pub(super) async fn find_call(app: &AppState, identity: &Identity, id: &str) -> Result<CallView, ApiError> {
    let id = parse_identifier(id)?;
    match &identity.calls {
        Some(allowed) if !identity.may_name(&id) => {
            let among = app.store.calls_named(allowed).await?;
            app.store.call_among(&id, &among).await?.ok_or_else(not_allowed)
        }
        _ => app.store.call(&id).await?.ok_or_else(ApiError::no_call),
    }
}

/// Checks that the token allows this identifier, or the call under another identifier.
pub(super) fn check_scope(identity: &Identity, id: &Identifier, call: Option<&CallView>) -> Result<(), ApiError> {
    let is_allowed_otherwise = |allowed: &Vec<Identifier>| {
        let is_allowed = |call: &CallView, name: &Identifier| {
            name.as_call_id() == Some(call.call_id) || call.identifiers.iter().any(|known| known == name.as_str())
        };
        call.is_some_and(|call| allowed.iter().any(|name| is_allowed(call, name)))
    };
    match &identity.calls {
        Some(allowed) if !identity.may_name(id) && !is_allowed_otherwise(allowed) => Err(not_allowed()),
        _ => Ok(()),
    }
}

fn not_allowed() -> ApiError {
    ApiError::forbidden("the token does not allow this call")
}
