//! Finds the deliveries of which more is stored than the retention allows (docs/adr/0008).

use std::time::Duration;

use callscope_common::Timestamp;
use uuid::Uuid;

use super::{first_id_at, first_id_of, millis_of};
use crate::store::{Store, StoreError};

/// The rows that are read at once to add up their sizes.
const PAGE: i64 = 2_000;
/// The most rows that one transaction strips, and the most bytes of bodies that it drops: webhooks wait for it.
const STEP: i64 = 200;
const STEP_BYTES: i64 = 8 << 20;

/// A range of deliveries by their ids, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryRange {
    /// The oldest delivery.
    pub first: Uuid,
    /// The newest delivery.
    pub last: Uuid,
}

/// No delivery is committed longer than this after its receipt.
const MAX_COMMIT_DELAY: Duration = Duration::from_secs(300);

/// Returns the least id that a delivery can have which was not yet committed when `id` was the newest of all.
#[must_use]
pub fn least_uncommitted_id(id: Uuid) -> Uuid {
    let millis = millis_of(id).saturating_sub(MAX_COMMIT_DELAY.as_millis());
    first_id_of(millis)
}

impl Store {
    /// The newest delivery of which too much is stored: it was received before `end`, or its headers and body and those
    /// of newer deliveries are more than `bytes`. All deliveries up to `stripped` are known to be stripped.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn last_to_strip(
        &self,
        end: Option<Timestamp>,
        bytes: Option<i64>,
        stripped: Uuid,
    ) -> Result<Option<Uuid>, StoreError> {
        let old = match end {
            Some(end) => self.ids_before(first_id_at(end), 1).await?.first().map(|(id, _)| *id),
            None => None,
        };
        let Some(cap) = bytes else { return Ok(old) };
        let (mut before, mut sum) = (Uuid::max(), 0_i64);
        loop {
            let page = self.ids_before(before, PAGE).await?;
            for (id, size) in &page {
                sum = sum.saturating_add(*size);
                if sum > cap {
                    return Ok(Some(old.map_or(*id, |old| old.max(*id))));
                }
            }
            match page.last() {
                Some((id, _)) if *id > stripped && old.is_none_or(|old| old < *id) => before = *id,
                _ => return Ok(old),
            }
        }
    }

    /// The deliveries before an id, newest first, with the bytes that are stored of each.
    async fn ids_before(&self, before: Uuid, limit: i64) -> Result<Vec<(Uuid, i64)>, StoreError> {
        const SQL: &str = "SELECT delivery_id, CAST(CASE WHEN headers = '[]' THEN 0 ELSE length(headers) END \
             + CASE WHEN body IS NULL THEN 0 ELSE body_bytes END AS BIGINT) \
             FROM deliveries WHERE delivery_id < $1 ORDER BY delivery_id DESC LIMIT $2";
        self.rows(SQL, &[before.into(), limit.into()]).await
    }

    /// The next range between `from` and `last` of which more is stored than must be; none if all are stripped.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn next_to_strip(&self, from: Uuid, last: Uuid) -> Result<Option<DeliveryRange>, StoreError> {
        const SQL: &str = "SELECT delivery_id, body_bytes FROM deliveries WHERE delivery_id BETWEEN $1 AND $2 \
             AND (headers <> '[]' OR body IS NOT NULL OR verdict IN ('duplicate', 'rejected')) \
             ORDER BY delivery_id LIMIT $3";
        let rows: Vec<(Uuid, i64)> = self.rows(SQL, &[from.into(), last.into(), STEP.into()]).await?;
        let Some((first, bytes)) = rows.first().copied() else { return Ok(None) };
        let (mut last, mut sum) = (first, bytes);
        for (id, bytes) in &rows[1..] {
            sum += bytes;
            if sum > STEP_BYTES {
                break;
            }
            last = *id;
        }
        Ok(Some(DeliveryRange { first, last }))
    }
}
