//! Deliveries in the order of their commits (docs/adr/0008).
//!
//! Each row has the number of the transaction that wrote it. On SQLite one writer counts, so the numbers become visible
//! in ascending order. PostgreSQL numbers a transaction when it begins to write, and a later one may commit first. Only
//! rows below the oldest number that is still active are read, so no row can appear behind a cursor that has passed.

use std::fmt;
use std::str::FromStr;

use callscope_common::api::DeliveryView;
use uuid::Uuid;

use super::{DeliveryRow, facts};
use crate::store::{Store, StoreError};

/// A position in that order: behind a delivery, or before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveryCursor {
    /// The installation, so that a cursor of another installation is recognised.
    installation: u32,
    tx: i64,
    delivery_id: Uuid,
}

impl DeliveryCursor {
    /// Whether the cursor is behind no delivery. No row then tells whether it belongs to this order.
    fn is_between(self) -> bool {
        self.delivery_id.is_nil()
    }
}

/// The bounds of the order.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryHead {
    /// Before all deliveries.
    pub start: DeliveryCursor,
    /// Behind all deliveries that can be read. On PostgreSQL that leaves out deliveries that were committed while an
    /// older transaction is still active.
    pub now: DeliveryCursor,
    /// The number that no transaction has reached yet.
    end: i64,
}

impl DeliveryHead {
    /// Whether the order can have reached a cursor.
    #[must_use]
    pub fn has_reached(&self, cursor: DeliveryCursor) -> bool {
        cursor.installation == self.now.installation && cursor.tx <= self.end
    }
}

impl fmt::Display for DeliveryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{}.{}", self.installation, self.tx, self.delivery_id.simple())
    }
}

impl FromStr for DeliveryCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let (Some(installation), Some(tx), Some(id), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let installation = u32::from_str_radix(installation, 16).map_err(drop)?;
        let tx = tx.parse().ok().filter(|tx| *tx >= 0).ok_or(())?;
        Ok(Self { installation, tx, delivery_id: Uuid::parse_str(id).map_err(drop)? })
    }
}

#[derive(sqlx::FromRow)]
struct NumberedRow {
    tx: i64,
    #[sqlx(flatten)]
    row: DeliveryRow,
}

/// The condition for the rows behind a cursor, `$1` and `$2`.
macro_rules! behind {
    () => {
        "d.tx >= $1 AND (d.tx > $1 OR d.delivery_id > $2) "
    };
}

impl Store {
    /// The bounds of the order of deliveries.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn delivery_head(&self) -> Result<DeliveryHead, StoreError> {
        let sql = self.by_engine(
            "SELECT cluster_id, value + 1 FROM cluster, counters WHERE counters.name = 'tx'",
            "SELECT cluster_id, txid_snapshot_xmax(txid_current_snapshot()) FROM cluster",
        );
        let bounds: Option<(Uuid, i64)> = self.rows(sql, &[]).await?.pop();
        let (cluster, end) = bounds.ok_or(StoreError::Damaged("cluster"))?;
        let (installation, ..) = cluster.as_fields();
        // Behind a delivery, not between two: its row shows later whether the cursor still belongs to this order.
        let sql = self.by_engine(
            "SELECT tx, delivery_id FROM deliveries ORDER BY tx DESC, delivery_id DESC LIMIT 1",
            "SELECT tx, delivery_id FROM deliveries WHERE tx < txid_snapshot_xmin(txid_current_snapshot()) \
             ORDER BY tx DESC, delivery_id DESC LIMIT 1",
        );
        let last: Option<(i64, Uuid)> = self.rows(sql, &[]).await?.pop();
        let cursor = |(tx, delivery_id)| DeliveryCursor { installation, tx, delivery_id };
        let start = cursor((0, Uuid::nil()));
        Ok(DeliveryHead { start, now: last.map_or(start, cursor), end })
    }

    /// Whether a cursor is of this order: not beyond its end, and behind a delivery that is there or was deleted
    /// lately. In a database that was restored to an older state, or a replica that was promoted although it lagged,
    /// other deliveries have come since.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn contains_cursor(&self, head: &DeliveryHead, cursor: DeliveryCursor) -> Result<bool, StoreError> {
        if !head.has_reached(cursor) || cursor.is_between() {
            return Ok(head.has_reached(cursor));
        }
        const SQL: &str = "SELECT tx FROM deliveries WHERE delivery_id = $1 UNION ALL \
             SELECT tx FROM delivery_tombstones WHERE delivery_id = $1 LIMIT 1";
        let found: Option<i64> = self.values(SQL, &[cursor.delivery_id.into()]).await?.pop();
        Ok(found == Some(cursor.tx))
    }

    /// The deliveries behind a cursor, each with its own cursor.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn deliveries_after(
        &self,
        cursor: DeliveryCursor,
        limit: i64,
    ) -> Result<Vec<(DeliveryCursor, DeliveryView)>, StoreError> {
        let sql = self.by_engine(
            concat!("SELECT d.tx, ", facts!(), behind!(), "ORDER BY d.tx, d.delivery_id LIMIT $3"),
            concat!(
                "SELECT d.tx, ",
                facts!(),
                behind!(),
                "AND d.tx < txid_snapshot_xmin(txid_current_snapshot()) ORDER BY d.tx, d.delivery_id LIMIT $3"
            ),
        );
        let rows: Vec<NumberedRow> =
            self.rows(sql, &[cursor.tx.into(), cursor.delivery_id.into(), limit.into()]).await?;
        rows.into_iter()
            .map(|NumberedRow { tx, row }| {
                let cursor = DeliveryCursor { installation: cursor.installation, tx, delivery_id: row.delivery_id };
                Ok((cursor, row.try_into()?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_and_nothing_else_does() {
        let cursor = DeliveryCursor { installation: 0xab, tx: 7, delivery_id: Uuid::from_u128(9) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        let id = Uuid::nil().simple();
        for wrong in ["", "1", "0.0", &format!("x.0.{id}"), &format!("0.-1.{id}"), &format!("0.0.{id}.0"), "0.0.z"] {
            assert_eq!(wrong.parse::<DeliveryCursor>(), Err(()), "{wrong}");
        }
    }
}
