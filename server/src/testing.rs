//! Internals that the tests and fuzz targets of this repository call, behind the feature `testing`.

pub use crate::live::session::{echo, frames};

/// Parsers of query parameters.
pub mod query {
    pub use crate::http::query::{cursor, number, text_without_nul, timestamp};
}
