//! Reads the events of a log.

use callscope_common::event::EventKind;
use callscope_common::{CallId, Cursor, Seq, Timestamp};
use futures_util::{Stream, TryStreamExt};

use super::sqlite::Sqlite;
use super::{Engine, Store, StoreError};

/// An event as it is sent to followers.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The seq of the event.
    pub seq: Seq,
    /// The kind of the event.
    pub kind: EventKind,
    /// The WebSocket message.
    pub frame: String,
}

/// The limits of one read.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The most events.
    pub rows: i64,
    /// The size of the messages after which no further event is read.
    pub bytes: usize,
}

impl Page {
    /// No limits, for tests.
    pub const ALL: Self = Self { rows: i64::MAX, bytes: usize::MAX };
}

/// The most events that PostgreSQL is asked for at once. It sends a whole result even if the reader stops early.
const POSTGRES_ROWS: i64 = 64;

const ROWS: &str = "SELECT seq, kind, frame FROM events WHERE call_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";

type Row = (Seq, String, String);

impl Store {
    /// The events after `after`, in order. A page that is not empty holds at least one event, whatever its size.
    ///
    /// On SQLite this reads on the calling thread, so it is meant for short pages.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn events(&self, call_id: CallId, after: Seq, page: Page) -> Result<Vec<StoredEvent>, StoreError> {
        let Engine::Sqlite(Sqlite { inline, .. }) = &self.0 else {
            return self.events_in_pool(call_id, after, page).await;
        };
        let rows = inline
            .read(|connection| {
                let mut statement = connection.prepare_cached(ROWS)?;
                let mut rows = statement.query((call_id, after, page.rows))?;
                let mut page = PageBuilder::new(page);
                while let Some(row) = rows.next()? {
                    if !page.push(row.try_into()?) {
                        break;
                    }
                }
                Ok(page.rows)
            })
            .await?;
        events(call_id, rows)
    }

    /// The seq of the newest event that was appended before `at`; 0 if there is none.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn head_at(&self, call_id: CallId, at: Timestamp) -> Result<Seq, StoreError> {
        const SQL: &str = "SELECT seq FROM events WHERE call_id = $1 AND created_at < $2 ORDER BY seq DESC LIMIT 1";
        Ok(self.values(SQL, &[call_id.into(), at.as_micros().into()]).await?.pop().unwrap_or(0))
    }

    /// The same through the pool of reading connections, for long pages.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn events_in_pool(
        &self,
        call_id: CallId,
        after: Seq,
        page: Page,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = if self.is_shared() { page.rows.min(POSTGRES_ROWS) } else { page.rows };
        let mut page = PageBuilder::new(page);
        match &self.0 {
            Engine::Sqlite(sqlite) => {
                let query = sqlx::query_as(ROWS).bind(call_id).bind(after).bind(rows);
                page.fill(query.fetch(&sqlite.readers)).await?;
            }
            Engine::Postgres(postgres) => {
                let query = sqlx::query_as(ROWS).bind(call_id).bind(after).bind(rows);
                page.fill(query.fetch(&postgres.readers)).await?;
            }
        }
        events(call_id, page.rows)
    }
}

/// Collects the rows of a page.
struct PageBuilder {
    rows: Vec<Row>,
    left: usize,
}

impl PageBuilder {
    fn new(page: Page) -> Self {
        Self { rows: Vec::new(), left: page.bytes }
    }

    /// Adds rows until the page is full or there are no more.
    async fn fill(&mut self, mut rows: impl Stream<Item = sqlx::Result<Row>> + Unpin) -> sqlx::Result<()> {
        while let Some(row) = rows.try_next().await? {
            if !self.push(row) {
                break;
            }
        }
        Ok(())
    }

    /// Adds a row; returns whether the page has room for another one.
    fn push(&mut self, row: Row) -> bool {
        self.left = self.left.saturating_sub(row.2.len());
        self.rows.push(row);
        self.left > 0
    }
}

fn events(call_id: CallId, rows: Vec<Row>) -> Result<Vec<StoredEvent>, StoreError> {
    rows.into_iter()
        .map(|(seq, kind, frame)| {
            let kind = kind.parse().map_err(|_| StoreError::Damaged("event"))?;
            Ok(StoredEvent { seq, kind, frame: Cursor::complete(frame, call_id, seq) })
        })
        .collect()
}
