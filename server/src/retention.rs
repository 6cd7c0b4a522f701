//! Deletes ended calls that are older than the setting, whole.

use std::time::{Duration, SystemTime};

use callscope_common::{Identifier, Timestamp};
use rocket::tokio::time::sleep;
use tracing::{info, warn};

use crate::store::ledger::Op;
use crate::store::{Appender, Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(600);
/// Most calls deleted at once.
const PAGE: i64 = 100;

pub(crate) async fn run(store: Store, appender: Appender, days: u32) {
    loop {
        match once(&store, &appender, days).await {
            Ok(0) => {}
            Ok(deleted) => info!(deleted, days, "deleted calls past their retention"),
            Err(error) => warn!(%error, "cannot delete calls past their retention"),
        }
        sleep(INTERVAL).await;
    }
}

async fn once(store: &Store, appender: &Appender, days: u32) -> Result<u64, StoreError> {
    let end = Timestamp::from_system_time(SystemTime::now()).plus_secs(-i64::from(days) * 86_400);
    let mut deleted = 0;
    loop {
        let calls = store.ended_before(end, PAGE).await?;
        if calls.is_empty() {
            return Ok(deleted);
        }
        for call_id in calls {
            let id = Identifier::parse(&call_id.to_string()).map_err(|_| StoreError::Damaged("call"))?;
            appender.submit(Op::Delete(id)).await?;
            deleted += 1;
        }
    }
}
