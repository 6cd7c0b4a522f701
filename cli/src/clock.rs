//! The present time. Everything else takes the time as a value.

use std::time::SystemTime;

use callscope_common::Timestamp;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// Now, in whole Unix seconds.
pub(crate) fn unix_secs() -> i64 {
    now().as_unix_secs()
}
