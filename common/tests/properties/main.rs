//! What holds for any input, tried with random ones.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod json_styles;
mod names_and_times;
mod safe_text;
mod signatures;
mod surrogates;
mod transcripts;
