//! Ids and sids that the server generates for new calls.

use std::sync::Mutex;

use callscope_common::{Identifier, Timestamp};
use uuid::{ContextV7, Timestamp as UuidTime, Uuid};

/// The prefix of a generated sid: `EL_{subject}_{unix secs}`. If that is taken as a sid, `_2`, `_3`… is appended.
pub(crate) fn sid_prefix(subject: Option<&str>, at: Timestamp) -> String {
    format!("{}{}_{}", Identifier::GENERATED_PREFIX, subject.unwrap_or("call"), at.as_unix_secs())
}

/// Counts the ids of one millisecond, so that they sort in the order in which they were generated.
static CONTEXT: Mutex<ContextV7> = Mutex::new(ContextV7::new());

/// Generates an id that sorts by time: a UUIDv7.
pub(crate) fn new_id(at: Timestamp) -> Uuid {
    let micros = u64::try_from(at.as_micros()).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
    Uuid::new_v7(UuidTime::from_unix(&CONTEXT, micros / 1_000_000, nanos))
}
