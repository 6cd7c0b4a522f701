//! Reading deliveries.

use callscope_common::api::DeliveryView;
use callscope_common::{CallId, Timestamp};
use uuid::Uuid;

use super::{Store, StoreError, on_pool};

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only of this verdict.
    pub verdict: Option<String>,
    /// Only of this call.
    pub call_id: Option<CallId>,
    /// Only those received before this one.
    pub before: Option<Uuid>,
    /// Most deliveries to return.
    pub limit: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    delivery_id: Uuid,
    route: String,
    kind: Option<String>,
    verdict: String,
    reason: Option<String>,
    received_at: i64,
    remote_addr: Option<String>,
    call_id: Option<CallId>,
    response_status: i64,
    body_bytes: i64,
}

/// A delivery with all that came.
#[derive(Debug, Clone)]
pub struct WholeDelivery {
    /// As listed.
    pub view: DeliveryView,
    /// JSON: `[[name, value], …]`.
    pub headers: String,
    /// As received.
    pub body: Vec<u8>,
    /// What it was answered.
    pub response: String,
}

impl Store {
    /// Deliveries, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
        let rows: Vec<Row> = on_pool!(self, pool => {
            sqlx::query_as(
                "SELECT delivery_id, route, kind, verdict, reason, received_at, remote_addr, call_id, response_status, body_bytes \
                 FROM deliveries WHERE ($1 IS NULL OR verdict = $1) AND ($2 IS NULL OR call_id = $2) \
                 AND ($3 IS NULL OR delivery_id < $3) ORDER BY delivery_id DESC LIMIT $4",
            )
            .bind(filter.verdict.as_deref())
            .bind(filter.call_id)
            .bind(filter.before)
            .bind(filter.limit)
            .fetch_all(pool).await?
        });
        rows.into_iter().map(view).collect()
    }

    /// One delivery, whole.
    ///
    /// # Errors
    /// The database's.
    pub async fn delivery(&self, delivery_id: Uuid) -> Result<Option<WholeDelivery>, StoreError> {
        let row: Option<Row> = on_pool!(self, pool => {
            sqlx::query_as(
                "SELECT delivery_id, route, kind, verdict, reason, received_at, remote_addr, call_id, response_status, body_bytes \
                 FROM deliveries WHERE delivery_id = $1",
            )
            .bind(delivery_id).fetch_optional(pool).await?
        });
        let Some(row) = row else { return Ok(None) };
        // A repeat with equal bytes keeps none of its own: the first one's are the same.
        let (headers, body, response): (String, Option<Vec<u8>>, String) = on_pool!(self, pool => {
            sqlx::query_as(
                "SELECT d.headers, COALESCE(d.body, f.body), d.response FROM deliveries d \
                 LEFT JOIN deliveries f ON f.delivery_id = d.duplicate_of WHERE d.delivery_id = $1",
            )
            .bind(delivery_id).fetch_one(pool).await?
        });
        Ok(Some(WholeDelivery { view: view(row)?, headers, body: body.unwrap_or_default(), response }))
    }

    /// How many deliveries there are of each verdict.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_by_verdict(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(on_pool!(self, pool => {
            sqlx::query_as("SELECT verdict, COUNT(*) FROM deliveries GROUP BY verdict ORDER BY verdict").fetch_all(pool).await?
        }))
    }
}

fn view(row: Row) -> Result<DeliveryView, StoreError> {
    Ok(DeliveryView {
        delivery_id: row.delivery_id,
        route: row.route,
        kind: row.kind,
        verdict: row.verdict,
        reason: row.reason,
        received_at: Timestamp::from_micros(row.received_at).ok_or(StoreError::Damaged("time"))?,
        remote_addr: row.remote_addr,
        call_id: row.call_id,
        response_status: row.response_status,
        body_bytes: row.body_bytes,
    })
}
