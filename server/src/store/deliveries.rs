//! Reads deliveries: newest first for lists, in the order of their commits for followers (`cursor`), and those that are
//! to be stripped (`strip`).

mod cursor;
mod strip;

pub use cursor::{DeliveryCursor, DeliveryHead};
pub use strip::{DeliveryRange, least_uncommitted_id};

use callscope_common::api::{DeliveryView, Verdict};
use callscope_common::{CallId, Cursor, OrUnknown, Seq, Timestamp};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::call_table::at;
use super::{Store, StoreError};

/// The most deliveries that one search for a text reads. The next page goes on from there.
const WINDOW: i64 = 1_000;

/// The furthest that a clock is set back, in seconds.
const SET_BACK: i64 = 86_400;

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only deliveries with this verdict.
    pub verdict: Option<Verdict>,
    /// Only deliveries of this kind.
    pub kind: Option<String>,
    /// Only deliveries of this call.
    pub call_id: Option<CallId>,
    /// Only deliveries whose body (its first 256 KiB), reason or sender's address contains this text.
    pub text: Option<String>,
    /// Only deliveries received at or after this time.
    pub since: Option<Timestamp>,
    /// Only deliveries received before this time.
    pub until: Option<Timestamp>,
    /// Only deliveries before this one.
    pub before: Option<Uuid>,
    /// The most deliveries to return.
    pub limit: i64,
}

/// A page of deliveries.
#[derive(Debug)]
pub struct DeliveryPage {
    /// The deliveries of this page, newest first.
    pub deliveries: Vec<DeliveryView>,
    /// The `before` of the next page, if there may be more.
    pub next: Option<Uuid>,
}

/// A delivery with everything that is stored of it.
#[derive(Debug, Clone)]
pub struct WholeDelivery {
    /// What lists show.
    pub view: DeliveryView,
    /// The delivery that it repeats.
    pub duplicate_of: Option<Uuid>,
    /// JSON: `[[name, value], …]`.
    pub headers: String,
    /// The bytes as received; `None` if they were dropped.
    pub body: Option<Vec<u8>>,
    /// The body of the answer.
    pub response: String,
    /// The messages of the events that it caused, in the order of the log.
    pub events: Vec<Box<RawValue>>,
}

#[derive(sqlx::FromRow)]
struct DeliveryRow {
    delivery_id: Uuid,
    route: String,
    kind: Option<String>,
    verdict: String,
    reason: Option<String>,
    received_at: i64,
    remote_addr: Option<String>,
    call_id: Option<CallId>,
    call_sid: Option<String>,
    conversation_id: Option<String>,
    response_status: i64,
    body_bytes: i64,
}

/// The columns of [`DeliveryRow`] for the deliveries `d`, and their tables.
macro_rules! facts {
    () => {
        "d.delivery_id, d.route, d.kind, d.verdict, d.reason, d.received_at, d.remote_addr, d.call_id, c.call_sid, \
         c.conversation_id, d.response_status, d.body_bytes FROM deliveries d LEFT JOIN calls c ON c.call_id = d.call_id WHERE "
    };
}
use facts;

/// The condition of a filter on the deliveries `d`. The range of ids, which begin with the time of the receipt, makes
/// it fast.
macro_rules! asked {
    () => {
        "d.delivery_id < $1 AND d.delivery_id >= $2 AND d.received_at >= $3 AND d.received_at < $4 \
         AND ($5 IS NULL OR d.verdict = $5) AND ($6 IS NULL OR d.kind = $6) ORDER BY d.delivery_id DESC LIMIT $7"
    };
}

/// The deliveries of the call `$8`: its turns are found through its events, the others through an index.
macro_rules! of_call {
    () => {
        "SELECT e.delivery_id FROM events e WHERE e.call_id = $8 UNION SELECT b.delivery_id FROM deliveries b \
         WHERE b.call_id = $8 AND (b.verdict <> 'accepted' OR COALESCE(b.kind, '') <> 'turn')"
    };
}

impl Store {
    /// Lists deliveries, newest first. A page may contain fewer than the limit although there are more.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn deliveries(&self, filter: &DeliveryFilter) -> Result<DeliveryPage, StoreError> {
        let limit = usize::try_from(filter.limit).unwrap_or(0);
        let Some(text) = &filter.text else {
            let mut deliveries = self.delivery_rows(filter, filter.limit + 1).await?;
            let has_more = deliveries.len() > limit;
            deliveries.truncate(limit);
            let next = deliveries.last().filter(|_| has_more).map(|delivery| delivery.delivery_id);
            return Ok(DeliveryPage { deliveries, next });
        };
        let mut deliveries = self.delivery_rows(filter, WINDOW).await?;
        let end = deliveries.last().map(|last| last.delivery_id);
        let mut next = end.filter(|_| i64::try_from(deliveries.len()).is_ok_and(|found| found >= WINDOW));
        if let (Some(first), Some(end)) = (deliveries.first().map(|first| first.delivery_id), end) {
            let holding = self.bodies_with(text, end, first).await?;
            let words = text.to_lowercase();
            let says = |part: &Option<String>| part.as_ref().is_some_and(|part| part.to_lowercase().contains(&words));
            deliveries.retain(|d| holding.contains(&d.delivery_id) || says(&d.reason) || says(&d.remote_addr));
        }
        if deliveries.len() > limit {
            deliveries.truncate(limit);
            next = deliveries.last().map(|last| last.delivery_id);
        }
        Ok(DeliveryPage { deliveries, next })
    }

    async fn delivery_rows(&self, filter: &DeliveryFilter, limit: i64) -> Result<Vec<DeliveryView>, StoreError> {
        // The time of an id is never before the receipt. It is after the receipt if the clock was set back since the
        // process began.
        let after_until = filter.until.map_or(Uuid::max(), |until| first_id_at(until.plus_secs(SET_BACK)));
        let before = filter.before.map_or(after_until, |before| before.min(after_until));
        let mut binds = vec![
            before.into(),
            filter.since.map_or(Uuid::nil(), first_id_at).into(),
            filter.since.map_or(i64::MIN, Timestamp::as_micros).into(),
            filter.until.map_or(i64::MAX, Timestamp::as_micros).into(),
            filter.verdict.map(Verdict::as_str).into(),
            filter.kind.as_deref().into(),
            limit.into(),
        ];
        let mut sql = concat!("SELECT ", facts!(), asked!());
        if let Some(call_id) = filter.call_id {
            binds.push(call_id.into());
            sql = self.by_engine(
                concat!("SELECT ", facts!(), "d.delivery_id IN (", of_call!(), ") AND ", asked!()),
                // As an array, so that the planner looks each id up and does not read the whole table.
                concat!("SELECT ", facts!(), "d.delivery_id = ANY (ARRAY(", of_call!(), ")) AND ", asked!()),
            );
        }
        let rows: Vec<DeliveryRow> = self.rows(sql, &binds).await?;
        rows.into_iter().map(DeliveryView::try_from).collect()
    }

    /// Those of the deliveries from `first` to `last` whose body contains the text byte for byte.
    async fn bodies_with(&self, text: &str, first: Uuid, last: Uuid) -> Result<Vec<Uuid>, StoreError> {
        macro_rules! holding {
            ($holds:literal) => {
                concat!(
                    "SELECT d.delivery_id FROM deliveries d LEFT JOIN deliveries f ON f.delivery_id = d.duplicate_of \
                     WHERE d.delivery_id BETWEEN $1 AND $2 AND ",
                    $holds
                )
            };
        }
        let sql = self.by_engine(
            holding!("instr(substr(COALESCE(d.body, f.body), 1, 262144), $3) > 0"),
            holding!("position($3 IN substr(COALESCE(d.body, f.body), 1, 262144)) > 0"),
        );
        self.values(sql, &[first.into(), last.into(), text.as_bytes().into()]).await
    }

    /// What a list shows of one delivery.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn delivery_view(&self, delivery_id: Uuid) -> Result<Option<DeliveryView>, StoreError> {
        const SQL: &str = concat!("SELECT ", facts!(), "d.delivery_id = $1");
        let row: Option<DeliveryRow> = self.rows(SQL, &[delivery_id.into()]).await?.pop();
        row.map(DeliveryView::try_from).transpose()
    }

    /// One delivery, whole.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn delivery(&self, delivery_id: Uuid) -> Result<Option<WholeDelivery>, StoreError> {
        let Some(view) = self.delivery_view(delivery_id).await? else { return Ok(None) };
        type Rest = (Option<Uuid>, String, Option<Vec<u8>>, String);
        // A repeat with equal bytes stores no body; that of the first delivery is the same.
        const REST: &str = "SELECT d.duplicate_of, d.headers, COALESCE(d.body, f.body), d.response FROM deliveries d \
             LEFT JOIN deliveries f ON f.delivery_id = d.duplicate_of WHERE d.delivery_id = $1";
        let rest: Option<Rest> = self.rows(REST, &[delivery_id.into()]).await?.pop();
        let Some((duplicate_of, headers, body, response)) = rest else { return Ok(None) };
        const EVENTS: &str = "SELECT seq, frame FROM events WHERE call_id = $1 AND delivery_id = $2 ORDER BY seq";
        let events: Vec<(Seq, String)> = match view.call_id {
            None => Vec::new(),
            Some(call_id) => self.rows(EVENTS, &[call_id.into(), delivery_id.into()]).await?,
        };
        let call_id = view.call_id.unwrap_or_default();
        let complete = |(seq, frame)| RawValue::from_string(Cursor::complete(frame, call_id, seq));
        let events = events.into_iter().map(complete).collect::<Result<_, _>>();
        let events = events.map_err(|_| StoreError::Damaged("event"))?;
        Ok(Some(WholeDelivery { view, duplicate_of, headers, body, response, events }))
    }

    /// How many deliveries there are of each verdict.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn count_by_verdict(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.rows("SELECT verdict, COUNT(*) FROM deliveries GROUP BY verdict ORDER BY verdict", &[]).await
    }
}

/// The least id that a delivery received at that time, or later, can have.
fn first_id_at(at: Timestamp) -> Uuid {
    first_id_of(u128::try_from(at.as_micros() / 1_000).unwrap_or(0))
}

/// The least UUIDv7 of a millisecond: the time is in the first 48 bits.
fn first_id_of(millis: u128) -> Uuid {
    Uuid::from_u128(millis << 80)
}

/// The Unix time in milliseconds that a UUIDv7 begins with.
fn millis_of(id: Uuid) -> u128 {
    id.as_u128() >> 80
}

impl TryFrom<DeliveryRow> for DeliveryView {
    type Error = StoreError;

    fn try_from(row: DeliveryRow) -> Result<Self, StoreError> {
        Ok(Self {
            delivery_id: row.delivery_id,
            route: OrUnknown::read(row.route),
            kind: row.kind,
            verdict: OrUnknown::read(row.verdict),
            reason: row.reason,
            received_at: at(row.received_at)?,
            remote_addr: row.remote_addr,
            call_id: row.call_id,
            call_sid: row.call_sid,
            conversation_id: row.conversation_id,
            response_status: row.response_status,
            body_bytes: row.body_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::new_id;

    #[test]
    fn ids_are_found_by_their_time() {
        let at = Timestamp::from_micros(1_790_855_035_123_456).expect("a time");
        let id = new_id(at);
        assert!(first_id_at(at) <= id && id < first_id_at(at.plus_secs(1)));
        assert!(first_id_at(Timestamp::from_micros(at.as_micros() + 1_000).expect("a time")) > id);
    }
}
