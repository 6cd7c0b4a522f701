//! The calls that can be followed.

use callscope_common::CallStatus;
use callscope_common::api::{CallList, CallView};

use crate::api::Client;
use crate::exit::Result;

/// Most calls asked for at once.
const PAGE: usize = 100;

/// The calls that are not over, newest first.
pub async fn live(client: &Client) -> Result<Vec<CallView>> {
    let mut live = Vec::new();
    for status in [CallStatus::InProgress, CallStatus::Initiated] {
        live.extend(list(client, Some(status)).await?);
    }
    live.sort_by_key(|call| std::cmp::Reverse(call.created_at));
    Ok(live)
}

/// The calls that are not over, and the newest of the others.
pub async fn recent(client: &Client) -> Result<Vec<CallView>> {
    let mut calls = live(client).await?;
    let newest = list(client, None).await?;
    calls.extend(newest.into_iter().filter(|call| call.status.is_ended()));
    Ok(calls)
}

async fn list(client: &Client, status: Option<CallStatus>) -> Result<Vec<CallView>> {
    let mut query = vec![("limit", PAGE.to_string())];
    query.extend(status.map(|status| ("status", status.to_string())));
    let list: CallList = client.get(&["api", "v1", "calls"], &query).await?;
    Ok(list.calls)
}
