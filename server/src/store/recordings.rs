//! Reads recordings chunk by chunk.

use callscope_common::{CallId, Timestamp};

use super::{Store, StoreError};

/// The recording of a call, without its bytes.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The call that it belongs to.
    pub call_id: CallId,
    /// The media type.
    pub content_type: String,
    /// When the recording was stored.
    pub created_at: Timestamp,
    /// The length in bytes.
    pub length: u64,
    /// The length in bytes of every chunk but the last.
    chunk_length: u64,
    /// Whether the recording is stored in one row, as versions before migration 5 did.
    is_whole: bool,
}

/// The bytes that are read at once of a recording in one row.
const WHOLE_CHUNK: i64 = 1 << 20;

impl Recording {
    /// The number of the chunk that contains a byte, and the offset of the byte in that chunk.
    #[must_use]
    pub fn chunk_of(&self, byte: u64) -> (u64, usize) {
        (byte / self.chunk_length, usize::try_from(byte % self.chunk_length).unwrap_or(0))
    }
}

impl Store {
    /// The recording of a call, if it has one.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn recording(&self, call_id: CallId) -> Result<Option<Recording>, StoreError> {
        type Row = (String, i64, i64, i64, bool);
        const SQL: &str = "SELECT content_type, created_at, length, chunk_length, FALSE FROM recordings \
             WHERE call_id = $1 UNION ALL \
             SELECT content_type, created_at, CAST(length(bytes) AS BIGINT), $2, TRUE FROM audio WHERE call_id = $1 LIMIT 1";
        let row: Option<Row> = self.rows(SQL, &[call_id.into(), WHOLE_CHUNK.into()]).await?.pop();
        let Some((content_type, created_at, length, chunk_length, is_whole)) = row else { return Ok(None) };
        let damaged = || StoreError::Damaged("recording");
        let created_at = Timestamp::from_micros(created_at).ok_or_else(damaged)?;
        let length = u64::try_from(length).map_err(|_| damaged())?;
        let chunk_length = u64::try_from(chunk_length).ok().filter(|length| *length > 0).ok_or_else(damaged)?;
        Ok(Some(Recording { call_id, content_type, created_at, length, chunk_length, is_whole }))
    }

    /// A chunk of a recording; `None` if the recording was replaced, or its call deleted.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or a stored row is damaged.
    pub async fn recording_chunk(&self, recording: &Recording, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let number = i64::try_from(number).map_err(|_| StoreError::Damaged("recording"))?;
        let id = recording.call_id.into();
        Ok(if recording.is_whole {
            let sql = "SELECT substr(bytes, CAST($2 AS INTEGER), CAST($3 AS INTEGER)) FROM audio WHERE call_id = $1";
            self.values(sql, &[id, (number * WHOLE_CHUNK + 1).into(), WHOLE_CHUNK.into()]).await?.pop()
        } else {
            let sql = "SELECT c.bytes FROM recording_chunks c JOIN recordings r ON r.call_id = c.call_id \
                 WHERE c.call_id = $1 AND c.number = $2 AND r.created_at = $3";
            self.values(sql, &[id, number.into(), recording.created_at.as_micros().into()]).await?.pop()
        })
    }
}
