//! The types that the Callscope server and its terminal client share.
//!
//! These are types and pure functions: nothing here reads a file, a socket or a clock.
//! - [`id`]: identifiers of calls; [`time`]: timestamps
//! - [`call`], [`event`]: the state and the events of a call; [`cursor`]: places in its log
//! - [`api`]: the HTTP bodies
//! - [`protocol`]: the WebSocket's messages and close codes; [`ErrorCode`]: the codes of both
//! - [`claims`]: the claims of a token
//! - [`transcript`]: the events of a call folded into turns; [`export`]: the turns as text, Markdown and subtitles
//! - [`signature`]: the webhook signature scheme, and why a signature does not fit
//! - [`json`], [`elevenlabs`]: reading provider JSON of any shape; [`json_style`]: writing it as other programs do
//! - [`text`]: making untrusted text safe to show

pub mod api;
pub mod call;
pub mod claims;
pub mod cursor;
pub mod elevenlabs;
mod error_code;
pub mod event;
pub mod export;
pub mod id;
pub mod json;
pub mod json_style;
mod monotonic;
pub mod protocol;
pub mod signature;
pub mod text;
mod text_enum;
pub mod time;
pub mod transcript;

pub use call::{CallData, CallStatus};
pub use cursor::Cursor;
pub use error_code::ErrorCode;
pub use event::Speaker;
pub use id::{CallId, Identifier};
pub use text_enum::{OrUnknown, UnknownText};
pub use time::Timestamp;

/// The place of an event in the log of its call: 1, 2, 3… without holes. 0 is the place before the first event.
///
/// It is signed because both databases store it in a `BIGINT`; it is never negative.
pub type Seq = i64;
