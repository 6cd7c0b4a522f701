//! Parses query parameters, with errors that name the parameter.

use callscope_common::{Timestamp, text};
use rocket::Request;
use rocket::request::{FromRequest, Outcome};
use uuid::Uuid;

use crate::http::error::ApiError;

/// Maximum number of characters of a parameter's name in an error.
const MAX_SHOWN_NAME: usize = 64;

/// The query of a request: names and values, decoded.
pub struct Query<'r>(Vec<(&'r str, &'r str)>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Query<'r> {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let parameters = request.uri().query().into_iter().flat_map(|query| query.segments());
        Outcome::Success(Self(parameters.filter(|(name, _)| !name.is_empty()).collect()))
    }
}

impl<'r> Query<'r> {
    /// Refuses parameters that the route does not have, and parameters that are given twice. If they were ignored, a
    /// misspelt or repeated filter would list everything.
    ///
    /// # Errors
    /// Returns an error that names the first unknown or repeated parameter.
    pub fn check_parameters(&self, known: &[&str]) -> Result<(), ApiError> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(name) {
                let shown: String = text::one_line(name).chars().take(MAX_SHOWN_NAME).collect();
                let parameters = match known {
                    [] => "it takes none".to_owned(),
                    known => format!("it takes {}", known.join(", ")),
                };
                return Err(ApiError::bad_request(format!("this route has no parameter `{shown}`")).details(parameters));
            }
            if self.0[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::bad_request(format!("the parameter `{name}` is given more than once")));
            }
        }
        Ok(())
    }

    /// Returns the value of a parameter.
    pub fn get(&self, name: &str) -> Option<&'r str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| *value)
    }
}

/// Parses the cursor of a page: the id of the last row of the page before.
///
/// # Errors
/// Returns an error if the text is not an id.
pub fn cursor(text: Option<&str>) -> Result<Option<Uuid>, ApiError> {
    let id = text.map(Uuid::parse_str).transpose();
    id.map_err(|_| ApiError::bad_request("`cursor` is not the `next_cursor` of a page"))
}

/// Parses a number from `min` to `max`.
///
/// # Errors
/// Returns an error if the text is not such a number.
pub fn number(key: &str, text: Option<&str>, min: i64, max: i64) -> Result<Option<i64>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let number: Option<i64> = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.map(Some).ok_or_else(|| ApiError::bad_request(format!("`{key}` takes a number from {min} to {max}")))
}

/// Checks that a text can be stored: PostgreSQL has no NUL in texts.
///
/// # Errors
/// Returns an error if the text contains a NUL.
pub fn text_without_nul(key: &str, text: Option<&str>) -> Result<Option<String>, ApiError> {
    match text {
        Some(text) if text.contains('\0') => Err(ApiError::bad_request(format!("`{key}` contains a NUL"))),
        text => Ok(text.map(str::to_owned)),
    }
}

/// Parses a flag. A parameter without a value is set.
///
/// # Errors
/// Returns an error if the text is neither true nor false.
pub fn flag(key: &str, text: Option<&str>) -> Result<bool, ApiError> {
    match text {
        Some("" | "true" | "yes" | "on" | "1") => Ok(true),
        None | Some("false" | "no" | "off" | "0") => Ok(false),
        Some(_) => Err(ApiError::bad_request(format!("`{key}` takes true or false"))),
    }
}

/// Parses a time in RFC 3339 or in Unix seconds.
///
/// # Errors
/// Returns an error if the text is neither.
pub fn timestamp(key: &str, text: &str) -> Result<Timestamp, ApiError> {
    let secs = || text.parse().ok().and_then(Timestamp::from_unix_secs);
    Timestamp::parse_rfc3339(text).or_else(secs).ok_or_else(|| {
        ApiError::bad_request(format!("`{key}` is not a time"))
            .details("RFC 3339 such as 2026-10-01T14:00:31Z, or Unix seconds")
    })
}
