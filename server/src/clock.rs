//! The wall clock.

use std::time::SystemTime;

use callscope_common::Timestamp;

/// Returns the present time.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}
