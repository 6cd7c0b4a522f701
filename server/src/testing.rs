//! What the tests and the fuzz targets of this repository reach into, behind the feature `testing`.

pub use crate::live::session::{echo, frames};

/// Query parameters, as the routes read them.
pub mod query {
    pub use crate::http::query::{cursor, instant, number, text_without_nul};
}
